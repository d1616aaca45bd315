"""``syncer login`` and ``syncer logout``: credentials that docker, podman and skopeo read too."""

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from syncer.app.loop import run
from syncer.app.registries import keychain, settings_of_host
from syncer.app.surroundings import Surroundings
from syncer.cli.exits import ExitCode
from syncer.cli.options import AuthFile, ReachOptions, RegistryReach, Spoken, Voice, spread
from syncer.cli.rendering import print_json, print_line
from syncer.cli.voices import logs
from syncer.errors import UsageError
from syncer.events import Event, Observers, RequestFinished, RequestKind
from syncer.oci.reference import check_host
from syncer.registry.call import Call
from syncer.registry.client import RegistryClient
from syncer.registry.credentials.login import Kept
from syncer.registry.credentials.login import login as keep
from syncer.registry.credentials.login import logout as remove
from syncer.registry.credentials.values import Basic
from syncer.registry.settings import TlsSettings

_LONGEST_PASSWORD = 64 * 1024
RegistryHost = Annotated[
    str, typer.Argument(metavar="REGISTRY", help="host[:port]; the Docker Hub is docker.io.", show_default=False)
]


@spread
def login(
    registry: RegistryHost,
    reach: RegistryReach,
    voice: Spoken,
    username: Annotated[
        str, typer.Option("--username", "-u", metavar="NAME", help="The user name.", show_default=False)
    ] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.", show_default=False)
    ] = False,
    authfile: AuthFile = "",
) -> int:
    """Log in to a registry.

    The registry is asked whether the credentials are right; then they are kept where docker, podman and
    skopeo find them too, in their credential helper if the file names one. On a terminal you are asked for what
    is missing; there is no option for the password, since every process can read the options of others.
    """
    host = check_host(registry)
    credential = _ask(host, username, from_stdin=password_stdin)
    surroundings = Surroundings.of_process(authfile=authfile)

    async def work() -> tuple[Kept, bool]:
        was_asked = await _verify(host, credential, reach, surroundings, voice)
        kept = await keep(
            host,
            credential,
            environ=surroundings.environ,
            home=surroundings.home,
            authfile=Path(authfile) if authfile else None,
        )
        return kept, was_asked

    kept, was_asked = run(work)
    if voice.as_json:
        print_json(
            {
                "registry": host,
                "username": credential.username,
                "verified": was_asked,
                "file": str(kept.path),
                "helper": kept.helper or None,
            }
        )
        return ExitCode.DONE
    where = f"the helper {kept.helper} named in {kept.path}" if kept.helper else f"{kept.path}, not encrypted"
    print_line(f"Logged in to {host} as {credential.username}; the password is kept in {where}.")
    if not was_asked:
        print_line(f"{host} did not ask for a password, so nobody knows yet whether it is right.")
    return ExitCode.DONE


@spread
def logout(registry: RegistryHost, voice: Spoken, authfile: AuthFile = "") -> int:
    """Log out of a registry.

    Its credentials are removed from every usual file, or from the one that --authfile names.
    """
    host = check_host(registry)
    surroundings = Surroundings.of_process(authfile=authfile)

    async def work() -> tuple[Kept, ...]:
        return await remove(
            host,
            environ=surroundings.environ,
            home=surroundings.home,
            authfile=Path(authfile) if authfile else None,
        )

    removed = run(work)
    if voice.as_json:
        print_json(
            {
                "registry": host,
                "removed": [{"file": str(kept.path), "helper": kept.helper or None} for kept in removed],
            }
        )
    elif not removed:
        print_line(f"Nothing is kept for {host}.")
    for kept in () if voice.as_json else removed:
        print_line(f"Removed the credentials of {host} from {kept.helper or kept.path}.")
    return ExitCode.DONE


def _ask(host: str, username: str, *, from_stdin: bool) -> Basic:
    if from_stdin:
        if not username:
            raise UsageError("--password-stdin needs a user name", hint="Add --username NAME.")
        password = sys.stdin.read(_LONGEST_PASSWORD).removesuffix("\n").removesuffix("\r")
        if not password:
            raise UsageError("there is no password on standard input", hint="Pipe it in: … | syncer login …")
        return Basic(username=username, password=password)
    if not sys.stdin.isatty():
        raise UsageError(
            "there is no terminal to ask for the password on", hint="Give it with --password-stdin and --username NAME."
        )
    if not username:
        sys.stderr.write(f"User name for {host}: ")
        sys.stderr.flush()
        username = sys.stdin.readline().strip()
    if not username:
        raise UsageError("a user name is needed", hint="Nothing was changed.")
    password = getpass.getpass(f"Password of {username} at {host}: ", stream=sys.stderr)
    if not password:
        raise UsageError("a password is needed", hint="Nothing was changed.")
    return Basic(username=username, password=password)


class _Asked:
    """Notes whether a registry wanted to see credentials at all."""

    def __init__(self) -> None:
        self.was_asked = False

    def notify(self, event: Event) -> None:
        """Take note of a request that was refused without credentials, or of a token that was fetched."""
        if isinstance(event, RequestFinished) and (event.status == 401 or event.kind is RequestKind.TOKEN):  # noqa: PLR2004 - Unauthorized
            self.was_asked = True


async def _verify(host: str, credential: Basic, reach: ReachOptions, surroundings: Surroundings, voice: Voice) -> bool:
    """Ask the registry for its root with ``credential``; tell whether it wanted to see it.

    Raises:
        Unauthorized, Denied: when the registry does not take the credentials.
    """
    tls = TlsSettings(ca=reach.ca, cert=reach.cert, key=reach.key, insecure=reach.insecure)
    settings = settings_of_host(host, surroundings, plain_http=reach.plain_http, tls=tls)
    asked = _Asked()
    keys = keychain(surroundings, {host: credential})
    async with RegistryClient(settings, keys, Observers(logs(voice), asked)) as client:
        await client.exchange(Call(kind=RequestKind.PING, method="GET", url=client.url("/v2/"), asked=host))
    return asked.was_asked
