"""What judges embedded registries while they serve finds planted violations of I1 and I9."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from syncer.events import TagFinished
from syncer.layout.repository import LayoutRepository
from syncer.layout.store import LayoutStore
from syncer.server import RequestRecord
from tests.support import images
from tests.support.faults.embedded import LayoutJudge, agreement
from tests.support.observing import Recorder
from tests.support.transfer import push
from tests.support.world import embedded, fill, run, spec_between

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SAMPLE = images.image(seed="judged", layers=1)
(LAYER,) = SAMPLE.manifest.layers
ACCEPTED = RequestRecord(
    method="PUT", path="/v2/app/manifests/v1", query="", status=201, bytes_in=0, bytes_out=0, seconds=0.0
)


def blob(app: Path, digest: str) -> Path:
    """Return where a blob is."""
    return app / "blobs" / digest.replace(":", "/")


def untag(app: Path, tag: str) -> None:
    """Take a tag away."""
    with (app / ".syncer" / "journal").open("a") as journal:
        journal.write(f'{{"untag":"{tag}"}}\n')


def damage(app: Path) -> None:
    """Add a line to the journal that is no change."""
    with (app / ".syncer" / "journal").open("a") as journal:
        journal.write("{}\n")


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lambda app: blob(app, LAYER.digest).unlink(), f"I1: app:v1 is {SAMPLE.digest}, and {LAYER.digest} is missing"),
        (lambda app: blob(app, SAMPLE.digest).unlink(), f"I1: app:v1 is {SAMPLE.digest}, and {SAMPLE.digest} is"),
        (lambda app: blob(app, LAYER.digest).write_bytes(b""), f"and {LAYER.digest} has 0 bytes in place of 1024"),
        (damage, "app: the journal has a line that is no change"),
    ],
    ids=["a layer is missing", "the manifest is missing", "a layer is cut off", "the journal is damaged"],
)
async def test_i1_in_a_layout(tmp_path: Path, plant: Callable[[Path], object], said: str) -> None:
    """A tag that is not whole when a manifest has been accepted is found; one that is, is not."""
    store = await LayoutStore.open(tmp_path / "app", create=True, durable=False)
    await push(LayoutRepository(store), SAMPLE, "v1")
    async with (judge := LayoutJudge(tmp_path)).watching():
        judge.answered(ACCEPTED)
    plant(tmp_path / "app")
    with pytest.raises(AssertionError, match=said):
        async with (judge := LayoutJudge(tmp_path)).watching():
            judge.answered(ACCEPTED)
    await store.close()


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lambda app: untag(app, "v1"), f"is said to be {SAMPLE.digest}, and is not there"),
        (lambda app: blob(app, LAYER.digest).unlink(), f"is said to be copied, and {LAYER.digest} is missing"),
    ],
    ids=["the tag is gone", "a layer is missing"],
)
async def test_i9_in_a_layout(tmp_path: Path, plant: Callable[[Path], object], said: str) -> None:
    """A tag that a run says to have copied, and that is not there whole, is found."""
    heard = Recorder()
    async with embedded(tmp_path / "source") as source, embedded(tmp_path / "target") as target:
        await fill(source.host, "app", {"v1": SAMPLE})
        spec = spec_between(source.host, target.host, "name: app, from: source/app, to: target/app")
        report = await run(spec, tmp_path, heard)
    finished, roots = heard.of(TagFinished), {target.host: tmp_path / "target"}
    assert agreement(report, finished, roots) == []
    plant(tmp_path / "target" / "app")
    (found,) = agreement(report, finished, roots)
    assert found.startswith(f"I9: {target.host}/app:v1 {said}")
