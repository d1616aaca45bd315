"""Credential values."""

from __future__ import annotations

import pytest

from syncer.registry.credentials import Basic, Credential, IdentityToken, RegistryToken

CANARY = "canary-7f3a"


@pytest.mark.parametrize(
    "credential",
    [
        Basic(username="user", password=CANARY),
        IdentityToken(token=CANARY, username="user"),
        RegistryToken(token=CANARY),
    ],
)
def test_secrets_are_not_shown(credential: Credential) -> None:
    """A credential in a log or a traceback does not give its secret away."""
    assert CANARY not in f"{credential!r} {credential!s} {[credential]} {credential}"
