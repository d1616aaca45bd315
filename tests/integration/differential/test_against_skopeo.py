"""The same images through Syncer and through Skopeo: what arrives is compared on the disks of the registries."""

from __future__ import annotations

import re
import tarfile
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.to_thread import run_sync

from syncer.app.copying import copy_image
from syncer.app.places import Opened
from syncer.oci import parse_reference
from tests.support.docker_registry import docker_registry, find_skopeo
from tests.support.observing import Recorder
from tests.support.random_images import RandomRepository
from tests.support.transfer import check, push
from tests.support.world import HERE, fill, run, spec_between

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.docker_registry import Witness

pytestmark = pytest.mark.witness
#: What a registry of Docker's notes of each list of referrers that was ever under its tag.
_LIST = re.compile(r"(?P<tag>.*/_manifests/tags/sha256-[0-9a-f]{64})/index/sha256/(?P<digest>[0-9a-f]{64})/link")
#: A repository that Skopeo can carry whole, and one with indexes in indexes and with referrers: Skopeo 1.9 refuses the
#: former and knows nothing of the latter.
PLAIN, FULL = "team/plain", "team/full"


async def skopeo(*arguments: str) -> None:
    """Run skopeo; it must succeed."""
    done = await anyio.run_process([find_skopeo(), "--insecure-policy", *arguments], check=False)
    assert done.returncode == 0, done.stderr.decode()


def held(registry: Witness) -> dict[str, bytes]:
    """Return what a registry has on its disk: blobs, links of manifests, layers and tags; no unfinished uploads.

    Of a list of referrers only the last counts. Who pushes referrers writes it, one after another as they come, so
    that the lists that it has been before are a matter of chance.
    """
    root = registry.storage / "data/docker/registry/v2"
    files = [path for path in root.rglob("*") if path.is_file() and "_uploads" not in path.parts]
    found = {str(path.relative_to(root)): path.read_bytes() for path in files}
    lists: dict[str, str] = {match["digest"]: match["tag"] for match in map(_LIST.fullmatch, found) if match}
    listed: dict[str, bytes] = {}
    for digest, tag in lists.items():
        if found.get(f"{tag}/current/link", b"").decode() == f"sha256:{digest}":
            del found[f"{tag}/current/link"]
            listed[f"{tag}/listed"] = found[f"blobs/sha256/{digest[:2]}/{digest}/data"]
    return {name: data for name, data in found.items() if not any(digest in name for digest in lists)} | listed


#: What skopeo is told of both registries.
_PLAIN_HTTP = ("--src-tls-verify=false", "--dest-tls-verify=false")


async def _by_skopeo(source: Witness, target: Witness, contents: dict[str, RandomRepository]) -> None:
    """Let skopeo carry what it can: the plain repository as a whole, of the other the tags without nested indexes."""
    await skopeo(
        *("sync", "--all", "--preserve-digests", *_PLAIN_HTTP, "--src", "docker", "--dest", "docker"),
        f"{source.host}/{PLAIN}",
        f"{target.host}/{PLAIN.rpartition('/')[0]}",
    )
    for tag, sample in contents[FULL].tags.items():
        if not any(child.is_index for child in sample.children):
            origin, place = (f"docker://{registry.host}/{FULL}:{tag}" for registry in (source, target))
            await skopeo("copy", "--all", "--preserve-digests", *_PLAIN_HTTP, origin, place)


@pytest.fixture
def registries(tmp_path: Path) -> Iterator[tuple[Witness, ...]]:
    """Run three registries: the source, and a target for each tool."""
    with ExitStack() as stack:
        yield tuple(stack.enter_context(docker_registry(tmp_path / name)) for name in ("source", "ours", "theirs"))


async def _compare(registries: tuple[Witness, ...], base: Path, seed: int) -> None:
    """Fill a registry, let both tools copy it into one each, and compare the three."""
    source, ours, theirs = registries
    contents: dict[str, RandomRepository] = {}
    for name in (PLAIN, FULL):
        contents[name] = await run_sync(partial(RandomRepository, f"{seed}/{name}", plain=name == PLAIN))
        await fill(source.host, name, contents[name].samples())
    entries = [f"name: {name}, from: source/{name}, to: target/{name}" for name in contents]
    report = await run(spec_between(source.host, ours.host, *entries), base)
    assert not report.failures
    await _by_skopeo(source, theirs, contents)
    wanted, got, witnessed = [await run_sync(held, registry) for registry in registries]
    assert got.keys() == wanted.keys()
    assert got == wanted, "what Syncer wrote is what was there"
    plain = f"repositories/{PLAIN}/"
    assert {name for name in got if name.startswith(plain)} == {name for name in witnessed if name.startswith(plain)}
    assert witnessed.items() <= got.items(), "what Skopeo wrote is what Syncer wrote"


@pytest.mark.parametrize("seed", range(2))
async def test_registries_hold_the_same(registries: tuple[Witness, ...], tmp_path: Path, seed: int) -> None:
    """A registry that Syncer fills from another one, and one that Skopeo fills, hold the same files as that one."""
    await _compare(registries, tmp_path, seed)


@pytest.mark.torture
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(100, 140))
async def test_registries_hold_the_same_for_many_seeds(
    registries: tuple[Witness, ...], tmp_path: Path, seed: int
) -> None:
    """Whatever is in it, what Syncer copies is what Skopeo copies."""
    await _compare(registries, tmp_path, seed)


async def _carry(tmp_path: Path, transport: str, seed: int) -> int:
    """Let Syncer write, Skopeo read and write, and Syncer read each image; return how many there were."""
    repository = await run_sync(partial(RandomRepository, f"{transport}/{seed}", plain=True))
    samples = list(repository.tags.values())
    if transport != "dir":
        # Skopeo's layouts hold OCI's types alone; others it converts, or refuses to where digests are to stay.
        samples = [one for one in samples if not any("docker" in manifest.media_type for manifest in one.manifests)]
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    suffix = "" if transport == "dir" else ":v1"
    for at, sample in enumerate(samples):
        written, copied = f"{transport}:{ours}-{at}{suffix}", f"{transport}:{theirs}-{at}{suffix}"
        async with Opened(HERE, Recorder()) as opened:
            await push(await opened.target(parse_reference(written)), sample, suffix.removeprefix(":"))
        await skopeo("copy", "--all", "--preserve-digests", written, copied)
        async with Opened(HERE, Recorder()) as opened:
            await check(await opened.source(parse_reference(copied)), sample, suffix.removeprefix(":"))
            again = parse_reference(f"{transport}:{tmp_path}/again-{at}{suffix}")
            await copy_image(parse_reference(copied), again, opened=opened, observer=Recorder(), referrers=False)
        contents = [await run_sync(_content, place, at) for place in (ours, theirs, tmp_path / "again")]
        assert contents[0] == contents[1] == contents[2]
    return len(samples)


def _content(place: Path, at: int) -> dict[str, bytes]:
    """Return the blobs of a layout, in its folder or its archive, or the files of a ``dir:``."""
    path = place.with_name(f"{place.name}-{at}")
    if path.is_file():
        with tarfile.open(path) as archive:
            files = {member.name.removeprefix("./"): archive.extractfile(member) for member in archive}
            content = {name: file.read() for name, file in files.items() if file is not None}
    else:
        content = {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    # index.json is another for each tool, and what is hidden is the tool's own.
    return {name: data for name, data in content.items() if name != "index.json" and not name.startswith(".")}


@pytest.mark.parametrize("transport", ["oci", "oci-archive", "dir"])
async def test_files_go_there_and_back(tmp_path: Path, transport: str) -> None:
    """What Syncer writes Skopeo reads, what Skopeo writes of it Syncer reads, and all hold the same bytes."""
    assert await _carry(tmp_path, transport, 3)


@pytest.mark.torture
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(200, 220))
@pytest.mark.parametrize("transport", ["oci", "oci-archive", "dir"])
async def test_files_go_there_and_back_for_many_seeds(tmp_path: Path, transport: str, seed: int) -> None:
    """Whatever is in them, layouts, archives and folders of both tools hold the same."""
    await _carry(tmp_path, transport, seed)
