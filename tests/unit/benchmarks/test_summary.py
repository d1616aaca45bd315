"""What many measurements come to."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import table
from benchmarks.summary import Section, from_text, summarize, to_text


def measurement(peer: str, wall: float, *, requests: int = 3, memory: int = 10_000_000, **facts: int) -> dict[str, Any]:
    """Return a measurement as a run writes it."""
    traffic = {"requests": {"blob GET": requests, "tags GET": 1}, "sent": 2_000_000, "taken": 3_000_000}
    return {
        "workload": "W1: first", "peer": peer, "round": 0, "wall": wall, "cpu": wall / 2, "memory": memory,
        "source": traffic, "target": traffic, "facts": facts,
    }  # fmt: skip


def document(*measurements: dict[str, Any], when: str = "monday", key: str = "W1") -> dict[str, Any]:
    """Return what a run writes."""
    part = {"key": key, "title": "W1: first", "least_source": 4, "least_target": 5, "size": 1_000_000}
    return {
        "when": when, "rounds": 3, "scale": 1.0, "machine": {}, "versions": {},
        "parts": [part], "measurements": list(measurements),
    }  # fmt: skip


def own_section(*documents: dict[str, Any]) -> Section:
    """Return the only workload of the documents."""
    (section,) = summarize(documents).sections
    return section


def test_rounds_are_kept_and_counted_by_their_median() -> None:
    """Seconds of each round stay; requests and bytes are medians, and memory is the most."""
    section = own_section(
        document(
            measurement("syncer run", 1.0, requests=5),
            measurement("syncer run", 9.0, requests=6, memory=99_000_000),
            measurement("syncer run", 2.0, requests=50),
        )
    )
    (row,) = section.rows
    assert list(row.wall) == [1.0, 9.0, 2.0]
    assert row.source == {"blob GET": 6, "tags GET": 1}
    assert (row.memory, row.sent, row.taken) == (99_000_000, 2_000_000, 3_000_000)


def test_the_best_peer_is_the_fastest_and_never_curl() -> None:
    """Curl only carries bytes: it is a bound, and beating it or not says nothing of a peer."""
    section = own_section(
        document(
            measurement("syncer run", 1.0),
            measurement("skopeo sync", 4.0),
            measurement("xargs -P16 skopeo copy", 3.0),
            measurement("curl | curl", 0.5),
        )
    )
    assert section.best_peer is not None
    assert section.best_peer.peer == "xargs -P16 skopeo copy"
    assert "| 1.00 | xargs -P16 skopeo copy | 3.00 | 3.00 | 4 + 4 | 4 + 5 |" in table.glance(
        summarize([document(*[measurement(row.peer, row.wall[0]) for row in section.rows])])
    )


def test_a_workload_is_taken_whole_from_the_last_run_that_has_it() -> None:
    """Tools are only compared within one run; a run of which nothing is left is not named."""
    first = document(measurement("syncer run", 1.0), measurement("skopeo sync", 2.0))
    second = document(measurement("syncer run", 5.0), when="tuesday")
    summary = summarize([first, second])
    (section,) = summary.sections
    assert [row.peer for row in section.rows] == ["syncer run"]
    assert section.when == "tuesday"
    assert [run["when"] for run in summary.runs] == ["tuesday"]


def test_profiles_travel_along() -> None:
    """A file of a profile has no measurements, and is published beside those that have."""
    profile = {"title": "W3", "when": "now", "profiler": "p", "where": [["x", 0.5]], "function": [["f", 0.2]]}
    summary = summarize([document(measurement("syncer run", 1.0)), {"profiles": [profile]}])
    assert list(summary.profiles) == [profile]
    assert len(summary.sections) == 1


def test_a_summary_is_read_as_it_was_written() -> None:
    """Nothing is lost on the way through the file."""
    summary = summarize([document(measurement("syncer run", 1.0, tags=10, least_source=7, least_target=8))])
    assert to_text(from_text(to_text(summary))) == to_text(summary)
    assert from_text(to_text(summary)).sections == summary.sections


def test_a_file_of_another_kind_is_refused() -> None:
    """The schema is checked before anything is believed."""
    with pytest.raises(ValueError, match="not a summary"):
        from_text('{"schema": "syncer.report/1"}')


def test_ratios_are_to_syncer() -> None:
    """Another tool's number over Syncer's: above 1, Syncer is faster."""
    text = table.text(summarize([document(measurement("syncer run", 2.0), measurement("skopeo sync", 5.0))]))
    assert "2.50" in next(line for line in text.splitlines() if "skopeo sync" in line)
    assert "once" in text
