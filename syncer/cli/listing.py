"""``syncer list-tags`` and ``syncer list-repos``: names, one a line."""

from typing import Annotated

import typer

from syncer.app.places import Opened
from syncer.cli.exits import ExitCode
from syncer.cli.options import AuthFile, RegistriesConf, RegistryReach, Spoken, spread
from syncer.cli.rendering import print_json, print_line
from syncer.cli.sessions import opened
from syncer.errors import UsageError
from syncer.oci.reference import PathReference, Transport, parse_reference


@spread
def list_tags(
    repository: Annotated[
        str, typer.Argument(metavar="REPO", help="host/repository, or oci:PATH.", show_default=False)
    ],
    reach: RegistryReach,
    voice: Spoken,
    authfile: AuthFile = "",
    registries_conf: RegistriesConf = "",
) -> int:
    """List the tags of a repository.

    One a line, in the order of the registry, and nothing else.
    """
    parsed = parse_reference(repository)
    if parsed.tag or parsed.digest:
        raise UsageError(f"{repository!r} names an image, not a repository", hint="Leave the tag or the digest out.")

    if isinstance(parsed, PathReference) and parsed.transport is Transport.DIR:
        raise UsageError(f"{repository!r} holds one image, without a tag", hint="'syncer inspect' shows it.")

    async def work(places: Opened) -> list[str]:
        source = await places.source(parsed, reach.reach())
        return [tag async for tag in source.tags()]

    tags = opened(work, voice=voice, authfile=authfile, registries_conf=registries_conf)
    if voice.as_json:
        print_json({"repository": str(parsed) if isinstance(parsed, PathReference) else parsed.name, "tags": tags})
    else:
        for tag in tags:
            print_line(tag)
    return ExitCode.DONE


@spread
def list_repos(
    registry: Annotated[
        str, typer.Argument(metavar="REGISTRY", help="host[:port], or oci:PATH of a layout tree.", show_default=False)
    ],
    reach: RegistryReach,
    voice: Spoken,
    prefix: Annotated[
        str, typer.Option("--prefix", metavar="TEXT", help="Only names that start with this.", show_default=False)
    ] = "",
    authfile: AuthFile = "",
    registries_conf: RegistriesConf = "",
) -> int:
    """List the repositories of a registry.

    Many hosted registries do not list theirs; the error says so.
    """

    async def work(places: Opened) -> list[str]:
        catalog = await places.catalog(registry, reach.reach())
        return [name async for name in catalog.repositories(prefix)]

    names = opened(work, voice=voice, authfile=authfile, registries_conf=registries_conf)
    if voice.as_json:
        print_json({"registry": registry, "repositories": names})
    else:
        for name in names:
            print_line(name)
    return ExitCode.DONE
