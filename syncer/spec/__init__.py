"""The spec: what a person writes in YAML, as frozen values.

:func:`load_spec` and :func:`parse_spec` are the ways in; everything else here is what comes out.
Importing this room costs little: YAML and pydantic are imported when a spec is read.
"""

from syncer.spec.loader import load_spec, parse_spec
from syncer.spec.routing import RepositoryPattern, RepositoryTemplate
from syncer.spec.selection import TagPattern, TagSelection
from syncer.spec.values import (
    Defaults,
    LayoutSpec,
    Limits,
    PasswordCredentials,
    Place,
    RegistrySpec,
    Secret,
    Spec,
    SyncEntry,
    TlsFiles,
    TokenCredentials,
)

__all__ = [
    "Defaults",
    "LayoutSpec",
    "Limits",
    "PasswordCredentials",
    "Place",
    "RegistrySpec",
    "RepositoryPattern",
    "RepositoryTemplate",
    "Secret",
    "Spec",
    "SyncEntry",
    "TagPattern",
    "TagSelection",
    "TlsFiles",
    "TokenCredentials",
    "load_spec",
    "parse_spec",
]
