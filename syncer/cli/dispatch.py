"""From the words of a command line to an exit code: what every command has in common."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

import typer

from syncer.cli.commands import COMMANDS, application
from syncer.cli.exits import ExitCode, code_of
from syncer.cli.rendering import bug_report, print_error, print_trace, say
from syncer.errors import OUT_OF_FILES, OUT_OF_FILES_HINT, StorageFull, SyncerError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: What typer makes of SIGINT; none of the commands returns it otherwise.
_TYPER_INTERRUPTED = 130
_SIDES = ["src-", "dest-"]
#: Commands with options for a source and for a target.
_TWO_SIDED = frozenset({"syncer copy"})
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LESS = "let less move at once: 'limits: {connections: N}' of a registry"
_NO_SECRETS = "Secrets do not belong on a command line, where every process can read them. "
#: Options of Skopeo that Syncer does not have, and what to do instead.
_ELSEWHERE = {
    **dict.fromkeys(
        (
            f"--{side}{name}"
            for side in ("", "src-", "dest-")
            for name in ("creds", "username", "password", "registry-token")
        ),
        f"{_NO_SECRETS}Use 'syncer login REGISTRY' once, or --authfile FILE.",
    ),
    **dict.fromkeys(
        ("--no-creds", "--src-no-creds", "--dest-no-creds"),
        "Give an empty file as --authfile to ask without credentials.",
    ),
    **dict.fromkeys(
        ("--tls-verify", "--src-tls-verify", "--dest-tls-verify"),
        "Say which it is: {plain-http} for HTTP, or {insecure} to take any certificate.",
    ),
    **dict.fromkeys(
        ("--cert-dir", "--src-cert-dir", "--dest-cert-dir"),
        "Name the files with {ca}, {cert} and {key}, or put them where podman and docker look for them: a folder "
        "certs.d/HOST:PORT, see docs/network.md.",
    ),
    "-p": f"{_NO_SECRETS}Give the password with --password-stdin, or type it when you are asked.",
    "--multi-arch": "All platforms are copied by default; choose some with --platform linux/amd64, once for each.",
    "--preserve-digests": "There is nothing to ask for: digests never change, unless --platform chooses some.",
    "--retry-times": "There is nothing to ask for: what fails in passing is tried again, within bounds.",
    "--debug": "Add --log-level debug after the command.",
    "--image-parallel-copies": "There is nothing to ask for: Syncer finds its own pace.",
}
#: What other tools call a command.
_CALLED_ELSEWHERE = {
    "sync": "run SPEC",
    "once": "run SPEC",
    "check": "plan SPEC --detailed-exitcode",
    "cp": "copy SRC DST",
    "ls": "list-tags REPO",
    "tags": "list-tags REPO",
    "catalog": "list-repos REGISTRY",
    "digest": "manifest-digest REF",
    "rm": "delete REF",
}


def dispatch(arguments: Sequence[str]) -> int:
    """Run the command that ``arguments`` name and return the exit code; nothing is raised."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names of tags and files must not stop a command where the terminal cannot show them.
            stream.reconfigure(errors="backslashreplace")
    as_json = _wants_json(arguments)
    try:
        code = _invoke(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        code = _reader_gone()
    except KeyboardInterrupt:
        code = _TYPER_INTERRUPTED
    except Exception as raised:  # noqa: BLE001 - whatever it is, a person gets a paragraph and no traceback
        code = _failed(raised, as_json=as_json)
    except BaseExceptionGroup as raised:
        # A signal that came while tasks were under way, and before they were listened for.
        if raised.subgroup(KeyboardInterrupt) is None:
            raise
        code = _TYPER_INTERRUPTED
    if code == _TYPER_INTERRUPTED:
        say("stopped")
        code = ExitCode.STOPPED
    for stream in (sys.stdout, sys.stderr):
        # Otherwise the interpreter tries once more as it ends, and exits with 120.
        try:
            stream.flush()
        except (OSError, ValueError):
            _abandon(stream)
    return code


def _invoke(arguments: Sequence[str]) -> int:
    if not _names_command(arguments):
        _help(arguments)
        return ExitCode.USAGE
    command = typer.main.get_command(application(arguments))
    try:
        returned = command.main(args=list(arguments), prog_name="syncer", standalone_mode=False)
    except typer.TyperException as error:
        raise _usage_error(error, arguments) from None
    except typer.Abort:
        return _TYPER_INTERRUPTED
    return int(returned or 0)


def _names_command(arguments: Sequence[str]) -> bool:
    """Tell whether there is more than nothing, or than the name of a group."""
    groups = {command.words[0] for command in COMMANDS if len(command.words) > 1}
    return bool(arguments) and not (len(arguments) == 1 and arguments[0] in groups)


def _help(arguments: Sequence[str]) -> None:
    command = typer.main.get_command(application(arguments))
    command.main(args=[*arguments, "--help"], prog_name="syncer", standalone_mode=False)


def _usage_error(error: typer.TyperException, arguments: Sequence[str]) -> UsageError:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "syncer"
    option = getattr(error, "option_name", "")
    message = error.format_message().replace("\n\t", " ").replace("\n", " ")
    # pydantic says before each message of ours whose it is.
    message = message.replace("Value error, ", "", 1)
    message = message[:1].lower() + message[1:]
    # Who is logging in already needs no advice to log in.
    advice = _ELSEWHERE.get("-p" if option == "--password" and path.endswith("login") else option)
    if advice and message.startswith("no such option"):
        return UsageError(f"'{path}' has no option {option}", hint=_of_sides(advice, option, path))
    if option and path == "syncer" and message.startswith("no such option"):
        return UsageError(message, hint=f"Options come after the command: syncer COMMAND {option} …")
    words = [word for word in arguments if not word.startswith("-")][:2]
    if near := _nearest(words):
        # What is meant is said once, by us, who know what it is called elsewhere, too.
        message = message.partition(". Did you mean")[0].rstrip(".")
    return UsageError(message, hint=near or f"See '{path} --help'.")


def _of_sides(advice: str, option: str, path: str) -> str:
    """Put the options of the command in ``path`` in the place of ``{name}``: for the side asked about, or both."""
    asked = [side for side in _SIDES if option.startswith(f"--{side}")]
    sides = (asked or _SIDES) if path in _TWO_SIDED else [""]
    return re.sub(r"\{([a-z-]+)\}", lambda name: " or ".join(f"--{side}{name[1]}" for side in sides), advice)


def _nearest(words: list[str]) -> str:
    import difflib  # noqa: PLC0415 - only for a mistyped command

    known = {command.words[0] for command in COMMANDS}
    if not words or words[0] in known:
        return ""
    if words[0] in _CALLED_ELSEWHERE:
        return f"It is called 'syncer {_CALLED_ELSEWHERE[words[0]]}' here; 'syncer --help' lists the commands."
    near = difflib.get_close_matches(words[0], known, n=1)
    return f"Did you mean 'syncer {near[0]}'? 'syncer --help' lists the commands." if near else ""


def _failed(raised: Exception, *, as_json: bool) -> int:
    if os.environ.get("SYNCER_DEBUG") == "1":
        print_trace(raised)
    known, unknown = _sorted(raised)
    if any(isinstance(error, BrokenPipeError) for error in unknown) and not known:
        return _reader_gone()
    if not known and (lost := _unprinted()) is not None:
        known, unknown = [lost], []
    ours = [_of_this_machine(error) for error in unknown]
    if unknown and None not in ours:
        known, unknown = [*known, *filter(None, ours)], []
    if unknown:
        print_error(bug_report(raised), as_json=as_json)
        return ExitCode.FAILED
    # Tasks side by side may fail together; the one that a retry does not cure is the one to tell.
    error = min(known, key=lambda error: error.retryable)
    print_error(error, as_json=as_json)
    return code_of(error)


def _sorted(raised: Exception) -> tuple[list[SyncerError], list[BaseException]]:
    """Return the errors within ``raised``, ours and others."""
    leaves = list(_leaves(raised))
    return (
        [error for error in leaves if isinstance(error, SyncerError)],
        [error for error in leaves if not isinstance(error, SyncerError)],
    )


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _unprinted() -> SyncerError | None:
    """Return the error where standard output is what cannot be written, and let go of what it should have got."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _abandon(sys.stdout)
        if error.errno in _FULL:
            return StorageFull("no space is left where standard output goes", hint="Free space, and run it again.")
        return SyncerError(f"standard output cannot be written: {error.strerror}", hint="Check where it goes.")
    except ValueError:
        pass
    return None


def _of_this_machine(error: BaseException) -> SyncerError | None:
    """Return what to say where it is the machine that has come to an end, and nobody else said it; else None."""
    match error:
        case OSError(errno=number) if number in _FULL:
            where = f" for {error.filename}" if error.filename else ""
            return StorageFull(f"no space is left{where}", hint="Free space, and run it again.")
        case OSError(errno=number) if number in OUT_OF_FILES:
            return SyncerError("too many open files", hint=OUT_OF_FILES_HINT)
        case MemoryError():
            return SyncerError("there is no memory left", hint=f"Give this process more, or {_LESS}.")
        case RuntimeError() if str(error) == "can't start new thread":
            limits = "'ulimit -u', TasksMax= of a systemd unit, or the limit on pids of a container"
            return SyncerError("this process may start no more threads", hint=f"Raise {limits}.")
        case _:
            return None


def _reader_gone() -> int:
    """Leave quietly when standard output was closed by its reader, as ``| head`` does."""
    _abandon(sys.stdout)
    return ExitCode.FAILED


def _abandon(stream: TextIO) -> None:
    """Let what ``stream`` has not written yet go nowhere: it would fail once more when the interpreter ends."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _wants_json(arguments: Sequence[str]) -> bool:
    """Tell whether errors are to be JSON, even when the command line cannot be understood."""
    pairs = zip(arguments, [*arguments[1:], ""], strict=False)
    return any(word == "--output=json" or (word == "--output" and value == "json") for word, value in pairs)
