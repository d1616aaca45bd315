"""Credential helpers: programs named ``docker-credential-NAME`` that keep secrets for others.

The protocol is docker's: the verb is the argument, the request goes to stdin, the answer comes
from stdout, and so does the reason when the exit status is not 0. What a helper prints may be a
secret at any time, so none of it is ever repeated.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

import anyio

from syncer.errors import CredentialsError
from syncer.oci.reference import DOCKER_HUB
from syncer.registry.credentials.authfile import HUB_KEY, TOKEN_USER
from syncer.registry.credentials.values import Anonymous, Basic, Credential, IdentityToken
from syncer.registry.programs import MAX_OUTPUT, Ending, run_program

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Seconds a helper has for one answer.
TIMEOUT = 30.0
#: Seconds an answer is used again. Cloud helpers renew tokens that have five minutes left.
LIFETIME = 300.0
#: Seconds "no such credentials" is believed: somebody may log in while a daemon runs.
ABSENCE_LIFETIME = 60.0
#: Seconds a failure is repeated without asking again.
FAILURE_LIFETIME = 5.0
#: Seconds between two questions for the same credential because it was refused.
RENEWAL_PAUSE = 60.0

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_NOT_FOUND = b"credentials not found in native keychain"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answer:
    """What a helper said, and until when it holds."""

    until: float
    credential: Credential
    failure: tuple[str, str] | None = None


class Helpers:
    """Asks credential helpers, each at most once at a time for one registry."""

    def __init__(
        self, environ: Mapping[str, str], *, timeout: float = TIMEOUT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Run helpers found on the PATH of ``environ``, each for at most ``timeout`` seconds."""
        self._environ = dict(environ)
        self._timeout = timeout
        self._clock = clock
        self._answers: dict[tuple[str, str], _Answer] = {}
        self._locks: dict[tuple[str, str], anyio.Lock] = {}
        self._renewed: dict[tuple[str, str], float] = {}

    async def get(self, name: str, host: str, *, refused: Credential | None = None) -> Credential:
        """Return what the helper ``name`` keeps for the registry ``host``; Anonymous when nothing.

        An answer that was ``refused`` is asked for anew, but not twice within a minute: what is still
        refused then is wrong, and not too old.

        Raises:
            CredentialsError: when there is no such helper, or it fails, hangs or talks nonsense.
        """
        key = (name, host)
        async with self._locks.setdefault(key, anyio.Lock()):
            answer = self._answers.get(key)
            now = self._clock()
            is_refused = answer is not None and answer.credential == refused and self._renewed.get(key, now) <= now
            if answer is None or now >= answer.until or is_refused:
                if is_refused:
                    self._renewed[key] = now + RENEWAL_PAUSE
                answer = self._answers[key] = await self._ask(name, host)
        if answer.failure:
            message, hint = answer.failure
            raise CredentialsError(message, hint=hint)
        return answer.credential

    async def store(self, name: str, host: str, credential: Basic | IdentityToken) -> None:
        """Let the helper ``name`` keep ``credential`` for the registry ``host``.

        Raises:
            CredentialsError: when it does not.
        """
        if isinstance(credential, Basic):
            username, secret = credential.username, credential.password
        else:
            username, secret = TOKEN_USER, credential.token
        request = {"ServerURL": server_address(host), "Username": username, "Secret": secret}
        status, _ = await self._run(name, "store", json.dumps(request).encode())
        self._answers.pop((name, host), None)
        if status != 0:
            raise _failed(name, "store", status)

    async def erase(self, name: str, host: str) -> bool:
        """Let the helper ``name`` forget the registry ``host``; tell whether it knew it.

        Raises:
            CredentialsError: when it does not.
        """
        status, output = await self._run(name, "erase", server_address(host).encode())
        self._answers.pop((name, host), None)
        if status != 0 and _NOT_FOUND not in output:
            raise _failed(name, "erase", status)
        return status == 0

    async def _ask(self, name: str, host: str) -> _Answer:
        try:
            status, output = await self._run(name, "get", server_address(host).encode())
            credential = _read_answer(name, status, output)
        except CredentialsError as error:
            until = self._clock() + FAILURE_LIFETIME
            return _Answer(until=until, credential=Anonymous(), failure=(error.message, error.hint))
        lifetime = ABSENCE_LIFETIME if isinstance(credential, Anonymous) else LIFETIME
        return _Answer(until=self._clock() + lifetime, credential=credential)

    async def _run(self, name: str, verb: str, request: bytes) -> tuple[int, bytes]:
        if _NAME.fullmatch(name) is None:
            raise CredentialsError(
                f"{name[:80]!r} cannot be the name of a credential helper",
                hint="credsStore and credHelpers hold NAME for the program docker-credential-NAME, without a path.",
            )
        program = f"docker-credential-{name}"
        ended = await run_program([program, verb], environ=self._environ, timeout=self._timeout, request=request)
        match ended.ending:
            case Ending.EXITED:
                return ended.status, ended.output
            case Ending.ABSENT:
                said = "is not installed"
                hint = "Install it, put its folder on PATH, or take credsStore or credHelpers out of the file."
            case Ending.UNSTARTABLE:
                said = f"cannot be started: {ended.reason}"
                hint = "Check that it is a program for this machine and may be executed."
            case Ending.HUNG:
                said = f"gave no answer within {self._timeout:g} s"
                hint = f"It may wait for a password or a locked keyring. Run '{program} {verb}' by hand to see."
            case Ending.TALKATIVE:
                said = f"printed over {MAX_OUTPUT} bytes"
                hint = "It is not a credential helper, or it is broken."
            case unreachable:
                assert_never(unreachable)
        raise CredentialsError(f"the credential helper {program} {said}", hint=hint)


def server_address(host: str) -> str:
    """Return what helpers know a registry by."""
    return HUB_KEY if host == DOCKER_HUB else host


def _failed(name: str, verb: str, status: int) -> CredentialsError:
    ended = f"was ended by signal {-status}" if status < 0 else f"failed with exit status {status}"
    return CredentialsError(
        f"the credential helper docker-credential-{name} {ended}",
        hint=f"Its words are not shown, they may be secret. Run 'docker-credential-{name} {verb}' by hand to see.",
    )


def _read_answer(name: str, status: int, output: bytes) -> Credential:
    if status != 0:
        if _NOT_FOUND in output:
            return Anonymous()
        raise _failed(name, "get", status)
    try:
        answer = json.loads(output)
    except (ValueError, RecursionError):
        answer = None
    username, secret = (answer.get("Username"), answer.get("Secret")) if isinstance(answer, dict) else (None, None)
    if not isinstance(username, str) or not isinstance(secret, str):
        raise CredentialsError(
            f"the credential helper docker-credential-{name} gave no credentials in its answer",
            hint=f"'docker-credential-{name} get' must print a JSON object with Username and Secret.",
        )
    if not username and not secret:
        return Anonymous()
    return IdentityToken(token=secret) if username == TOKEN_USER else Basic(username=username, password=secret)
