"""An image as it is shown: its manifest, what that lists, its configuration, and what refers to it."""

from __future__ import annotations

import json
import platform
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from syncer.content import ReferrerLister, verified
from syncer.errors import MalformedManifest, NotFound, SizeExceedsLimit, TransportError, UsageError
from syncer.oci.platform import Platform
from syncer.oci.referrers import cosign_tags

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from syncer.content import Source
    from syncer.oci.descriptor import Descriptor
    from syncer.oci.manifest import Manifest

#: A configuration has a few kilobytes; what is larger is not one.
MAX_CONFIG = 8 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """What was looked at. ``top`` is what the reference names, ``image`` the one of it that is described."""

    reference: str
    top: Manifest
    image: Manifest | None = None
    platform: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    referrers: tuple[Descriptor, ...] | None = None
    #: What cosign before 3.0 keeps under tags of its own: signature, attestations, SBOM.
    companions: Mapping[str, Descriptor] = field(default_factory=dict)
    #: Why nobody knows whether there are more of them: a mirror has the image, and the registry is not there.
    companions_unknown: str = ""


async def look(source: Source, locator: str, *, reference: str, wanted: Platform | None = None) -> Shown:
    """Fetch what ``locator`` stands for, and for an index one of its images: ``wanted``, else this machine's.

    Raises:
        NotFound: when it is not there, or has no manifest for ``wanted``.
    """
    top = await source.fetch_manifest(locator)
    link = choose(top, wanted)
    image = top if not top.is_index else await source.fetch_manifest(link.digest) if link else None
    config: Mapping[str, Any] = {}
    if image is not None and image.config is not None and _is_image_config(image.config):
        config = read_config(await fetch_config(source, image))
    found = tuple(await source.referrers(top.digest)) if isinstance(source, ReferrerLister) else None
    unknown: list[str] = []
    companions = await find_companions(source, top, unknown)
    shown = str(link.platform) if link and link.platform else _platform_of(config)
    return Shown(
        reference=reference,
        top=top,
        image=image,
        platform=shown,
        config=config,
        referrers=found,
        companions=companions,
        companions_unknown=next(iter(unknown), ""),
    )


async def find_companions(source: Source, top: Manifest, unknown: list[str]) -> dict[str, Descriptor]:
    """Return what is under the tags that cosign makes of a digest, by tag; ``unknown`` gets why one could not be asked.

    The image itself is there by then, so a registry that is not is no reason to show nothing: a mirror sent it.
    """
    found: dict[str, Descriptor] = {}

    async def ask(tag: str) -> None:
        with suppress(NotFound):
            try:
                found[tag] = await source.resolve(tag)
            except TransportError as error:
                unknown.append(error.message)

    async with anyio.create_task_group() as group:
        for tag in cosign_tags(top.digest):
            group.start_soon(ask, tag)
    return dict(sorted(found.items()))


def choose(top: Manifest, wanted: Platform | None) -> Descriptor | None:
    """Return the entry of an index to describe; None for anything but an index, and for one without images."""
    images = [child for child in top.manifests if child.platform and not child.platform.is_unknown]
    if wanted is not None and top.is_index:
        for child in images:
            if child.platform and child.platform.satisfies(wanted):
                return child
        offered = ", ".join(sorted({str(child.platform) for child in images})) or "no platforms"
        raise NotFound(f"the index has no manifest for {wanted}; it has {offered}", hint="Choose one of these.")
    here = Platform.parse(f"{platform.system() or 'linux'}/{platform.machine() or 'amd64'}")
    fits = partial(_fits, here)
    return next(filter(fits, images), images[0] if images else None)


def _fits(here: Platform, child: Descriptor) -> bool:
    return child.platform is not None and child.platform.satisfies(here)


async def fetch_config(source: Source, image: Manifest) -> bytes:
    """Return the configuration's bytes, checked against its digest.

    Raises:
        UsageError: when the manifest has none.
        SizeExceedsLimit: when it is over 8 MiB.
    """
    if image.config is None:
        raise UsageError(f"the manifest {image.digest} has no configuration", hint="Print it with --raw instead.")
    if image.config.size > MAX_CONFIG:
        raise SizeExceedsLimit(f"the configuration {image.config.digest} has {image.config.size} bytes")
    async with source.fetch_blob(image.config) as chunks:
        return b"".join([chunk async for chunk in verified(chunks, image.config)])


def read_config(data: bytes) -> Mapping[str, Any]:
    """Return a configuration's members.

    Raises:
        MalformedManifest: when it is not a JSON object.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise MalformedManifest("the configuration is not valid JSON", hint="Print it with --config.") from None
    if not isinstance(value, dict):
        raise MalformedManifest("the configuration is not a JSON object", hint="Print it with --config.")
    return value


def to_json(shown: Shown) -> dict[str, Any]:
    """Return everything that was looked at as one JSON object."""
    top, image = shown.top, shown.image
    value: dict[str, Any] = {
        "reference": shown.reference,
        "digest": str(top.digest),
        "mediaType": top.media_type,
        "size": top.size,
        "artifactType": top.artifact_type or None,
        "subject": top.subject.to_json() if top.subject else None,
        "annotations": dict(top.annotations),
        "manifests": [child.to_json() for child in top.manifests],
        "image": None,
        "companions": {tag: link.to_json() for tag, link in shown.companions.items()},
        "companionsUnknown": shown.companions_unknown or None,
        "referrers": None if shown.referrers is None else [link.to_json() for link in shown.referrers],
    }
    if image is not None:
        value["image"] = {
            "digest": str(image.digest),
            "platform": shown.platform or None,
            "created": shown.config.get("created"),
            "config": image.config.to_json() if image.config else None,
            "layers": [layer.to_json() for layer in image.layers],
            "size": sum(blob.size for blob in image.blobs()),
            "labels": labels(shown.config),
        }
    return value


def labels(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of a configuration."""
    inner = config.get("config")
    found = inner.get("Labels") if isinstance(inner, dict) else None
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def summary(config: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Yield what people look for in a configuration."""
    yield "created", str(config.get("created") or "")
    yield "author", str(config.get("author") or "")
    inner = config.get("config")
    if not isinstance(inner, dict):
        return
    yield "entrypoint", _words(inner.get("Entrypoint"))
    yield "command", _words(inner.get("Cmd"))
    yield "user", str(inner.get("User") or "")
    yield "working dir", str(inner.get("WorkingDir") or "")
    ports = inner.get("ExposedPorts")
    yield "ports", ", ".join(map(str, ports)) if isinstance(ports, dict) else ""


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value or "")


def _platform_of(config: Mapping[str, Any]) -> str:
    return str(Platform.from_json(config)) if config.get("os") else ""


def _is_image_config(config: Descriptor) -> bool:
    return config.media_type.endswith(("image.config.v1+json", "container.image.v1+json"))
