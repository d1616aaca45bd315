"""The target deletes a tag and collects its garbage, and the state still knows all of it to be there."""

from __future__ import annotations

import pytest

from tests.faults.stateful.graphs import Image, Index
from tests.faults.stateful.scenario import Scenario

pytestmark = pytest.mark.untraced

GRAPH = Index(of=(Index(of=(Image(seed=1, layers=(1, 2)),)), Image(seed=2, layers=(2,))))


@pytest.mark.parametrize("cosign", ["", "sig"])
@pytest.mark.parametrize("part", [0, 2])
@pytest.mark.parametrize("keeps_blobs", [False, True])
@pytest.mark.parametrize("has_api", [False, True])
def test_what_refers_to_an_image_comes_back_with_it(
    part: int, cosign: str, *, keeps_blobs: bool, has_api: bool
) -> None:
    """Nothing links to a signature: that it is gone shows only to who asks."""
    scenario = Scenario(source={"referrers": has_api})
    scenario.push("app", {"v1": GRAPH})
    scenario.attach("app", "v1", 1, part=part, cosign=cosign)
    scenario.attach("app", "v1", 2, part=1)
    scenario.run()
    scenario.collect("app", "v1", keeps_blobs=keeps_blobs)
    scenario.run()
    scenario.run()
    scenario.close()
