"""The least that the protocol asks for, counted by hand for small cases."""

from __future__ import annotations

from benchmarks import workloads
from benchmarks.growth import GROWTHS


def test_first_sync_and_again() -> None:
    """Ten tags: five shared layers, one of each image's own, and its configuration."""
    first, again = workloads.first_and_again(10).parts
    blobs = 5 + 10 + 10
    assert (first.bound.source, first.bound.target) == (1 + 10 + blobs, 1 + 2 * blobs + 10)
    assert (again.bound.source, again.bound.target) == (11, 11)
    assert {name: (own.source, own.target) for name, own in again.own.items()} == {workloads.SOLE: (11, 1)}
    assert not first.own
    assert (first.moves, again.moves) == (True, False)


def test_one_large_layer() -> None:
    """A list, a manifest and two blobs; a look, two uploads and a manifest."""
    (part,) = workloads.large_layer(1000, is_secure=False).parts
    assert (part.bound.source, part.bound.target) == (4, 6)


def test_promotion_is_three_requests_and_the_mounts() -> None:
    """Each image: a look, its manifest read and written, and a mount for each blob; and its repository's list."""
    (part,) = workloads.promotion(3).parts
    blobs = 5 + 1 + 1
    assert part.bound.source == part.bound.target == 1 + 3 * (1 + 3 + blobs)


def test_large_images_take_what_their_bytes_take() -> None:
    """At a gigabit a second, 125 MB take a second."""
    workload = workloads.large_images(1, 2_000_000)
    (part,) = workload.parts
    assert part.bound.seconds == workload.size / 125e6
    assert 10e6 < workload.size < 20.1e6


def test_growth_counts_pages() -> None:
    """The embedded registry lists 10,000 tags in a page; with their digests the pages are all there is to ask."""
    first, again, listed = GROWTHS[0].steps
    assert (first.bound(25_000).source, first.bound(25_000).target) == (3 + 25_000 + 2, 1 + 4 + 25_000)
    assert (again.bound(25_000).source, again.bound(25_000).target) == (25_003, 25_003)
    assert (listed.bound(25_000).source, listed.bound(25_000).target) == (3, 3)


def test_growth_in_repositories_counts_lists_and_mounts() -> None:
    """Each repository is listed, and its only tag looked for; what they share is streamed once and mounted."""
    first, again = GROWTHS[1].steps
    assert (first.bound(3).source, first.bound(3).target) == (1 + 3 + 3 + 2, 3 + 4 + 2 * 2 + 3)
    assert (again.bound(3).source, again.bound(3).target) == (1 + 3 + 3, 3)


def test_many_processes_only_where_round_trips_are_long() -> None:
    """The other tool gets the number of processes that suits it, and its slow way is measured once far away."""
    near, far = workloads.first_and_again(1), workloads.first_and_again(1, delay=0.025)
    assert [peer.name for peer in near.peers] == [
        "syncer run", workloads.SOLE, "skopeo sync", "xargs -P16 skopeo copy", "bare asyncio, 16 at once",
    ]  # fmt: skip
    assert [peer.name for peer in far.peers] == [
        "syncer run", workloads.SOLE, "xargs -P16 skopeo copy", "xargs -P64 skopeo copy", "bare asyncio, 64 at once",
    ]  # fmt: skip
    assert [peer.name for peer in far.once] == ["skopeo sync"]


def test_a_tiny_layer_tells_what_starting_takes() -> None:
    """W3 has something tiny to copy beside the large layer, in a repository of its own; it is no part of the size."""
    workload = workloads.large_layer(100_000, is_secure=False)
    assert workload.tiny is not None
    assert workload.tiny.target not in {pair.target for pair in workload.pairs}
    assert sum(blob.descriptor.size for blob in workload.tiny.source.blobs.values()) < 20_000
    assert workload.size < 120_000
