"""From words to an exit code."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from syncer import __version__
from syncer.cli import main
from syncer.cli.commands import COMMANDS
from syncer.errors import DigestMismatch, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CANARY = "bob:CANARY"


def first_line(text: str | None) -> str:
    """Return the summary of a docstring."""
    return (text or "").strip().splitlines()[0]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command.words))
def test_the_list_of_commands_says_what_each_help_says(command: object) -> None:
    """The summary that is shown without importing a command is the command's own."""
    known = next(it for it in COMMANDS if it is command)
    assert first_line(known.load().__doc__) == known.summary


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command.words))
def test_every_command_explains_itself(command: object, capsys: pytest.CaptureFixture[str]) -> None:
    """--help works everywhere, and every command can print JSON."""
    known = next(it for it in COMMANDS if it is command)
    assert main([*known.words, "--help"]) == 0
    out = capsys.readouterr().out
    assert known.summary.split(";")[0] in out
    assert "--output" in out


@pytest.mark.parametrize("arguments", [["--version"], ["--version", "run"]])
def test_the_version(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """It is printed on the short way and on the long one."""
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"syncer {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["spec"], ["registry"]])
def test_nothing_to_do_shows_the_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command there is the help, and the code of a usage error: a script forgot something."""
    assert main(arguments) == 2
    assert "Commands:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["bogus"], ["no such command 'bogus'", "syncer --help"]),
        (["insepct", "x"], ["Did you mean"]),
        (["spec", "validat"], ["no such command 'validat'", "Did you mean"]),
        (["copy"], ["missing argument 'SRC'", "syncer copy --help"]),
        (["copy", "a"], ["missing argument 'DST'"]),
        (["run", "x", "--log-level", "loud"], ["'--log-level': 'loud' is not one of"]),
        (["--output", "human", "run", "x"], ["Options come after the command"]),
        (["sync", "a", "b"], ["no such command 'sync'. It is called 'syncer run SPEC' here"]),
        (["tags", "x"], ["no such command 'tags'. It is called 'syncer list-tags REPO' here"]),
        (["ru", "x"], ["no such command 'ru'. Did you mean 'syncer run'?"]),
        (["--debug", "copy", "a", "b"], ["has no option --debug. Add --log-level debug after the command."]),
        (["copy", "--src-plain-http=1", "a", "b"], ["does not take a value. See 'syncer"]),
        (["copy", "--dest-plain-http", "--dest-ca", "x", "a", "b"], ["without TLS", "certificate"]),
        (["inspect", "--insecure", "--ca", "x", "a"], ["takes any certificate", "--ca"]),
        (["login", "--plain-http", "--insecure", "a", "-u", "b", "--password-stdin"], ["without TLS"]),
        (["run", "x", "--bogus"], ["no such option: --bogus"]),
        (["copy", "a", "b", f"--src-creds={CANARY}"], ["has no option --src-creds", "syncer login"]),
        (["copy", "a", "b", "--dest-password", CANARY], ["has no option --dest-password", "syncer login"]),
        (["login", "a", "-p", CANARY], ["has no option -p", "--password-stdin"]),
        (["copy", "a", "b", "--src-tls-verify=false"], ["--src-plain-http for HTTP, or --src-insecure to"]),
        (["copy", "a", "b", "--tls-verify=false"], ["is: --src-plain-http or --dest-plain-http for HTTP"]),
        (["inspect", "a", "--tls-verify=false"], ["is: --plain-http for HTTP, or --insecure to take"]),
        (["copy", "a", "b", "--dest-cert-dir", "c"], ["with --dest-ca, --dest-cert and --dest-key, or", "certs.d"]),
        (["list-tags", "a", "--cert-dir", "c"], ["with --ca, --cert and --key, or"]),
        (["copy", "./a:v1", "b"], ["looks like a path", "oci:PATH"]),
        (["copy", "a", "b", "--multi-arch", "all"], ["All platforms are copied"]),
        (["copy", "a", "b", "--all", "--platform", "linux/amd64"], ["contradict"]),
        (["copy", "a", "b", "--platform", "linux"], ["invalid platform"]),
        (["inspect", "a", "--raw", "--config"], ["two different documents"]),
        (["list-tags", "a.example/b:c"], ["names an image"]),
        (["delete", "a.example/b"], ["names no tag"]),
        (["delete", f"a.example/b:c@sha256:{'0' * 64}"], ["has a tag and a digest"]),
        (["delete", "dir:x"], ["nothing can be deleted"]),
        (["status", "a", "--state", "b"], ["Give one of them"]),
        (["registry", "serve", "x", "--listen", "5000"], ["is not HOST:PORT"]),
        (["manifest-digest", "./none.json"], ["cannot be read"]),
        (["login", "http://a.example"], ["invalid registry"]),
    ],
)
def test_usage_errors(arguments: list[str], fragments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """They exit with 2, in one paragraph that says what to write, and repeat no secret."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("syncer: error: ")
    assert err.count("\n") == 1
    for fragment in fragments:
        assert fragment in err
    assert "CANARY" not in err


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], int]:
    """Run a command that raises."""

    def run(error: BaseException) -> int:
        def raising(_: object) -> object:
            raise error

        monkeypatch.setattr("syncer.cli.dispatch.application", raising)
        return main(["run", "x"])

    return run


def test_of_errors_side_by_side_the_lasting_one_is_told(
    failing: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Tasks that fail together raise a group; what a retry does not cure decides."""
    group = ExceptionGroup("tasks", [Timeout("slow"), ExceptionGroup("more", [DigestMismatch("other bytes")])])
    assert failing(group) == 4
    assert "other bytes" in capsys.readouterr().err


def test_an_unexpected_error_asks_for_a_report(
    failing: Callable[[BaseException], int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: object,
) -> None:
    """No traceback on the terminal, unless SYNCER_DEBUG asks for it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert failing(ExceptionGroup("tasks", [Timeout("slow"), RuntimeError("boom")])) == 1
    err = capsys.readouterr().err
    assert "this is a bug in Syncer" in err
    assert "Traceback" not in err
    monkeypatch.setenv("SYNCER_DEBUG", "1")
    failing(RuntimeError("boom"))
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/var/x"), 9, "no space is left for /var/x."),
        (OSError(errno.EMFILE, "Too many open files"), 1, "too many open files. Raise the limit"),
        (MemoryError(), 1, "there is no memory left. Give this process more"),
        (RuntimeError("can't start new thread"), 1, "this process may start no more threads. Raise 'ulimit -u'"),
    ],
)
def test_the_ends_of_a_machine_are_no_bugs(
    failing: Callable[[BaseException], int],
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
    words: str,
) -> None:
    """Where room, files, memory or threads are used up and nobody has said so, it is said, alone or among others."""
    assert failing(error) == code
    assert words in capsys.readouterr().err
    assert failing(ExceptionGroup("tasks", [error, Timeout("slow")])) == code
    assert "bug" not in capsys.readouterr().err


def test_ctrl_c_is_no_error(failing: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]) -> None:
    """A command that is stopped exits with 75."""
    assert failing(KeyboardInterrupt()) == 75
    assert capsys.readouterr().err == "syncer: stopped\n"
