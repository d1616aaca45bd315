"""Manifests that a target acknowledges and does not give back, as docker-registry does after its disk was full."""

from __future__ import annotations

import pytest

from syncer.errors import QuotaExceeded, ServerFailure, Side
from syncer.events import TagOutcome
from tests.support import images
from tests.unit.engine.test_runs import ONE, World


def full(digest: str) -> tuple[str, str, QuotaExceeded]:
    """Return what makes the target fail once at writing ``digest``."""
    error = QuotaExceeded("no space left on device", registry="target", method="PUT", url="", status=500)
    return "put", digest, error


@pytest.mark.parametrize("is_child", [True, False], ids=["child", "top"])
async def test_what_failed_once_is_asked_for_when_it_is_written(*, is_child: bool) -> None:
    """A tag that failed before is copied when the target has all its manifests, not when it says to have taken them."""
    world = World()
    sample = images.index()
    world.source.store("app", sample, "v1")
    hollow = sample.children[1].digest if is_child else sample.digest
    world.target.hollow.add(hollow)
    world.target.fail(*full(hollow if is_child else "v1"))
    assert (await world.run(ONE))["v1"].outcome is TagOutcome.FAILED
    event = (await world.run(ONE))["v1"]
    assert event.outcome is TagOutcome.FAILED
    assert isinstance(event.error, ServerFailure)
    assert event.error.side is Side.TARGET
    assert "does not give it back" in event.error.hint
    assert "v1" not in world.target.tagged.get("mirror/app", {})

    world.target.hollow.clear()
    assert (await world.run(ONE))["v1"].outcome in (TagOutcome.COPIED, TagOutcome.IN_SYNC)
    world.target.log.clear()
    assert (await world.run(ONE))["v1"].outcome is TagOutcome.IN_SYNC
    assert world.target.counts() == {"head": 1}


async def test_a_child_that_another_image_has_written_is_asked_for_as_well() -> None:
    """Of two tags with a child in common one failed before: whoever writes the child, it is asked for."""
    world = World()
    child = images.image(seed="shared")
    samples = {f"v{at}": images.index_of([child, images.image(seed=at)]) for at in range(3)}
    world.source.store("app", samples["v0"], "v0")
    world.target.hollow.add(child.digest)
    world.target.fail(*full(child.digest))
    assert (await world.run(ONE))["v0"].outcome is TagOutcome.FAILED
    for tag in ("v1", "v2"):
        world.source.store("app", samples[tag], tag)
    assert (await world.run(ONE))["v0"].outcome is TagOutcome.FAILED


async def test_a_recheck_finds_what_is_not_given_back() -> None:
    """What a recheck calls in sync is there, its children too."""
    world = World()
    sample = images.index()
    world.source.store("app", sample, "v1")
    await world.run(ONE)
    world.target.hollow.add(sample.children[0].digest)
    assert (await world.run(ONE, recheck=True))["v1"].outcome is TagOutcome.FAILED
