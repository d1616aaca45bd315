"""Repositories that a registry does not make on push: made once, by Harbor's API, AWS's tool, or a program."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from aiohttp import web

from syncer.errors import (
    ConnectionFailed,
    CredentialsError,
    Denied,
    NotFound,
    QuotaExceeded,
    RegistryError,
    ServerFailure,
    Side,
    StatusError,
    SyncerError,
    Unauthorized,
)
from syncer.events import RequestFinished, RequestKind
from syncer.registry import RegistryClient, RegistrySettings
from syncer.registry.creation import Creation
from syncer.registry.credentials.values import Anonymous, Basic, IdentityToken
from syncer.registry.settings import CreationKind, CreationSettings
from tests.support import images
from tests.support.observing import Recorder
from tests.support.scripted import Keys, connected, scripted
from tests.support.transfer import push

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from syncer.registry.credentials.values import Credential
    from tests.support.scripted import Connected

CANARY = "canary-9c41f0"
ROBOT = Basic(username="robot$sync", password=CANARY)
ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


# ------------------------------------------------------------------ Harbor


class Harbor:
    """Projects, and a log of the requests for them."""

    def __init__(self, *, status: int = 201, body: Any = None) -> None:
        self.status = status
        self.body = body
        self.asked: list[dict[str, Any]] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        assert request.raw_path == "/api/v2.0/projects"
        self.asked.append(await request.json())
        if self.body is None:
            return web.Response(status=self.status, headers={"Set-Cookie": "sid=1"})
        return web.json_response(self.body, status=self.status)


@asynccontextmanager
async def harbor_client(address: str, credential: Credential = ROBOT) -> AsyncIterator[Connected]:
    """Give a client of a Harbor that may create projects."""
    creation = CreationSettings(kind=CreationKind.HARBOR)
    settings = RegistrySettings(host=address, plain_http=True, creation=creation)
    async with connected(address, credential=credential, settings=settings) as it:
        yield it


def creation_of(it: Connected) -> Creation:
    """Return what makes repositories."""
    assert it.client.creation is not None
    return it.client.creation


async def test_nothing_is_made_unless_it_is_configured() -> None:
    """Without the setting there is nothing that could make a repository."""
    async with connected("localhost:1") as it:
        assert it.client.creation is None


@pytest.mark.parametrize("status", [201, 409])
async def test_a_project_is_made_or_is_there(status: int) -> None:
    """One POST with the registry's own credentials makes the private project; that it exists is as good."""
    harbor = Harbor(status=status)
    async with scripted(harbor.handle) as server, harbor_client(server.address) as it:
        assert await creation_of(it).ensure("team/app/base") is True
    assert harbor.asked == [{"project_name": "team", "metadata": {"public": "false"}}]
    assert server.seen[0].authorization.startswith("Basic ")
    assert server.lines == ["POST /api/v2.0/projects"]
    assert [event.kind for event in it.recorder.of(RequestFinished)] == [RequestKind.CREATE]


async def test_a_project_is_made_once_for_all_its_repositories() -> None:
    """Hundreds that want the same project wait for one request; another project is another request."""
    harbor = Harbor()
    async with scripted(harbor.handle) as server, harbor_client(server.address) as it:
        async with anyio.create_task_group() as group:
            for at in range(100):
                group.start_soon(creation_of(it).ensure, f"team/app-{at}")
        await creation_of(it).ensure("other/app")
    assert [asked["project_name"] for asked in harbor.asked] == ["team", "other"]


@pytest.mark.parametrize("status", [401, 403])
async def test_who_may_not_create_projects(status: int) -> None:
    """A refusal names the project and what to do, is asked for once, and shows no password."""
    harbor = Harbor(status=status, body={"errors": [{"code": "FORBIDDEN", "message": "forbidden"}]})
    async with scripted(harbor.handle) as server, harbor_client(server.address) as it:
        for _ in range(2):
            with pytest.raises(Denied):
                await creation_of(it).ensure("team/app")
        with pytest.raises(Denied, match="'team' does not exist") as caught:
            await creation_of(it).ensure("team/app")
    assert len(harbor.asked) == 1
    assert Side.TARGET is caught.value.side
    assert "may create projects" in caught.value.hint
    assert CANARY not in repr(caught.value) + str(caught.value) + caught.value.paragraph()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"errors": [{"code": "BAD_REQUEST", "message": "project name is not in lower case"}]}, StatusError),
        (403, {"errors": [{"code": "DENIED", "message": "storage quota exceeded"}]}, QuotaExceeded),
        (500, None, ServerFailure),
        (200, None, RegistryError),
    ],
)
async def test_other_refusals_are_said_as_they_are(status: int, body: Any, kind: type[Exception]) -> None:
    """What Harbor says is the error, with its words; a 200 is no answer of Harbor's."""
    harbor = Harbor(status=status, body=body)
    async with scripted(harbor.handle) as server, harbor_client(server.address) as it:
        with pytest.raises(kind) as caught:
            await creation_of(it).ensure("team/app")
    assert "team" in str(caught.value)


async def test_a_registry_that_is_no_harbor_is_told_of() -> None:
    """Where Harbor's API is not, the setting is what is wrong, and not the name of the project."""
    async with scripted(Harbor(status=404).handle) as server, harbor_client(server.address) as it:
        with pytest.raises(RegistryError, match="no API of Harbor's") as caught:
            await creation_of(it).ensure("team/app")
    assert "create: harbor" in caught.value.hint


async def test_a_redirect_takes_no_password_along() -> None:
    """The credentials are for the registry's own API: nobody that it leads to is asked."""
    other_harbor = Harbor()
    async with scripted(other_harbor.handle) as other:

        async def handler(_request: web.BaseRequest) -> web.StreamResponse:
            return web.Response(status=307, headers={"Location": f"{other.url}/api/v2.0/projects"})

        async with scripted(handler) as server, harbor_client(server.address) as it:
            with pytest.raises(RegistryError):
                await creation_of(it).ensure("team/app")
    assert other.seen == []


@pytest.mark.parametrize("credential", [Anonymous(), IdentityToken(token=CANARY)])
async def test_projects_need_a_password(credential: Credential) -> None:
    """Without a user name and a password there is nothing to ask Harbor's API with."""
    async with harbor_client("localhost:1", credential) as it:
        with pytest.raises(CredentialsError, match="user name and a password") as caught:
            await creation_of(it).ensure("team/app")
    assert CANARY not in caught.value.paragraph()


async def test_a_name_without_a_project() -> None:
    """A repository of one part cannot be in Harbor, and no request is sent for it."""
    async with harbor_client("localhost:1") as it:
        with pytest.raises(RegistryError, match="names no project") as caught:
            await creation_of(it).ensure("app")
    assert "PROJECT/NAME" in caught.value.hint


# ------------------------------------------------------------------ programs


class Programs:
    """A folder of scripts that is the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {"PATH": f"{folder}:/usr/bin:/bin", "AWS_SECRET_ACCESS_KEY": CANARY, "AWS_REGION": "x"}

    async def add(self, name: str, script: str) -> None:
        """Write a script that first notes its arguments."""
        path = anyio.Path(self.folder / name)
        await path.write_text(f'#!/bin/sh\necho "$@" >> "$0.calls"\n{script}\n')
        await path.chmod(0o755)

    async def calls(self, name: str) -> list[str]:
        """Return the arguments of each call."""
        path = anyio.Path(self.folder / f"{name}.calls")
        return (await path.read_text()).splitlines() if await path.exists() else []

    def creation(
        self, *command: str, kind: CreationKind = CreationKind.ECR, host: str = ECR, timeout: float = 10.0
    ) -> Creation:
        """Return what makes repositories of ``host``."""
        settings = CreationSettings(kind=kind, command=command, environ=self.environ)
        client = RegistryClient(RegistrySettings(host=host, creation=settings), Keys(), Recorder())
        return Creation(client, settings, Keys(), timeout=timeout)


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    """Give an empty folder of programs."""
    return Programs(tmp_path)


async def test_the_aws_tool_is_called_once(programs: Programs) -> None:
    """Region and account come from the host; however many ask, it runs once for a repository."""
    await programs.add("aws", "echo '{}'")
    creation = programs.creation()
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(creation.ensure, "team/app")
    assert await programs.calls("aws") == [
        "ecr create-repository --repository-name team/app --region eu-west-1 --registry-id 123456789012"
    ]


async def test_ecr_public_has_a_tool_of_its_own(programs: Programs) -> None:
    """The alias of the registry is no part of the repository's name there, and there is one region."""
    await programs.add("aws", "exit 0")
    assert await programs.creation(host="public.ecr.aws").ensure("alias/app") is True
    assert await programs.calls("aws") == ["ecr-public create-repository --repository-name app --region us-east-1"]


async def test_a_repository_that_exists_is_no_failure(programs: Programs) -> None:
    """Another may have been faster: RepositoryAlreadyExistsException is success."""
    await programs.add("aws", "echo 'An error occurred (RepositoryAlreadyExistsException)' >&2; exit 254")
    assert await programs.creation().ensure("team/app") is True


async def test_a_failure_is_told_once_and_without_secrets(programs: Programs) -> None:
    """What the tool said is shown, bounded and printable; keys and tokens in it are not."""
    await programs.add(
        "aws",
        "printf 'An error\\033[31m occurred (AccessDeniedException): '"
        ' >&2; echo "key $AWS_SECRET_ACCESS_KEY, AKIAABCDEFGHIJKLMNOP,'
        f' password={CANARY}x https://user:{CANARY}@proxy Bearer {CANARY}{CANARY}" >&2; exit 254',
    )
    creation = programs.creation()
    with pytest.raises(RegistryError) as first:
        await creation.ensure("team/app")
    with pytest.raises(RegistryError, match="could not be created: aws failed with 254: An error") as caught:
        await creation.ensure("team/app")
    assert caught.value is not first.value
    said = caught.value.paragraph() + repr(caught.value)
    assert "AccessDeniedException" in said
    assert "ecr:CreateRepository" in caught.value.hint
    assert CANARY not in said
    assert "AKIA" not in said
    assert "\033" not in said
    assert Side.TARGET is caught.value.side
    assert len(await programs.calls("aws")) == 1


async def test_endless_words_are_cut(programs: Programs) -> None:
    """The end of what was said is what tells, and not more of it than a line or two."""
    await programs.add("aws", "i=0; while [ $i -lt 3000 ]; do echo 0123456789; i=$((i+1)); done; echo the end; exit 3")
    with pytest.raises(RegistryError, match=r"the end$") as caught:
        await programs.creation().ensure("team/app")
    assert len(caught.value.message) < 600


async def test_there_is_no_tool(programs: Programs) -> None:
    """A program that is missing is named."""
    programs.environ["PATH"] = str(programs.folder)
    with pytest.raises(RegistryError, match="aws is not installed") as caught:
        await programs.creation().ensure("team/app")
    assert "PATH" in caught.value.hint


async def test_there_is_no_program_at_a_path(programs: Programs) -> None:
    """Who names a path is told of the path, not of the PATH."""
    missing = str(programs.folder / "missing")
    with pytest.raises(RegistryError, match=r"there is no program .*missing") as caught:
        await programs.creation(missing, kind=CreationKind.COMMAND).ensure("team/app")
    assert "PATH" not in caught.value.hint


async def test_a_program_of_the_users_has_no_hint_for_ecr(programs: Programs) -> None:
    """Its words are its own: what they would mean from AWS's tool is not read into them."""
    await programs.add("make", "echo AccessDenied; exit 1")
    with pytest.raises(RegistryError, match="AccessDenied") as caught:
        await programs.creation("make", "{repository}", kind=CreationKind.COMMAND).ensure("team/app")
    assert "ecr" not in caught.value.hint
    assert "'make team/app' by hand" in caught.value.hint


async def test_a_tool_that_cannot_be_started(programs: Programs) -> None:
    """A file that is no program is told of."""
    path = anyio.Path(programs.folder / "aws")
    await path.write_text("#!/nonexistent\n")
    await path.chmod(0o755)
    with pytest.raises(RegistryError, match="cannot be started"):
        await programs.creation().ensure("team/app")


async def test_a_tool_that_hangs_is_ended_with_all_it_started(programs: Programs) -> None:
    """After its time the whole process group goes, and the error says what happened."""
    await programs.add("aws", 'sleep 60 & echo $! > "$0.pid"; wait')
    with pytest.raises(RegistryError, match=r"did not end within 0\.4 s"):
        await programs.creation(timeout=0.4).ensure("team/app")
    pid = (await anyio.Path(programs.folder / "aws.pid").read_text()).strip()
    with anyio.fail_after(5):
        while not await _is_gone(pid):  # noqa: ASYNC110 - another process sets no event of ours
            await anyio.sleep(0.005)


async def _is_gone(pid: str) -> bool:
    try:
        stat = await anyio.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


async def test_a_tool_that_prints_without_end(programs: Programs) -> None:
    """A flood of output ends the program."""
    await programs.add("aws", "yes")
    with pytest.raises(RegistryError, match="printed without end"):
        await programs.creation().ensure("team/app")


async def test_who_is_cancelled_leaves_it_to_the_next(programs: Programs) -> None:
    """A creation that was given up half-way is tried again by who comes next."""
    await programs.add("aws", 'if [ ! -e "$0.once" ]; then touch "$0.once"; sleep 60; fi')
    creation = programs.creation()
    started = anyio.Path(programs.folder / "aws.once")
    async with anyio.create_task_group() as group:
        group.start_soon(creation.ensure, "team/app")
        with anyio.fail_after(5):
            while not await started.exists():  # noqa: ASYNC110 - same
                await anyio.sleep(0.005)
        group.cancel_scope.cancel()
    assert await creation.ensure("team/app") is True
    assert len(await programs.calls("aws")) == 2


async def test_a_program_of_the_users(programs: Programs) -> None:
    """Names take the places of the braces in its arguments; no shell reads them."""
    await programs.add("make-repo", "exit 0")
    command = ("make-repo", "--in={registry}", "{project}", "{repository}", "$(touch x); *", "{other}")
    creation = programs.creation(*command, kind=CreationKind.COMMAND, host="example.com:5000")
    assert await creation.ensure("team/app") is True
    (call,) = await programs.calls("make-repo")
    assert call == "--in=example.com:5000 team team/app $(touch x); * {other}"


async def test_a_program_that_makes_projects_runs_once_for_each(programs: Programs) -> None:
    """What is called with the same arguments is called once."""
    await programs.add("make", "exit 0")
    creation = programs.creation("make", "{project}", kind=CreationKind.COMMAND)
    for name in ("team/a", "team/b", "other/a"):
        await creation.ensure(name)
    assert await programs.calls("make") == ["team", "other"]


async def test_the_environment_is_that_of_the_process_by_default(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the settings say otherwise, the program sees what Syncer sees."""
    monkeypatch.setenv("PATH", programs.environ["PATH"])
    monkeypatch.setenv("AWS_PROFILE", "nightly")
    await programs.add("aws", 'echo "$AWS_PROFILE-$AWS_PAGER-" >> "$0.calls"')
    settings = CreationSettings(kind=CreationKind.ECR)
    client = RegistryClient(RegistrySettings(host=ECR, creation=settings), Keys(), Recorder())
    assert client.creation is not None
    assert await client.creation.ensure("a") is True
    assert (await programs.calls("aws"))[-1] == "nightly--"


# ------------------------------------------------------------------ when it is wanted


def _denied(kind: type[StatusError], text: str, status: int) -> StatusError:
    return kind(text, status=status)


def _missing(*codes: str, blob: str = "") -> NotFound:
    error = NotFound("x was not found")
    error.codes = codes
    error.missing = (blob,) if blob else ()
    return error


@pytest.mark.parametrize(
    ("kind", "error", "expected"),
    [
        (CreationKind.ECR, _missing("NAME_UNKNOWN"), True),
        (CreationKind.ECR, _missing(), True),
        (CreationKind.ECR, _missing("BLOB_UPLOAD_UNKNOWN"), False),
        (CreationKind.ECR, _missing("MANIFEST_UNKNOWN"), False),
        (CreationKind.ECR, _missing("MANIFEST_BLOB_UNKNOWN", blob="sha256:x"), False),
        (CreationKind.ECR, ConnectionFailed("cut"), True),
        (CreationKind.HARBOR, ConnectionFailed("cut"), False),
        (CreationKind.HARBOR, _denied(Unauthorized, "UNAUTHORIZED, project team not found", 401), True),
        (CreationKind.HARBOR, _denied(Denied, "DENIED, requested access is denied", 403), False),
        (CreationKind.ECR, _denied(Denied, "repository does not exist", 403), False),
        (CreationKind.HARBOR, _denied(ServerFailure, "project not found", 500), False),
        (CreationKind.COMMAND, _missing("NAME_UNKNOWN"), True),
    ],
)
def test_what_says_that_a_repository_is_missing(
    programs: Programs, kind: CreationKind, error: SyncerError, *, expected: bool
) -> None:
    """Codes, a bare 404, Harbor's words and ECR's silence do; what is about blobs or rights does not."""
    assert programs.creation("make", kind=kind).is_called_for(error) is expected


@pytest.mark.parametrize(
    ("status", "code"), [(404, "NAME_UNKNOWN"), (404, "NOT_FOUND"), (401, "UNAUTHORIZED"), (403, "DENIED")]
)
async def test_a_push_makes_the_project_and_goes_on(status: int, code: str) -> None:
    """The first upload to a project that is missing makes it, once, and everything arrives."""
    sample = images.image()
    projects: set[str] = set()
    log: list[str] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        log.append(f"{request.method} {request.path.rpartition('/')[0]}")
        body = await request.read()
        if request.path == "/api/v2.0/projects":
            projects.add(json.loads(body)["project_name"])
            return web.Response(status=201)
        if "team" not in projects:
            error = {"code": code, "message": "project team not found"}
            return web.json_response({"errors": [error]}, status=status)
        if request.method == "POST":
            return web.Response(status=202, headers={"Location": "/v2/team/app/blobs/uploads/x"})
        digest = request.query.get("digest", "") if "uploads" in request.path else sample.digest
        return web.Response(status=201, headers={"Docker-Content-Digest": digest})

    async with scripted(handler) as server, harbor_client(server.address) as it:
        await push(it.client.repository("team/app", Side.TARGET), sample, "1")
    assert log.count("POST /api/v2.0") == 1
    assert log.count("POST /v2/team/app/blobs/uploads") == 1 + len(sample.blobs)
    assert projects == {"team"}


async def test_a_push_without_a_hook_says_what_to_do() -> None:
    """The error names the project and the key of the spec that would make it."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"errors": [{"code": "NAME_UNKNOWN"}]}, status=404)

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(NotFound) as caught:
            await push(it.client.repository("team/app", Side.TARGET), images.image(), "1")
    assert "create the project 'team'" in caught.value.hint
    assert "create: harbor" in caught.value.hint
