"""``syncer delete``: a tag, and only where it is asked for the manifest with all its tags."""

from typing import Annotated

import typer

from syncer.app.places import Opened
from syncer.cli.exits import ExitCode
from syncer.cli.options import AuthFile, ReachOptions, RegistryReach, Spoken, spread
from syncer.cli.rendering import print_json, print_line
from syncer.cli.sessions import opened
from syncer.content import Deleter, Source, Target
from syncer.errors import Unsupported, UsageError
from syncer.oci.digest import Digest
from syncer.oci.reference import PathReference, Reference, Transport, parse_reference


@spread
def delete(
    reference: Annotated[str, typer.Argument(metavar="REF", help="host/repository:tag.", show_default=False)],
    reach: RegistryReach,
    voice: Spoken,
    manifest: Annotated[
        bool,
        typer.Option(
            "--digest",
            "--force",
            help="Delete the manifest, and with it every tag that points to it.",
            show_default=False,
        ),
    ] = False,
    authfile: AuthFile = "",
) -> int:
    """Delete a tag, and nothing else.

    The manifest and its other tags stay. Some registries cannot delete a tag on its own: there nothing
    is deleted, unless --digest says that the manifest may go, and with it all tags it has.
    """
    parsed = _checked(parse_reference(reference), manifest=manifest)

    async def work(places: Opened) -> Digest | None:
        repository = await _repository(places, parsed, reach)
        if not isinstance(repository, Deleter):
            raise UsageError(f"nothing can be deleted from {parsed}", hint="Remove the file or directory instead.")
        if not manifest:
            await _delete_tag(repository, parsed)
            return None
        digest = parsed.digest or (await repository.resolve(parsed.tag)).digest
        await repository.delete_manifest(digest)
        return digest

    digest = opened(work, voice=voice, authfile=authfile)
    if voice.as_json:
        print_json({"reference": str(parsed), "deleted": "manifest" if digest else "tag", "digest": digest})
    elif digest:
        print_line(f"Deleted the manifest {digest} of {parsed}, and with it every tag that pointed to it.")
    else:
        print_line(f"Deleted the tag {parsed}; its manifest is still there.")
    return ExitCode.DONE


def _checked(reference: Reference | PathReference, *, manifest: bool) -> Reference | PathReference:
    if isinstance(reference, PathReference) and reference.transport is not Transport.OCI:
        raise UsageError(
            f"nothing can be deleted from {reference}", hint="Remove the file or directory as a whole instead."
        )
    if reference.tag and reference.digest:
        raise UsageError(f"{reference} has a tag and a digest", hint="Say which of them is to be deleted.")
    if not reference.tag and not reference.digest:
        raise UsageError(f"{reference} names no tag", hint="Nothing is deleted by default: write the tag, :latest too.")
    if reference.digest and not manifest:
        raise UsageError(
            f"{reference} is a manifest: every tag that points to it would go with it",
            hint="If that is meant, add --digest.",
        )
    return reference


async def _repository(places: Opened, reference: Reference | PathReference, reach: ReachOptions) -> Source | Target:
    if isinstance(reference, Reference):
        return await places.target(reference, reach.reach())
    # Opened for writing, a layout that is not there would be made.
    return await places.source(reference)


async def _delete_tag(repository: Source | Target, reference: Reference | PathReference) -> None:
    try:
        assert isinstance(repository, Deleter)  # noqa: S101 - for the type checker; the caller has looked
        await repository.delete_tag(reference.tag)
    except Unsupported as error:
        if "read-only" in error.message:
            raise
        # Before advice is given on what to do instead: is there such a tag at all?
        await repository.resolve(reference.tag)
        raise Unsupported(
            f"{reference.registry if isinstance(reference, Reference) else reference} cannot delete a tag on its own, "
            f"so {reference} was left as it is",
            status=error.status,
            codes=error.codes,
            registry=error.registry,
            method=error.method,
            url=error.url,
            side=error.side,
            hint="It could only remove the manifest, and with it all tags that point to it. If that is meant, add "
            "--digest.",
        ) from None
