"""Credentials: from the spec, from the files other tools write, and from credential helpers.

Names are loaded when they are first used: who runs a spec does not pay for logging in.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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
    "Anonymous": "values",
    "Basic": "values",
    "Credential": "values",
    "CredentialStore": "values",
    "Helpers": "helper_program",
    "IdentityToken": "values",
    "Keychain": "keychain",
    "RegistryToken": "values",
}


def __getattr__(name: str) -> Any:
    if home := _HOMES.get(name):
        return getattr(importlib.import_module(f"syncer.registry.credentials.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
