"""``syncer inspect``: what an image is made of."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated

import typer

from syncer.app.copying import locator
from syncer.app.places import Opened
from syncer.cli.exits import ExitCode
from syncer.cli.images import Shown, choose, fetch_config, labels, look, summary, to_json
from syncer.cli.options import AuthFile, ReachOptions, RegistriesConf, RegistryReach, Spoken, spread
from syncer.cli.rendering import print_bytes, print_json, print_line, print_pairs
from syncer.cli.sessions import opened
from syncer.content import Source
from syncer.errors import UsageError
from syncer.oci.manifest import Manifest
from syncer.oci.platform import Platform
from syncer.oci.reference import PathReference, Reference, parse_reference
from syncer.telemetry.quantities import format_count, format_size
from syncer.telemetry.redaction import printable


@spread
def inspect(
    reference: Annotated[
        str,
        typer.Argument(metavar="REF", help="The image: host/repository:tag, oci:PATH:tag, …", show_default=False),
    ],
    reach: RegistryReach,
    voice: Spoken,
    raw: Annotated[bool, typer.Option("--raw", help="Print the exact bytes of the manifest and nothing else.")] = False,
    config: Annotated[bool, typer.Option("--config", help="Print the exact bytes of the configuration.")] = False,
    platform: Annotated[
        str,
        typer.Option(
            "--platform",
            metavar="OS/ARCH[/VARIANT]",
            help="Which image of an index to look at. [default: this machine's, else the first]",
            show_default=False,
        ),
    ] = "",
    authfile: AuthFile = "",
    registries_conf: RegistriesConf = "",
) -> int:
    """Show what an image is made of.

    Digest, media type, platforms, configuration, layers with their sizes, labels, and what refers to it
    (signatures, SBOMs). Of an index one image is described in full. No layer is downloaded.
    """
    parsed = parse_reference(reference)
    wanted = Platform.parse(platform) if platform else None
    if raw and config:
        raise UsageError("--raw and --config are two different documents", hint="Ask for one of them.")
    if (raw or config) and voice.as_json:
        raise UsageError("--raw and --config print bytes as they are", hint="Leave --output out.")
    if raw or config:
        exact = partial(_bytes, reference=parsed, reach=reach, wanted=wanted, config=config)
        print_bytes(opened(exact, voice=voice, authfile=authfile, registries_conf=registries_conf))
        return ExitCode.DONE

    async def work(places: Opened) -> Shown:
        source = await places.source(parsed, reach.reach())
        return await look(source, locator(parsed), reference=str(parsed), wanted=wanted)

    shown = opened(work, voice=voice, authfile=authfile, registries_conf=registries_conf)
    if voice.as_json:
        print_json(to_json(shown))
    else:
        print_shown(shown)
    return ExitCode.DONE


async def _bytes(
    places: Opened, *, reference: Reference | PathReference, reach: ReachOptions, wanted: Platform | None, config: bool
) -> bytes:
    source = await places.source(reference, reach.reach())
    top = await source.fetch_manifest(locator(reference))
    if not config and wanted is None:
        return top.raw
    image = await _image(source, top, wanted)
    return await fetch_config(source, image) if config else image.raw


async def _image(source: Source, top: Manifest, wanted: Platform | None) -> Manifest:
    link = choose(top, wanted)
    return await source.fetch_manifest(link.digest) if link else top


def print_shown(shown: Shown) -> None:
    """Print what was looked at, for a person."""
    top = shown.top
    print_pairs(
        [
            ("reference", shown.reference),
            ("digest", top.digest),
            ("media type", top.media_type),
            ("artifact type", top.artifact_type),
            ("size", format_size(top.size)),
            ("subject", top.subject.digest if top.subject else ""),
        ]
    )
    if top.is_index:
        print_line(f"\nmanifests ({len(top.manifests)})")
        for child in top.manifests:
            name = str(child.platform) if child.platform else child.artifact_type or child.media_type
            print_line(f"  {child.digest}  {format_size(child.size):>9}  {printable(name)}")
    _print_image(shown)
    _print_mapping("annotations", top.annotations)
    if shown.companions:
        print_line(f"\ncosign tags ({len(shown.companions)})")
        for tag in shown.companions:
            print_line(f"  {tag}")
    if shown.companions_unknown:
        print_line(f"\ncosign tags: not known, {printable(shown.companions_unknown)}")
    if shown.referrers is not None:
        print_line(f"\nreferrers ({len(shown.referrers)})" if shown.referrers else "\nno referrers")
        for link in shown.referrers:
            kind = link.artifact_type or link.media_type
            print_line(f"  {link.digest}  {format_size(link.size):>9}  {printable(kind)}")


def _print_image(shown: Shown) -> None:
    image = shown.image
    if image is None:
        return
    total = format_size(sum(blob.size for blob in image.blobs()))
    layers = format_count(len(image.layers), "layer")
    print_line(f"\n{f'image {printable(shown.platform)}'.rstrip()}: {layers}, {total}")
    print_pairs(
        [
            ("digest", image.digest if image is not shown.top else ""),
            *((name, printable(value)) for name, value in summary(shown.config)),
            ("config", f"{image.config.digest} ({format_size(image.config.size)})" if image.config else ""),
        ],
        indent="  ",
    )
    print_line("  layers")
    for layer in image.layers:
        print_line(f"    {layer.digest}  {format_size(layer.size):>9}  {printable(layer.media_type)}")
    _print_mapping("labels", labels(shown.config))


def _print_mapping(name: str, values: Mapping[str, str]) -> None:
    if values:
        print_line(f"\n{name}")
        print_pairs([(printable(key), printable(value)) for key, value in sorted(values.items())], indent="  ")
