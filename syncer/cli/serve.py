"""``syncer registry serve``: a folder as a registry."""

import json
import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import anyio.to_thread
import typer

from syncer.app.loop import run
from syncer.app.stopping import stoppable
from syncer.cli.exits import ExitCode
from syncer.cli.options import LogFormat, Spoken, Voice, spread
from syncer.cli.rendering import print_line
from syncer.errors import UsageError
from syncer.layout.tree import LayoutTree
from syncer.server import AuthMode, RegistryServer, RequestRecord, ServerSettings
from syncer.telemetry.logs import LogLevel, configure_logging

_HIGHEST_PORT = 65535


Folder = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="A tree of OCI image layouts; made if it is not there.", show_default=False),
]
Listen = Annotated[str, typer.Option("--listen", metavar="HOST:PORT", help="Where to listen; port 0 takes a free one.")]
Auth = Annotated[
    AuthMode | None,
    typer.Option("--auth", help="How clients log in. [default: token with --htpasswd, else none]", show_default=False),
]
Passwords = Annotated[
    Path | None, typer.Option("--htpasswd", metavar="FILE", help="Who may log in.", show_default=False)
]
AnonymousPull = Annotated[bool, typer.Option("--anonymous-pull", help="Reading needs no login.", show_default=False)]
TokenLifetime = Annotated[
    int, typer.Option("--token-lifetime", metavar="SECONDS", min=1, help="For how long a token is good.")
]
Certificate = Annotated[
    Path | None,
    typer.Option("--tls-cert", metavar="FILE", help="Speak TLS with this certificate (PEM).", show_default=False),
]
CertificateKey = Annotated[
    Path | None,
    typer.Option("--tls-key", metavar="FILE", help="The key of the certificate (PEM).", show_default=False),
]
ReadOnly = Annotated[bool, typer.Option("--read-only", help="Refuse every write.", show_default=False)]


@spread
def serve(
    folder: Folder,
    voice: Spoken,
    listen: Listen = "127.0.0.1:5000",
    auth: Auth = None,
    htpasswd: Passwords = None,
    anonymous_pull: AnonymousPull = False,
    token_lifetime: TokenLifetime = 300,
    tls_cert: Certificate = None,
    tls_key: CertificateKey = None,
    read_only: ReadOnly = False,
) -> int:
    """Serve a folder as a registry.

    Prints the address once it answers, and serves until Ctrl-C or SIGTERM. Requests are log lines of
    level info.
    """
    host, port = parse_address(listen)
    check_tree(folder)
    settings = ServerSettings(
        read_only=read_only,
        tag_digests=True,
        certificate=tls_cert,
        key=tls_key,
        auth=auth or (AuthMode.TOKEN if htpasswd or anonymous_pull else AuthMode.NONE),
        htpasswd=htpasswd,
        anonymous_pull=anonymous_pull,
        token_lifetime=token_lifetime,
        on_request=_request_log(voice),
    )
    serving = partial(_serve, folder, settings, host=host, port=port, voice=voice)
    # Ending is all that a signal asks of it: there is nothing to say.
    run(lambda: stoppable(serving, say=lambda _: None))
    return ExitCode.DONE


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``; an IPv6 address is in brackets.

    Raises:
        UsageError: when it is anything else.
    """
    host, _, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    number = int(port) if port.isascii() and port.isdigit() else _HIGHEST_PORT + 1
    if not bare or number > _HIGHEST_PORT or (":" in bare and not host.startswith("[")):
        raise UsageError(
            f"--listen {text!r} is not HOST:PORT",
            hint="For example 127.0.0.1:5000 or [::1]:5000; 0.0.0.0:5000 is every address of this machine.",
        )
    return bare, number


def check_tree(folder: Path) -> None:
    """Refuse what is no folder, and one that is a layout: as a tree it would be served without anything in it.

    Raises:
        UsageError: when ``folder`` itself is an OCI image layout, or no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is no folder", hint="Name a folder; it is made if it is not there.")
    if (folder / "oci-layout").is_file():
        raise UsageError(
            f"{folder} is one OCI image layout, not a tree of them",
            hint=f"Serve {folder.absolute().parent}; the layout is its repository {folder.absolute().name!r}.",
        )


async def _serve(
    folder: Path, settings: ServerSettings, stop: anyio.Event, *, host: str, port: int, voice: Voice
) -> None:
    tree = LayoutTree(folder)
    try:
        async with RegistryServer(tree, settings, host=host, port=port) as server:
            await anyio.to_thread.run_sync(_announce, server, folder, voice)
            await stop.wait()
    finally:
        with anyio.CancelScope(shield=True):
            await tree.close()


def _announce(server: RegistryServer, folder: Path, voice: Voice) -> None:
    if voice.as_json:
        print_line(json.dumps({"address": server.address, "url": server.url}))
    else:
        print_line(f"Serving {folder} at {server.url}")
    sys.stdout.flush()


def _request_log(voice: Voice) -> Callable[[RequestRecord], None] | None:
    """Set logging up, and return what writes a line for each request where such lines are wanted."""
    level = LogLevel.ERROR if voice.quiet else LogLevel(voice.log_level.value)
    logger = configure_logging(json=voice.log_format is LogFormat.JSON, level=level)
    if level.number > logging.INFO:
        return None

    def note(record: RequestRecord) -> None:
        logger.log(
            logging.INFO,
            "server.request_finished",
            method=record.method,
            path=record.path,
            status=record.status,
            bytes_in=record.bytes_in,
            bytes_out=record.bytes_out,
            seconds=round(record.seconds, 4),
            user=record.user,
        )

    return note
