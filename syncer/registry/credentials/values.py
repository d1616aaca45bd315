"""What a registry can be shown to be let in, and who knows it.

Every secret is kept out of ``repr`` and ``str``: a credential may end up in a traceback or in the
fields of a log record, its secret may not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class Anonymous:
    """Nothing is known; requests go out without credentials."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Basic:
    """A user name and a password, or what a registry calls an access token in its place."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class IdentityToken:
    """A refresh token, to be exchanged at the token endpoint with ``grant_type=refresh_token``."""

    token: str = field(repr=False)
    username: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryToken:
    """A bearer token, to be sent to the registry as it is."""

    token: str = field(repr=False)


Credential = Anonymous | Basic | IdentityToken | RegistryToken


class CredentialStore(Protocol):
    """Whoever can tell the credential of a repository."""

    async def get(self, registry: str, repository: str) -> Credential:
        """Return the credential for ``repository`` of ``registry``; Anonymous when there is none.

        Args:
            registry: the host, with ``:port`` where it has one; the Docker Hub is ``docker.io``.
            repository: the name within the registry; empty for the registry as a whole.

        Raises:
            CredentialsError: when a credential file or helper that should know cannot be used.
        """
        ...

    async def renew(self, registry: str, repository: str, refused: Credential) -> Credential:
        """Return what takes the place of a credential that was ``refused``; the same one when nothing does.

        What a helper gave out expires, and somebody may have logged in meanwhile: both are looked at again.

        Raises:
            CredentialsError: as :meth:`get`.
        """
        ...
