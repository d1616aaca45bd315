"""The credential store of a run: the spec first, then what other tools left on this machine."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from syncer.errors import CredentialsError
from syncer.oci.reference import check_host
from syncer.registry.credentials.authfile import parse_auth_file
from syncer.registry.credentials.disk import Reading, read_again
from syncer.registry.credentials.places import named_place, usual_places
from syncer.registry.credentials.values import Anonymous, Credential

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from syncer.registry.credentials.authfile import AuthFile
    from syncer.registry.credentials.helper_program import Helpers
    from syncer.registry.credentials.places import Place

#: docker's variable that holds a whole configuration file.
OVERLAY = "DOCKER_AUTH_CONFIG"
#: Seconds for which files are taken to be as they were when they were looked at.
_UNCHANGED = 1.0


class Keychain:
    """Finds the credential of a repository; the first place that knows one is believed.

    1. ``explicit``, by registry host: what the spec says;
    2. the file named by ``authfile``, else by ``$REGISTRY_AUTH_FILE``;
    3. ``$DOCKER_AUTH_CONFIG``, which is given to this process and so comes before files lying about;
    4. the usual files, in the order of containers-auth.json(5).

    Within a file: the helper of ``credHelpers`` or ``credsStore``, then ``auths``, where the longest of
    ``host/namespace/repository`` … ``host`` wins. Files are read in a thread, and again when they
    change, which is looked for once a second.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str],
        home: Path,
        explicit: Mapping[str, Credential] | None = None,
        authfile: Path | None = None,
        helpers: Helpers | None = None,
        uid: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what decides where to look; ``environ`` is read now and not again, ``clock`` counts seconds.

        Raises:
            CredentialsError: when ``$DOCKER_AUTH_CONFIG`` is not valid.
            InvalidReference: when a key of ``explicit`` is not a host.
        """
        self._explicit = {check_host(host): credential for host, credential in (explicit or {}).items()}
        self._environ = dict(environ)
        self._helpers = helpers
        overlay = environ.get(OVERLAY, "").encode()
        self._overlay = parse_auth_file(overlay, f"${OVERLAY}") if overlay else None
        self._named = named_place(environ, authfile)
        self._usual = usual_places(environ, home, os.getuid() if uid is None else uid)
        self._clock = clock
        self._readings: dict[Place, Reading] = {}
        self._look_at = float("-inf")
        self._turn = anyio.Lock()
        #: What the files as read last have for a repository; what helpers say has a lifetime of its own.
        self._found: dict[tuple[str, str], Credential] = {}

    async def get(self, registry: str, repository: str) -> Credential:
        """Return the credential for ``repository`` of ``registry``; Anonymous when there is none.

        Raises:
            CredentialsError: when a file or helper that should know cannot be used.
        """
        return await self._find(registry, repository, None)

    async def renew(self, registry: str, repository: str, refused: Credential) -> Credential:
        """Return what takes the place of a credential that was ``refused``; the same one when nothing does.

        Files are read again where they have changed, and a helper is asked again, once for all who need it.

        Raises:
            CredentialsError: as :meth:`get`.
        """
        return await self._find(registry, repository, refused)

    async def _find(self, registry: str, repository: str, refused: Credential | None) -> Credential:
        if refused is not None or self._clock() >= self._look_at:
            self._found.clear()
        elif known := self._found.get((registry, repository)):
            return known
        host = check_host(registry)
        if host in self._explicit:
            return self._explicit[host]
        if refused is not None or self._clock() >= self._look_at:
            async with self._turn:
                # Of those who come at once, the first looks for all of them.
                if refused is not None or self._clock() >= self._look_at:
                    self._readings = await to_thread.run_sync(self._read, self._readings)
                    self._look_at = self._clock() + _UNCHANGED
                    self._found.clear()
        credential, is_filed = await self._look_up(host, repository, refused)
        if is_filed:
            self._found[registry, repository] = credential
        return credential

    async def _look_up(self, host: str, repository: str, refused: Credential | None) -> tuple[Credential, bool]:
        """Return the credential, and whether the files alone decided on it."""
        is_filed = True
        for content in self._sources():
            if helper := content.helper(host):
                is_filed = False
                credential = await self._programs().get(helper, host, refused=refused)
                if not isinstance(credential, Anonymous):
                    return credential, False
            credential = content.credential(host, repository)
            if not isinstance(credential, Anonymous):
                return credential, is_filed
        return Anonymous(), is_filed

    def _programs(self) -> Helpers:
        if self._helpers is None:
            from syncer.registry.credentials.helper_program import Helpers  # noqa: PLC0415 - most files name none

            self._helpers = Helpers(self._environ)
        return self._helpers

    def _read(self, known: Mapping[Place, Reading]) -> dict[Place, Reading]:
        places = (*((self._named,) if self._named else ()), *self._usual)
        readings = {place: read_again(place, known.get(place)) for place in places}
        return {place: reading for place, reading in readings.items() if reading is not None}

    def _sources(self) -> Iterator[AuthFile]:
        # Another task may replace the readings while this one waits for a helper.
        readings = self._readings
        if self._named:
            yield from _content(readings.get(self._named))
        if self._overlay:
            yield self._overlay
        for place in self._usual:
            yield from _content(readings.get(place))


def _content(reading: Reading | None) -> Iterator[AuthFile]:
    if reading is None:
        return
    if reading.failure:
        message, hint = reading.failure
        raise CredentialsError(message, hint=hint)
    yield reading.content
