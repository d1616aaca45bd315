"""Credentials: from the spec, from the files other tools write, and from credential helpers.

Names are loaded when they are first used: who runs a spec does not pay for logging in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncer.lazy import lazy_names

if TYPE_CHECKING:
    from syncer.registry.credentials.helper_program import Helpers
    from syncer.registry.credentials.keychain import Keychain
    from syncer.registry.credentials.values import (
        Anonymous,
        Basic,
        Credential,
        CredentialStore,
        IdentityToken,
        RegistryToken,
    )

__all__ = (
    "Anonymous",
    "Basic",
    "Credential",
    "CredentialStore",
    "Helpers",
    "IdentityToken",
    "Keychain",
    "RegistryToken",
)

_HOMES = {
    "Anonymous": "syncer.registry.credentials.values",
    "Basic": "syncer.registry.credentials.values",
    "Credential": "syncer.registry.credentials.values",
    "CredentialStore": "syncer.registry.credentials.values",
    "Helpers": "syncer.registry.credentials.helper_program",
    "IdentityToken": "syncer.registry.credentials.values",
    "Keychain": "syncer.registry.credentials.keychain",
    "RegistryToken": "syncer.registry.credentials.values",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
