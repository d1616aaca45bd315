"""Credentials: from the spec, from the files other tools write, and from credential helpers."""

from syncer.registry.credentials.helper_program import Helpers
from syncer.registry.credentials.keychain import Keychain
from syncer.registry.credentials.login import Kept, login, logout
from syncer.registry.credentials.values import (
    Anonymous,
    Basic,
    Credential,
    CredentialStore,
    IdentityToken,
    RegistryToken,
)

__all__ = [
    "Anonymous",
    "Basic",
    "Credential",
    "CredentialStore",
    "Helpers",
    "IdentityToken",
    "Kept",
    "Keychain",
    "RegistryToken",
    "login",
    "logout",
]
