"""``syncer copy``: one image from one place to another."""

from pathlib import Path
from typing import Annotated

import typer

from syncer.app.copying import copy_image
from syncer.app.loop import run
from syncer.app.places import Opened
from syncer.app.stopping import DRAIN, stoppable
from syncer.app.surroundings import Surroundings
from syncer.app.ticking import beside
from syncer.cli.exits import ExitCode
from syncer.cli.files import check_writable, write_text
from syncer.cli.options import AuthFile, DrainSeconds, Progressing, RegistriesConf, SourceReach, TargetReach, spread
from syncer.cli.rendering import print_json, print_line
from syncer.cli.sessions import until
from syncer.cli.voices import listeners, speaker
from syncer.engine.draining import Drain
from syncer.engine.images import Copied
from syncer.errors import UsageError
from syncer.events import Observers
from syncer.oci.platform import Platform
from syncer.oci.reference import parse_reference

SourceReference = Annotated[
    str, typer.Argument(metavar="SRC", help="The image: host/repository:tag, oci:PATH:tag, …", show_default=False)
]
TargetReference = Annotated[
    str, typer.Argument(metavar="DST", help="Where to; a registry without a tag means latest.", show_default=False)
]
Everything = Annotated[
    bool,
    typer.Option(
        "--all", "-a", help="Copy all platforms: the default, accepted for Skopeo's sake.", show_default=False
    ),
]
Platforms = Annotated[
    list[str] | None,
    typer.Option(
        "--platform",
        metavar="OS/ARCH[/VARIANT]",
        help="Copy only this platform of an index; repeat for more. The digest changes.",
        show_default=False,
    ),
]
NoReferrers = Annotated[
    bool, typer.Option("--no-referrers", help="Leave signatures, SBOMs and attestations.", show_default=False)
]
DigestFile = Annotated[
    Path | None,
    typer.Option("--digestfile", metavar="FILE", help="Write the digest to this file too.", show_default=False),
]


@spread
def copy(
    source: SourceReference,
    target: TargetReference,
    source_reach: SourceReach,
    target_reach: TargetReach,
    voice: Progressing,
    everything: Everything = False,
    platform: Platforms = None,
    no_referrers: NoReferrers = False,
    digestfile: DigestFile = None,
    drain: DrainSeconds = DRAIN,
    authfile: AuthFile = "",
    registries_conf: RegistriesConf = "",
) -> int:
    """Copy one image, with everything that refers to it.

    All platforms, bit by bit: the digest stays what it was. Signatures, SBOMs and attestations travel along. What
    the target has already is not sent again. Prints the digest.
    """
    if everything and platform:
        raise UsageError("--all and --platform contradict each other", hint="Leave one of them out.")
    from_reference, to_reference = parse_reference(source), parse_reference(target)
    platforms = tuple(Platform.parse(text) for text in platform or ())
    if digestfile is not None:
        check_writable(digestfile)
    observers = listeners(voice, label="copy")
    observer = Observers(*observers)
    # There is one image, and it is under way from the beginning.
    draining = Drain(drain)
    surroundings = Surroundings.of_process(authfile=authfile, registries_conf=registries_conf, sleep=draining.sleep)

    async def work() -> Copied:
        async with beside(observers), Opened(surroundings, observer) as opened:
            return await copy_image(
                from_reference,
                to_reference,
                opened=opened,
                observer=observer,
                platforms=platforms,
                referrers=not no_referrers,
                source_reach=source_reach.reach(),
                target_reach=target_reach.reach(),
            )

    copied = run(lambda: stoppable(lambda stop: until(stop, work), say=speaker(voice), drain=draining))
    if digestfile is not None:
        write_text(digestfile, copied.digest)
    if voice.as_json:
        print_json(
            {
                "source": str(from_reference),
                "target": str(to_reference),
                "digest": copied.digest,
                "source_digest": copied.source_digest,
                "referrers": copied.referrers,
            }
        )
    else:
        print_line(copied.digest)
    return ExitCode.DONE
