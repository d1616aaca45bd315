"""``syncer manifest-digest``: what a manifest's bytes hash to."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from syncer.app.copying import locator
from syncer.app.places import Opened
from syncer.cli.exits import ExitCode
from syncer.cli.options import AuthFile, RegistriesConf, RegistryReach, Spoken, spread
from syncer.cli.rendering import print_json, print_line
from syncer.cli.sessions import opened
from syncer.errors import SizeExceedsLimit, UsageError
from syncer.oci.digest import Digest
from syncer.oci.manifest import MAX_MANIFEST_SIZE
from syncer.oci.reference import Transport, parse_reference


@spread
def manifest_digest(
    manifest: Annotated[
        str,
        typer.Argument(
            metavar="FILE|REF",
            help="A file with a manifest, - for standard input, or a reference. What could be both is the file.",
            show_default=False,
        ),
    ],
    reach: RegistryReach,
    voice: Spoken,
    authfile: AuthFile = "",
    registries_conf: RegistriesConf = "",
) -> int:
    """Print the digest of a manifest.

    The bytes are hashed as they are, in a file or as the registry sends them.
    """
    data = _read(manifest)
    if data is not None:
        digest = Digest.of(data)
    else:
        parsed = parse_reference(manifest)

        async def work(places: Opened) -> Digest:
            source = await places.source(parsed, reach.reach())
            return (await source.fetch_manifest(locator(parsed))).digest

        digest = opened(work, voice=voice, authfile=authfile, registries_conf=registries_conf)
    if voice.as_json:
        print_json({"manifest": manifest, "digest": digest})
    else:
        print_line(digest)
    return ExitCode.DONE


def _read(manifest: str) -> bytes | None:
    """Return the bytes of a file, None for what is a reference."""
    if manifest == "-":
        return _bounded(sys.stdin.buffer.read(MAX_MANIFEST_SIZE + 1), "standard input")
    if manifest.startswith(("docker://", *(f"{transport}:" for transport in Transport))):
        return None
    path = Path(manifest)
    looks_like_path = manifest.startswith((".", "/", "~")) or path.suffix == ".json"
    if not looks_like_path and not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            return _bounded(file.read(MAX_MANIFEST_SIZE + 1), manifest)
    except OSError as error:
        raise UsageError(
            f"{manifest} cannot be read: {error.strerror or error}",
            hint="Name a file with a manifest; a reference may be written with docker:// in front.",
        ) from None


def _bounded(data: bytes, name: str) -> bytes:
    if len(data) > MAX_MANIFEST_SIZE:
        raise SizeExceedsLimit(f"{name} has over {MAX_MANIFEST_SIZE} bytes, which no manifest has")
    return data
