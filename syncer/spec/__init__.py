"""The spec: what a person writes in YAML, as frozen values.

:func:`load_spec` and :func:`parse_spec` are the ways in; everything else here is what comes out.
Importing this room costs little: YAML and pydantic are imported when a spec is read.
"""

from syncer.spec.loader import load_spec, parse_spec
from syncer.spec.routing import RepositoryPattern, RepositoryTemplate
from syncer.spec.selection import TagPattern, TagSelection
from syncer.spec.values import (
    Creation,
    Defaults,
    LayoutSpec,
    Limits,
    PasswordCredentials,
    Place,
    Proxy,
    RegistrySpec,
    Secret,
    Spec,
    SyncEntry,
    Timeouts,
    TlsFiles,
    TokenCredentials,
    Upload,
)

__all__ = [
    "Creation",
    "Defaults",
    "LayoutSpec",
    "Limits",
    "PasswordCredentials",
    "Place",
    "Proxy",
    "RegistrySpec",
    "RepositoryPattern",
    "RepositoryTemplate",
    "Secret",
    "Spec",
    "SyncEntry",
    "TagPattern",
    "TagSelection",
    "Timeouts",
    "TlsFiles",
    "TokenCredentials",
    "Upload",
    "load_spec",
    "parse_spec",
]
