"""Debian's skopeo as an independent client."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest

from syncer.layout.store import LayoutStore
from syncer.server import AuthMode
from syncer.server.passwords import encode_password
from tests.integration.server.peer import serving
from tests.support import images

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.witness,
    pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed (apt-get install skopeo)"),
]


async def skopeo(*arguments: str) -> bytes:
    """Run skopeo and return what it prints."""
    started = await asyncio.create_subprocess_exec(
        "skopeo",
        "--insecure-policy",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await started.communicate()
    assert started.returncode == 0, err.decode()
    return out


async def layout(path: Path, sample: images.Sample) -> None:
    """Write a sample as the layout's tag ``in``."""
    store = await LayoutStore.open(path, create=True, durable=False)
    blobs = {blob.digest: blob for manifest in sample.manifests for blob in manifest.blobs()}

    for digest, data in sample.blobs.items():

        async def chunks(data: bytes = data):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a generator of one chunk
            yield data

        await store.write_blob(blobs[digest], chunks())
    for child in sample.children:
        await store.put_manifest(child)
    await store.put_manifest(sample.manifest, "in")
    await store.close()


@pytest.mark.parametrize("mode", list(AuthMode))
@pytest.mark.parametrize("kind", ["image", "index"])
async def test_push_and_copy_back(tmp_path: Path, mode: AuthMode, kind: str) -> None:
    """Skopeo pushes from a layout and copies back: the same digests, with every kind of login."""
    sample = images.real_image(seed=kind)
    if kind == "index":
        sample = images.index_of([sample, images.real_image(seed="other")])
    await layout(tmp_path / "in", sample)
    htpasswd = tmp_path / "htpasswd"
    htpasswd.write_text(f"ann:{encode_password('secret')}\n")
    login = [] if mode is AuthMode.NONE else ["--creds", "ann:secret"]
    async with serving(tmp_path / "registry", auth=mode, htpasswd=None if mode is AuthMode.NONE else htpasswd) as peer:
        image = f"docker://{peer.server.address}/team/app:1.0"
        plain = [option.replace("--creds", "--dest-creds") for option in login]
        await skopeo(
            "copy", "--all", "--preserve-digests", "--dest-tls-verify=false", *plain, f"oci:{tmp_path / 'in'}:in", image
        )
        raw = await skopeo("inspect", "--raw", "--tls-verify=false", *login, image)
        assert raw == sample.manifest.raw
        plain = [option.replace("--creds", "--src-creds") for option in login]
        await skopeo(
            "copy",
            "--all",
            "--preserve-digests",
            "--src-tls-verify=false",
            *plain,
            image,
            f"oci:{tmp_path / 'out'}:out",
        )
        tags = await skopeo("list-tags", "--tls-verify=false", *login, f"docker://{peer.server.address}/team/app")
        assert b'"1.0"' in tags
    back = await LayoutStore.open(tmp_path / "out")
    assert (await back.resolve("out")).digest == sample.digest
    for digest, data in sample.blobs.items():
        assert back.blob_path(digest).read_bytes() == data


async def test_delete_and_read_the_tree(tmp_path: Path) -> None:
    """Skopeo reads a repository of the tree as the layout it is, and deletes through the registry."""
    sample = images.real_image()
    async with serving(tmp_path / "registry") as peer:
        await peer.push("library/alpine", sample, "3.19")
        await peer.tree.flush()
        tree = f"oci:{tmp_path / 'registry' / 'library' / 'alpine'}:3.19"
        assert await skopeo("inspect", "--raw", tree) == sample.manifest.raw
        await skopeo("delete", "--tls-verify=false", f"docker://{peer.server.address}/library/alpine:3.19")
        assert (await peer.ask("HEAD", "/v2/library/alpine/manifests/3.19")).status == 404
