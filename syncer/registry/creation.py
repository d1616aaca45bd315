"""Making a repository that a registry does not make on push: ECR's, Harbor's projects, or by the user's program.

Reference section 3.3, rule 9. Nothing is made unless it is configured (``create`` in the spec), and
nothing before the registry has said that the repository is missing.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

import anyio

from syncer.errors import (
    ConnectionFailed,
    CredentialsError,
    Denied,
    NotFound,
    RegistryError,
    Side,
    SyncerError,
    Unauthorized,
)
from syncer.events import RequestKind
from syncer.registry.auth.denials import echo
from syncer.registry.auth.token_service import basic_header
from syncer.registry.call import Call
from syncer.registry.credentials.values import Basic, CredentialStore
from syncer.registry.hosts import HostKind, account_and_region, classify
from syncer.registry.programs import Ended, Ending, run_program
from syncer.registry.settings import CreationKind, CreationSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from syncer.registry.client import RegistryClient

#: Seconds that a program has for one repository.
TIMEOUT = 60.0
_LONGEST_TOLD = 300
_CREATED = 201
_EXISTS = 409
#: Names of variables whose values are secrets.
_SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSW|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE", re.IGNORECASE)
_SHORTEST_SECRET = 6
#: What looks like a secret in the words of a program.
_SECRETS = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 …"),
    (
        re.compile(r"(?i)([\w-]*(?:secret|token|passw(?:or)?d|credential|authorization)[\w-]*[\"']?\s*[:=]\s*)\S+"),
        r"\1…",
    ),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}"), "…"),
    (re.compile(r"://[^/\s@]+@"), "://…@"),
)
_GONE = re.compile(r"(?:project|repository|name).{0,120}(?:not found|does not exist|unknown)", re.IGNORECASE)


@dataclass(slots=True)
class _Attempt:
    """Making one thing, once; those who want it meanwhile wait for the outcome."""

    lock: anyio.Lock = field(default_factory=anyio.Lock)
    is_made: bool = False
    failure: SyncerError | None = None


class Creation:
    """Makes the missing repositories of one registry, each once in the life of its client."""

    def __init__(
        self,
        client: RegistryClient,
        settings: CreationSettings,
        credentials: CredentialStore,
        *,
        timeout: float = TIMEOUT,
    ) -> None:
        """Prepare; a program has ``timeout`` seconds for one repository."""
        self._client = client
        self._settings = settings
        self._credentials = credentials
        self._environ = settings.environ
        self._timeout = timeout
        #: By what is done: several repositories of a Harbor project share one request.
        self._attempts: dict[tuple[str, ...], _Attempt] = {}

    def is_called_for(self, error: SyncerError) -> bool:
        """Tell whether the ``error`` of opening an upload or of writing a manifest says that the repository is missing.

        Registries say so by NAME_UNKNOWN or a bare 404; Harbor refuses in words, since a project that does not
        exist allows nothing; ECR has been seen to cut the connection.
        """
        if isinstance(error, NotFound):
            return not error.missing and not any("BLOB" in code or "MANIFEST" in code for code in error.codes)
        if isinstance(error, Unauthorized | Denied):
            return self._settings.kind is CreationKind.HARBOR and _GONE.search(error.message) is not None
        return isinstance(error, ConnectionFailed) and self._settings.kind is CreationKind.ECR and not error.is_absent

    async def ensure(self, repository: str) -> bool:
        """Make ``repository``, or what must be there before it; True when it was made or exists now.

        Once for each, however many ask, and whether it succeeds or fails.

        Raises:
            Denied: when the credentials do not allow it.
            CredentialsError: when there are none to do it with.
            RegistryError: when it failed; with what was said, without secrets.
        """
        steps = self._steps(repository)
        attempt = self._attempts.setdefault(steps, _Attempt())
        async with attempt.lock:
            if attempt.failure is not None:
                raise echo(attempt.failure)
            if not attempt.is_made:
                try:
                    await self._make(repository, steps)
                except SyncerError as error:
                    error.side = error.side or Side.TARGET
                    attempt.failure = echo(error)
                    raise
                attempt.is_made = True
        # What is not there allows nothing, in the words of some registries.
        self._client.forget_denials(repository)
        return True

    def _steps(self, repository: str) -> tuple[str, ...]:
        """Return what is to be done: a program with its arguments, or the project of Harbor's."""
        host = self._client.host
        project, slash, rest = repository.partition("/")
        match self._settings.kind:
            case CreationKind.HARBOR:
                if not slash:
                    raise self._failed(
                        repository, "names no project", "Harbor's repositories lie in a project: PROJECT/NAME."
                    )
                return (project,)
            case CreationKind.ECR:
                command = ["aws", "ecr", "create-repository", "--repository-name", repository]
                if classify(host) is HostKind.ECR_PUBLIC:
                    name = ["--repository-name", rest or repository]
                    command = ["aws", "ecr-public", "create-repository", *name, "--region", "us-east-1"]
                elif found := account_and_region(host):
                    # Without the account the tool would make it in that of the credentials.
                    command += ["--region", found[1], "--registry-id", found[0]]
                return tuple(command)
            case CreationKind.COMMAND:
                names = {"{registry}": host, "{repository}": repository, "{project}": project}
                program, *arguments = self._settings.command
                return (program, *(_filled(argument, names) for argument in arguments))
            case unreachable:
                assert_never(unreachable)

    async def _make(self, repository: str, steps: tuple[str, ...]) -> None:
        if self._settings.kind is CreationKind.HARBOR:
            await self._make_project(repository, steps[0])
            return
        environ = dict(os.environ) if self._environ is None else dict(self._environ)
        # The AWS tool would show its answer page by page.
        environ["AWS_PAGER"] = ""
        ended = await run_program(steps, environ=environ, timeout=self._timeout, keeps_errors=True)
        if ended.ending is Ending.EXITED and (ended.status == 0 or b"RepositoryAlreadyExistsException" in ended.output):
            return
        raise self._program_failed(repository, steps, ended, environ)

    async def _make_project(self, repository: str, project: str) -> None:
        """POST /api/v2.0/projects, Harbor's API."""
        client = self._client
        credential = await self._credentials.get(client.host, repository)
        if not isinstance(credential, Basic):
            raise CredentialsError(
                f"a project can be created in {client.host} with a user name and a password only",
                hint=f"Log in with those of a user or robot that may create projects, or create {project!r} by hand.",
            )
        call = Call(
            kind=RequestKind.CREATE,
            method="POST",
            url=client.url("/api/v2.0/projects"),
            asked=f"the project {client.host}/{project}",
            expected=frozenset({_CREATED, _EXISTS}),
            headers={"Content-Type": "application/json"},
            body=json.dumps({"project_name": project, "metadata": {"public": "false"}}).encode(),
            side=Side.TARGET,
            authorization=basic_header(credential),
            # The credentials are for the registry's own API, and for nobody that it leads to.
            is_redirectable=False,
        )
        try:
            await client.exchange(call)
        except NotFound as error:
            raise self._failed(
                f"{project}",
                "cannot be made as a project: there is no API of Harbor's",
                "Is this registry a Harbor? Else take 'create: harbor' out of the spec.",
            ) from error
        except (Denied, Unauthorized) as error:
            raise Denied(
                f"the project {project!r} does not exist in {client.host} and may not be created: {error.message}",
                status=error.status,
                codes=error.codes,
                registry=error.registry,
                method=error.method,
                url=error.url,
                side=Side.TARGET,
                hint="Create it by hand, or log in as a user or robot that may create projects.",
            ) from error

    def _program_failed(
        self, repository: str, steps: Sequence[str], ended: Ended, environ: Mapping[str, str]
    ) -> RegistryError:
        program = steps[0]
        hint = f"Run '{' '.join(steps)}' by hand to see, or create the repository yourself."
        match ended.ending:
            case Ending.ABSENT:
                said = f"{program} is not installed"
                hint = f"Put the folder of {program} on PATH, or create the repository yourself."
                if "/" in program:
                    said = f"there is no program {program}"
                    hint = "Check the path in 'create', and that the file may be executed."
            case Ending.UNSTARTABLE:
                said = f"{program} cannot be started: {ended.reason}"
            case Ending.HUNG:
                said = f"{program} did not end within {self._timeout:g} s"
            case Ending.TALKATIVE:
                said = f"{program} printed without end"
            case Ending.EXITED:
                told = _told(ended.output, environ)
                how = f"was ended by signal {-ended.status}" if ended.status < 0 else f"failed with {ended.status}"
                said = f"{program} {how}" + (f": {told}" if told else "")
                is_ecr = self._settings.kind is CreationKind.ECR
                if is_ecr and ("AccessDenied" in told or "UnrecognizedClient" in told):
                    hint = "Let its credentials create repositories (ecr:CreateRepository), or create it yourself."
            case unreachable:
                assert_never(unreachable)
        return self._failed(repository, f"does not exist and could not be created: {said}", hint)

    def _failed(self, repository: str, said: str, hint: str) -> RegistryError:
        host = self._client.host
        return RegistryError(f"the repository {host}/{repository} {said}", registry=host, hint=hint, side=Side.TARGET)


def _filled(argument: str, names: Mapping[str, str]) -> str:
    for name, value in names.items():
        argument = argument.replace(name, value)
    return argument


def _told(output: bytes, environ: Mapping[str, str]) -> str:
    """Return the end of what a program said, on one line, without what is or looks like a secret."""
    text = output[-64 * 1024 :].decode(errors="replace")
    for name, value in environ.items():
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "…")
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_TOLD else f"…{text[-_LONGEST_TOLD:]}"
