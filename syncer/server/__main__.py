"""``python -m syncer.server ROOT [--listen HOST:PORT]``: serve a layout tree, and print the address."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import anyio
import structlog

from syncer.errors import SyncerError
from syncer.layout.tree import LayoutTree
from syncer.server import RegistryServer, ServerSettings


async def serve(root: Path, host: str, port: int, settings: ServerSettings) -> None:
    """Serve until SIGINT or SIGTERM; print ``host:port`` once requests are answered."""
    tree = LayoutTree(root, durable=settings.durable)
    try:
        async with RegistryServer(tree, settings, host=host, port=port) as server:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                print(server.address, flush=True)  # noqa: T201 - the address is this program's output
                async for _ in signals:
                    break
    finally:
        with anyio.CancelScope(shield=True):
            await tree.close()


def main() -> int:
    """Parse the command line and serve; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m syncer.server", description="Serve a tree of OCI image layouts.")
    parser.add_argument("root", type=Path, help="the directory of the tree; made when it is not there")
    parser.add_argument("--listen", default="127.0.0.1:5000", metavar="HOST:PORT", help="port 0 takes a free one")
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("--not-durable", action="store_true", help="do not sync to the disk: faster, for tests")
    parser.add_argument("--tag-digests", action="store_true", help="lists of tags tell what each tag stands for")
    arguments = parser.parse_args()
    host, _, port = arguments.listen.rpartition(":")
    if not host or not port.isdigit():
        parser.error(f"--listen is not HOST:PORT: {arguments.listen}")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    settings = ServerSettings(
        read_only=arguments.read_only, durable=not arguments.not_durable, tag_digests=arguments.tag_digests
    )
    try:
        anyio.run(serve, arguments.root, host.strip("[]"), int(port), settings)
    except SyncerError as error:
        print(error.paragraph(), file=sys.stderr)  # noqa: T201 - same
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
