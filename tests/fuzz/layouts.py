"""OCI layouts (``oci-layout``, ``index.json``, the journal, the list of referrers, a manifest's file), and ``dir:``."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncer.errors import ContentError, LayoutError, NotFound, SyncerError
from syncer.layout.dir import DirSource, DirTarget
from syncer.layout.repository import LayoutRepository
from syncer.layout.store import LayoutStore
from syncer.oci import Digest
from tests.fuzz.documents import strict
from tests.fuzz.stage import Family, always
from tests.support import images
from tests.support.mutating import mutated_bytes, mutated_json
from tests.support.transfer import push

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path
    from random import Random
    from typing import Any

    from syncer.content import Source
    from tests.fuzz.stage import Reader

IMAGE = images.image(layers=1, size=64, seed="layouts")
INDEX = images.index(layers=1, size=64, seed="layouts")
SIGNATURE = images.artifact(subject=IMAGE.manifest, seed="layouts")
ADDED = images.image(layers=1, size=32, seed="added")


#: Stands in a document for the digest of the good index.json, which a list of referrers must name to be looked at.
_PLACEHOLDER = Digest(f"sha256:{'0' * 64}")


async def _fill(path: Path) -> None:
    store = await LayoutStore.open(path, create=True, durable=False)
    repository = LayoutRepository(store)
    await push(repository, IMAGE, "image")
    await push(repository, INDEX, "index")
    await push(repository, SIGNATURE)
    await store.referrers(IMAGE.digest)
    await store.close()


async def read_all(source: Source, references: tuple[str, ...]) -> SyncerError | None:
    """Ask a source for what there is; return the last refusal, which is no reason not to ask for the rest."""
    refused: SyncerError | None = None
    tags = [tag async for tag in source.tags()]
    for reference in dict.fromkeys(("", *references, *tags[:5])):
        try:
            found = await source.resolve(reference)
            manifest = await source.fetch_manifest(reference)
            assert found.digest == manifest.digest
            assert manifest.digest.matches(manifest.raw), "a manifest is what its digest says"
            for descriptor in list(manifest.blobs())[:3]:
                async with source.fetch_blob(descriptor) as chunks:
                    async for chunk in chunks:
                        assert chunk
        except NotFound as error:
            # Without a reference there has to be one image, and no more.
            refused = refused if reference == "" else error
        except SyncerError as error:
            refused = error
    return refused


async def _read_layout(path: Path) -> None:
    store = await LayoutStore.open(path, durable=False)
    refused: SyncerError | None
    try:
        refused = await read_all(LayoutRepository(store), (IMAGE.digest, INDEX.digest, SIGNATURE.digest))
        try:
            await store.referrers(IMAGE.digest)
            await push(LayoutRepository(store), ADDED, "added")
            await store.delete_tag("added")
            await store.put_manifest(ADDED.manifest, "added")
        except (ContentError, LayoutError) as error:
            refused = error
    finally:
        await store.close()
    strict((path / "index.json").read_bytes())
    again = await LayoutStore.open(path, durable=False)
    assert again.tags() == store.tags(), "what was written is read as it was"
    await again.close()
    if refused is not None:
        raise refused


async def _read_directory(path: Path) -> None:
    source = await DirSource.open(path)
    refused = await read_all(source, ("latest", *(child.digest for child in INDEX.children)))
    async with await DirTarget.open(path, durable=False) as target:
        await push(target, IMAGE, "1")
    assert (await (await DirSource.open(path)).fetch_manifest("")).raw == IMAGE.manifest.raw
    if refused is not None:
        raise refused


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A good folder, made once; ``file`` in a copy of it is what is read."""

    fill: Callable[[Path], Coroutine[Any, Any, None]]
    read: Callable[[Path], Coroutine[Any, Any, None]]
    file: str

    def opened(self) -> Callable[[Path], AbstractContextManager[Reader]]:
        """Give a reader that puts a document in the place of the file."""

        @contextmanager
        def opened(folder: Path) -> Iterator[Reader]:
            good, tried = folder / "good", folder / "tried"
            with asyncio.Runner() as runner:
                runner.run(self.fill(good))

                def read(data: bytes) -> None:
                    shutil.copytree(good, tried)
                    try:
                        index = good / "index.json"
                        digest = Digest.of(index.read_bytes()) if index.exists() else _PLACEHOLDER
                        (tried / self.file).write_bytes(data.replace(_PLACEHOLDER.encode(), digest.encode()))
                        runner.run(self.read(tried))
                    finally:
                        shutil.rmtree(tried)

                yield read

        return opened


async def _fill_directory(path: Path) -> None:
    async with await DirTarget.open(path, durable=False) as target:
        await push(target, INDEX, "1")


def _in_layout(file: str) -> Callable[[Path], AbstractContextManager[Reader]]:
    return _Made(fill=_fill, read=_read_layout, file=file).opened()


def _in_directory(file: str) -> Callable[[Path], AbstractContextManager[Reader]]:
    return _Made(fill=_fill_directory, read=_read_directory, file=file).opened()


def _entry(sample: images.Sample, **annotations: str) -> dict[str, object]:
    return {**sample.manifest.descriptor.to_json(), "annotations": annotations}


_REF = "org.opencontainers.image.ref.name"
_INDEX_JSON = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.index.v1+json",
    "manifests": [
        _entry(IMAGE, **{_REF: "image"}),
        _entry(INDEX, **{_REF: "index", "a": "b"}),
        {**SIGNATURE.manifest.descriptor.to_json(), "platform": {"os": "linux", "architecture": "amd64"}},
    ],
    "annotations": {"kept": "yes", "number": 1},
}
_LINES = (
    {"put": IMAGE.manifest.descriptor.to_json(), "tag": "again", "covers": [SIGNATURE.digest]},
    {
        "put": SIGNATURE.manifest.descriptor.to_json(),
        "subject": IMAGE.digest,
        "referrer": SIGNATURE.manifest.referrer_descriptor.to_json(),
    },
    {"untag": "index"},
    # Not one that is read afterwards: what is removed is not there any more.
    {"remove": ADDED.digest, "orphans": [child.descriptor.to_json() for child in INDEX.children]},
)


def mutate_lines(random: Random, data: bytes) -> bytes:
    """Change a line of a journal by its structure, or their order, or the whole by its bytes."""
    lines = data.splitlines(keepends=True)
    if not lines or random.random() < 0.2:
        return mutated_bytes(random, data)
    at = random.randrange(len(lines))
    lines[at] = mutated_json(random, lines[at]).replace(b"\n", b"") + b"\n"
    if random.random() < 0.3:
        random.shuffle(lines)
    return b"".join(lines)


FAMILIES = (
    Family(
        name="layout_versions",
        is_slow=True,
        seeds=always(b'{"imageLayoutVersion": "1.0.0"}', b'{"imageLayoutVersion":"2.0.0"}'),
        opened=_in_layout("oci-layout"),
    ),
    Family(
        name="layout_indexes",
        is_slow=True,
        seeds=always(json.dumps(_INDEX_JSON).encode()),
        opened=_in_layout("index.json"),
    ),
    Family(
        name="journals",
        is_slow=True,
        seeds=always(b"".join(json.dumps(line).encode() + b"\n" for line in _LINES)),
        opened=_in_layout(".syncer/journal"),
        mutate=mutate_lines,
    ),
    Family(
        name="layout_referrers",
        is_slow=True,
        seeds=always(
            json.dumps(
                {"index": _PLACEHOLDER, "referrers": [[IMAGE.digest, SIGNATURE.manifest.descriptor.to_json()]]}
            ).encode()
        ),
        opened=_in_layout(".syncer/referrers.json"),
    ),
    Family(
        name="layout_blobs",
        is_slow=True,
        seeds=always(IMAGE.manifest.raw),
        opened=_in_layout(f"blobs/sha256/{IMAGE.digest.encoded}"),
    ),
    Family(
        name="dir_manifests",
        is_slow=True,
        seeds=always(INDEX.manifest.raw, IMAGE.manifest.raw),
        opened=_in_directory("manifest.json"),
    ),
    Family(
        name="dir_versions",
        is_slow=True,
        seeds=always(b"Directory Transport Version: 1.1\n"),
        opened=_in_directory("version"),
        mutate=mutated_bytes,
    ),
)
