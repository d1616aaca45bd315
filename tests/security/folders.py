"""Attacks with directories and archives: links that lead out, names that climb, members that are no files."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING

from anyio import to_thread

from syncer.errors import LayoutError, MalformedManifest
from syncer.layout import files
from syncer.oci import Digest
from tests.security.content import any_digest
from tests.security.stage import Outcome, Row, Warehouse, rewritten, sync, wire
from tests.support import images

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SECRET = b"canary-file " * 300_000
SAMPLE = images.image(seed="folders")
OUTWARD = "name: e, from: usb/app, to: target/app"
INWARD = "name: e, from: source/app, to: usb/app"


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


async def copied_out(tmp_path: Path, root: Path) -> Outcome:
    """Sync a carried layout to a registry; the loot is what of the secret file came to be sent."""
    target = Warehouse()
    async with wire(target) as there:
        error = await sync(tmp_path, there.address, there.address, OUTWARD, layout=str(root))
    return Outcome(loot="the secret file" if b"canary-file" in there.raw else "", error=error)


def layout(root: Path, manifest: bytes, blobs: dict[str, bytes]) -> None:
    """Write an OCI layout by hand, with ``manifest`` under the tag ``v1``."""
    digest = Digest.of(manifest)
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest,
        "size": len(manifest),
        "annotations": {"org.opencontainers.image.ref.name": "v1"},
    }
    _write(root / "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    _write(root / "index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
    _write(root / "blobs" / "sha256" / digest.encoded, manifest)
    for name, data in blobs.items():
        _write(root / "blobs" / "sha256" / name, data)


def image_of(layer: str, size: int) -> bytes:
    """Return the sample's manifest with one layer of ``size`` bytes, whose digest may be anything."""
    document = json.loads(SAMPLE.manifest.raw)
    document["layers"] = [{**document["layers"][0], "digest": layer, "size": size}]
    return json.dumps(document).encode()


def _config() -> dict[str, bytes]:
    config = SAMPLE.manifest.config
    assert config is not None
    return {config.digest.encoded: SAMPLE.blobs[config.digest]}


async def link_in_source(tmp_path: Path) -> Outcome:
    """Carry a layout whose layer is a link to a file of the machine that reads it."""
    root, secret = tmp_path / "carried", tmp_path / "home" / "secret"

    def make() -> None:
        _write(secret, SECRET)
        layout(root / "app", image_of(f"sha256:{'a' * 64}", len(SECRET)), _config())
        (root / "app" / "blobs" / "sha256" / ("a" * 64)).symlink_to(secret)

    await to_thread.run_sync(make)
    return await copied_out(tmp_path, root)


async def digest_in_source(tmp_path: Path) -> Outcome:
    """Carry a layout whose manifest names a layer by a path out of it."""
    root, secret = tmp_path / "carried", tmp_path / "home" / "secret"

    def make() -> None:
        _write(secret, SECRET)
        layout(root / "app", image_of("sha256:../../../../home/secret", len(SECRET)), _config())

    await to_thread.run_sync(make)
    return await copied_out(tmp_path, root)


async def link_in_target(tmp_path: Path) -> Outcome:
    """Carry a layout whose folder of blobs is a link to a folder of the machine that writes it."""
    root, victim = tmp_path / "carried", tmp_path / "home"

    def make() -> None:
        victim.mkdir()
        layout(root / "app", SAMPLE.manifest.raw, {})
        (victim / "sha256").mkdir()
        for name in (root / "app" / "blobs" / "sha256").iterdir():
            name.rename(victim / "sha256" / name.name)
        (root / "app" / "blobs" / "sha256").rmdir()
        (root / "app" / "blobs").rmdir()
        (root / "app" / "blobs").symlink_to(victim)

    await to_thread.run_sync(make)
    before = await to_thread.run_sync(_files, victim)
    source = Warehouse()
    source.put(images.image(seed="folders/other"), "v1")
    async with wire(source) as from_here:
        error = await sync(tmp_path, from_here.address, "", INWARD, layout=str(root))
    after = await to_thread.run_sync(_files, victim)
    return Outcome(loot=" ".join(sorted(after - before)), error=error)


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def hostile_archive(file: Path, manifest: bytes) -> None:
    """Write a layout as a tar file, among members that unpacking would put elsewhere."""

    def add(tar: tarfile.TarFile, name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.size = kind, link, len(data)
        tar.addfile(member, io.BytesIO(data))

    digest = Digest.of(manifest)
    index = {"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json"}]}
    index["manifests"][0].update(digest=digest, size=len(manifest))  # type: ignore[index]  # a list of objects
    with tarfile.open(file, "w") as tar:
        add(tar, "../escaped", b"evil")
        add(tar, f"{file.parent}/absolute", b"evil")
        add(tar, "blobs", kind=tarfile.SYMTYPE, link="..")
        add(tar, f"blobs/sha256/{'b' * 64}", kind=tarfile.LNKTYPE, link="../home/secret")
        add(tar, f"blobs/sha256/{'c' * 64}", kind=tarfile.SYMTYPE, link="../../../home/secret")
        add(tar, f"blobs/sha256/{'d' * 64}", kind=tarfile.CHRTYPE)
        add(tar, "blobs/sha256/../../../escaped", b"evil")
        add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        add(tar, "index.json", json.dumps(index).encode())
        add(tar, f"blobs/sha256/{digest.encoded}", manifest)


def follow_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open whatever a path leads to."""
    rewritten(monkeypatch, files, "open_regular", " | os.O_NOFOLLOW", "")


ROWS = [
    Row(
        name="S3-layout",
        threat="a digest in a carried layout is a path to a file of this machine",
        defence="syncer.oci.digest.Digest.__new__",
        attack=digest_in_source,
        switch_off=any_digest,
        refusal=MalformedManifest,
    ),
    Row(
        name="S10-read",
        threat="a blob of a carried layout is a link to a file of this machine",
        defence="syncer.layout.files.open_regular",
        attack=link_in_source,
        switch_off=follow_links,
        refusal=LayoutError,
    ),
    Row(
        name="S10-write",
        threat="the blobs of a carried layout are a link to a folder of this machine",
        defence="syncer.layout.files.refuse_links",
        attack=link_in_target,
        switch_off=lambda patch: patch.setattr(files, "refuse_links", lambda *_: None),
        refusal=LayoutError,
    ),
]
