"""Credential helpers, run as processes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio
import pytest

from syncer.errors import CredentialsError
from syncer.registry.credentials import Anonymous, Basic, Credential, Helpers, IdentityToken

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    Machine = Any

CANARY = "canary-7f3a"


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def answer(username: str, secret: str) -> str:
    """Return a script that prints credentials, and keeps its request beside it."""
    return f"""
        cat > "$0.request"
        echo '{json.dumps({"ServerURL": "x", "Username": username, "Secret": secret})}'
    """


def is_alive(pid_file: Path) -> bool:
    """Tell whether the process whose number is in the file lives (a zombie does not)."""
    stat = f"/proc/{pid_file.read_text().strip()}/stat"
    try:
        with open(stat) as file:  # noqa: PTH123 - a name in /proc
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(claim: Callable[[], bool]) -> None:
    """Wait until ``claim`` is true of another process, which sets no event of ours."""
    with anyio.fail_after(10):
        while not claim():  # noqa: ASYNC110 - there is no event to wait for
            await anyio.sleep(0.005)


@pytest.mark.parametrize(
    ("username", "expected"),
    [("user", Basic(username="user", password="s3cret")), ("<token>", IdentityToken(token="s3cret"))],
)
async def test_a_helper_is_asked_by_dockers_protocol(machine: Machine, username: str, expected: Credential) -> None:
    """The registry goes to stdin, the credential comes from stdout, and <token> marks an identity token."""
    path = machine.helper("store", answer(username, "s3cret"))
    assert await Helpers(machine.environ).get("store", "registry.example.com:5000") == expected
    assert machine.calls("store") == ["get"]
    assert path.with_name(path.name + ".request").read_text() == "registry.example.com:5000"


async def test_the_docker_hub_is_asked_for_by_its_old_address(machine: Machine) -> None:
    """Helpers know the Docker Hub as https://index.docker.io/v1/."""
    path = machine.helper("store", answer("u", "p"))
    await Helpers(machine.environ).get("store", "docker.io")
    assert path.with_name(path.name + ".request").read_text() == "https://index.docker.io/v1/"


@pytest.mark.parametrize(
    "script",
    [
        "echo 'credentials not found in native keychain'; exit 1",
        """echo '{"ServerURL": "", "Username": "", "Secret": ""}'""",
    ],
)
async def test_not_found_is_anonymous(machine: Machine, script: str) -> None:
    """A helper that knows nothing of a registry makes the request anonymous, not a failure."""
    machine.helper("store", script)
    assert await Helpers(machine.environ).get("store", "r.io") == Anonymous()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (f"echo {CANARY}; echo {CANARY} >&2; exit 3", "exit status 3"),
        (f"echo {CANARY}; kill -9 $$", "signal 9"),
        (f"echo {CANARY}", "no credentials in its answer"),
        (f'echo "[\\"{CANARY}\\"]"', "no credentials in its answer"),
        (f"""echo '{{"Username": "{CANARY}"}}'""", "no credentials in its answer"),
        (f"""echo '{{"Username": 1, "Secret": "{CANARY}"}}'""", "no credentials in its answer"),
        (":", "no credentials in its answer"),
        (f"while :; do echo {CANARY * 500}; done", "printed over"),
    ],
)
async def test_a_failing_helper_is_a_typed_error_that_keeps_its_words(
    machine: Machine, script: str, message: str
) -> None:
    """Exit codes, signals and garbage give an error with a hint and with nothing the helper printed."""
    machine.helper("store", script)
    with pytest.raises(CredentialsError, match=message) as caught:
        await Helpers(machine.environ).get("store", "r.io")
    assert caught.value.hint
    assert "docker-credential-store" in caught.value.message
    assert CANARY not in caught.value.paragraph()


async def test_a_missing_helper_is_named(machine: Machine) -> None:
    """The error says which program is missing and where it would have to be."""
    with pytest.raises(CredentialsError, match="docker-credential-desktop is not installed") as caught:
        await Helpers(machine.environ).get("desktop", "r.io")
    assert "PATH" in caught.value.hint


async def test_a_file_that_is_no_program_is_a_typed_error(machine: Machine) -> None:
    """A helper that the system cannot execute is reported, not raised through."""
    path = machine.programs / "docker-credential-odd"
    path.write_bytes(b"\x7fELF nonsense")
    path.chmod(0o755)
    with pytest.raises(CredentialsError, match="cannot be started"):
        await Helpers(machine.environ).get("odd", "r.io")


@pytest.mark.parametrize("name", ["../evil", "a b", "x;y", "", "naïve", "a\n", "/bin/sh"])
async def test_a_name_outside_the_grammar_is_not_run(machine: Machine, name: str) -> None:
    """Only letters, digits, dots, dashes and underscores can name a helper."""
    with pytest.raises(CredentialsError, match="cannot be the name"):
        await Helpers(machine.environ).get(name, "r.io")


async def test_a_hanging_helper_is_killed_with_its_children(machine: Machine) -> None:
    """After the timeout the whole process group is gone, and the error says what may be the matter."""
    child = machine.programs / "child"
    machine.helper("slow", f"sleep 600 & echo $! > {child}; wait")
    with pytest.raises(CredentialsError, match=r"gave no answer within 0\.2 s"):
        await Helpers(machine.environ, timeout=0.2).get("slow", "r.io")
    await until(lambda: not is_alive(child))


async def test_a_child_that_keeps_the_pipe_open_is_killed_too(machine: Machine) -> None:
    """A helper that ends and leaves a child on its output does not hang the run."""
    child = machine.programs / "child"
    machine.helper("fork", f"sleep 600 & echo $! > {child}")
    with pytest.raises(CredentialsError, match="gave no answer"):
        await Helpers(machine.environ, timeout=0.2).get("fork", "r.io")
    await until(lambda: not is_alive(child))


async def test_cancellation_kills_the_helper(machine: Machine) -> None:
    """Cancelling the run ends the helper's process group and leaves nothing cached."""
    pid = machine.programs / "pid"
    machine.helper("slow", f"echo $$ > {pid}.new; mv {pid}.new {pid}; sleep 600")
    helpers = Helpers(machine.environ)
    async with anyio.create_task_group() as group:
        group.start_soon(helpers.get, "slow", "r.io")
        await until(pid.exists)
        group.cancel_scope.cancel()
    await until(lambda: not is_alive(pid))
    machine.helper("slow", answer("u", "p"))
    assert await helpers.get("slow", "r.io") == Basic(username="u", password="p")


async def test_one_flight_per_helper_and_registry(machine: Machine) -> None:
    """Many askers at once start one process, and all get its answer."""
    machine.helper("store", answer("u", "p"))
    helpers = Helpers(machine.environ)
    found: list[Credential] = []

    async def ask() -> None:
        found.append(await helpers.get("store", "r.io"))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(ask)
    assert found == [Basic(username="u", password="p")] * 20
    assert machine.calls("store") == ["get"]


async def test_answers_age(machine: Machine) -> None:
    """An answer is used for five minutes; then the helper is asked again."""
    machine.helper("store", answer("u", "p"))
    clock = Clock()
    helpers = Helpers(machine.environ, clock=clock)
    for now in (0, 299, 301):
        clock.now = 1000.0 + now
        await helpers.get("store", "r.io")
    assert machine.calls("store") == ["get", "get"]


async def test_failures_are_forgotten_after_five_seconds(machine: Machine) -> None:
    """A failure is repeated to all who ask within five seconds, and then tried again."""
    machine.helper("store", "exit 1")
    clock = Clock()
    helpers = Helpers(machine.environ, clock=clock)
    for _ in range(3):
        with pytest.raises(CredentialsError):
            await helpers.get("store", "r.io")
    assert machine.calls("store") == ["get"]
    machine.helper("store", answer("u", "p"))
    clock.now += 5.1
    assert await helpers.get("store", "r.io") == Basic(username="u", password="p")


async def test_a_helper_that_does_not_read_is_judged_by_its_answer(machine: Machine) -> None:
    """A helper may answer and end without looking at its request."""
    machine.helper("store", f"exec <&-; echo '{json.dumps({'Username': 'u', 'Secret': 'p'})}'")
    assert await Helpers(machine.environ).get("store", "r.io") == Basic(username="u", password="p")


async def test_the_helper_sees_the_environment_that_was_given(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of this process's own environment reaches a helper."""
    monkeypatch.setenv("SYNCER_LEAK", CANARY)
    machine.environ["MINE"] = "yes"
    machine.helper("env", """echo "{\\"Username\\": \\"$MINE\\", \\"Secret\\": \\"x$SYNCER_LEAK\\"}" """)
    assert await Helpers(machine.environ).get("env", "r.io") == Basic(username="yes", password="x")


async def test_store_and_erase(machine: Machine) -> None:
    """Storing sends the documented object, erasing the address; both drop what was cached."""
    path = machine.helper("store", answer("u", "p"))
    helpers = Helpers(machine.environ)
    request = path.with_name(path.name + ".request")
    await helpers.get("store", "r.io")
    await helpers.store("store", "r.io", Basic(username="u", password="p"))
    assert json.loads(request.read_text()) == {"ServerURL": "r.io", "Username": "u", "Secret": "p"}
    await helpers.get("store", "r.io")
    await helpers.store("store", "docker.io", IdentityToken(token="t"))
    assert json.loads(request.read_text()) == {
        "ServerURL": "https://index.docker.io/v1/",
        "Username": "<token>",
        "Secret": "t",
    }
    assert await helpers.erase("store", "r.io")
    assert request.read_text() == "r.io"
    assert machine.calls("store") == ["get", "store", "get", "store", "erase"]


async def test_store_and_erase_fail_typed(machine: Machine) -> None:
    """A helper that refuses is an error, except to erase what it does not know."""
    machine.helper("store", f"echo {CANARY}; exit 1")
    helpers = Helpers(machine.environ)
    with pytest.raises(CredentialsError) as stored:
        await helpers.store("store", "r.io", Basic(username="u", password=CANARY))
    with pytest.raises(CredentialsError) as erased:
        await helpers.erase("store", "r.io")
    assert CANARY not in stored.value.paragraph() + erased.value.paragraph()
    machine.helper("store", "echo 'credentials not found in native keychain'; exit 1")
    assert not await helpers.erase("store", "r.io")


async def test_a_refused_answer_is_asked_for_again_once(machine: Machine) -> None:
    """What a registry refused is asked for anew by one of those who were refused, and not twice within a minute."""
    machine.helper("store", answer("u", "old"))
    clock = Clock()
    helpers = Helpers(machine.environ, clock=clock)
    old = await helpers.get("store", "r.io")
    machine.helper("store", answer("u", "new"))
    found: list[Credential] = []

    async def renew() -> None:
        found.append(await helpers.get("store", "r.io", refused=old))

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(renew)
    assert found == [Basic(username="u", password="new")] * 10
    assert machine.calls("store") == ["get", "get"]
    assert await helpers.get("store", "r.io", refused=found[0]) == found[0]
    assert machine.calls("store") == ["get", "get"]
    clock.now += 60
    await helpers.get("store", "r.io", refused=found[0])
    assert machine.calls("store") == ["get", "get", "get"]
