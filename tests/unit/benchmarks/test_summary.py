"""What many measurements come to."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import table
from benchmarks.summary import Row, Section, from_text, summarize, to_text


def measurement(
    peer: str,
    wall: float,
    *,
    requests: int = 3,
    memory: int = 10_000_000,
    served: float = 0.0,
    started: float = 0.0,
    **facts: int,
) -> dict[str, Any]:
    """Return a measurement as a run writes it."""
    traffic = {"requests": {"blob GET": requests, "tags GET": 1}, "sent": 2_000_000, "taken": 3_000_000}
    return {
        "workload": "W1: first", "peer": peer, "round": 0, "wall": wall, "cpu": wall / 2, "memory": memory,
        "source": traffic, "target": traffic, "served": served, "started": started, "facts": facts,
    }  # fmt: skip


def document(
    *measurements: dict[str, Any], when: str = "monday", key: str = "W1", size: int = 1_000_000, **more: float
) -> dict[str, Any]:
    """Return what a run on two CPUs writes."""
    part = {"key": key, "title": "W1: first", "least_source": 4, "least_target": 5, "size": size, **more}
    return {
        "when": when, "rounds": 3, "scale": 1.0, "machine": {"cpus": 2}, "versions": {},
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
    summary = summarize(
        [
            document(measurement("syncer run", 1.0, amount=10, least_source=7, least_target=8)),
            document(measurement("syncer run", 1.0, served=0.5, started=0.1), key="W3"),
        ]
    )
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


def test_the_floor_is_what_the_registries_need_for_the_least_that_was_asked() -> None:
    """Their CPU seconds by the number of CPUs, of whichever tool brought everything and let them work the least."""
    section = own_section(
        document(
            measurement("syncer run", 3.0, served=2.4),
            measurement("syncer run", 3.0, served=2.0),
            measurement("syncer run", 3.0, served=2.2),
            measurement("skopeo sync", 9.0, served=5.0),
            measurement("bare asyncio, 16 at once", 2.0, served=1.8),
            measurement("curl | curl", 1.0, served=0.2),
        )
    )
    assert [row.floor(section.cpus) for row in section.rows] == [1.1, 2.5, 0.9, 0.1]
    assert section.floor == 0.9


def test_a_link_that_needs_longer_is_the_floor() -> None:
    """No client is faster than the bytes on the link, however little the registries do."""
    section = own_section(document(measurement("syncer run", 9.0, served=2.0), least_seconds=4.0))
    assert section.floor == 4.0


def test_unknown_cpu_seconds_are_no_floor() -> None:
    """Results without them stay readable, and their table has no such column."""
    old = document(measurement("syncer run", 2.0))
    for one in old["measurements"]:
        del one["served"], one["started"]
    section = own_section(old)
    assert section.floor == 0.0
    assert "floor" not in table.markdown(section)
    assert table.reach(summarize([old])) == ""


def test_what_is_out_of_reach_is_told_for_every_way_of_the_other_tool() -> None:
    """Each line has Syncer's ratio, and the one of a client that takes no time of its own; yardsticks are no peers."""
    text = table.reach(
        summarize(
            [
                document(
                    measurement("syncer run", 2.0, served=2.0),
                    measurement("skopeo sync", 9.0, served=5.0),
                    measurement("xargs -P16 skopeo copy", 7.0, served=5.0),
                    measurement("bare asyncio, 16 at once", 1.5, served=2.2),
                )
            ]
        )
    )
    assert text.splitlines()[2:] == [
        "| W1: first | 1.00 | skopeo sync | 9.00 | 4.50 | 9.00 |",
        "| W1: first | 1.00 | xargs -P16 skopeo copy | 7.00 | 3.50 | 7.00 |",
    ]


def test_starting_is_taken_off_round_by_round() -> None:
    """CPU seconds for a GiB are those of the large layer without those of the tiny one in the same round."""
    section = own_section(
        document(
            measurement("syncer run", 4.0, started=0.5),
            measurement("syncer run", 6.0, started=2.0),
            measurement("syncer run", 9.0, started=0.5),
            size=512 * 1024**2,
        )
    )
    (row,) = section.rows
    assert row.marginal(section.size) == 3.0
    assert "CPU s/GiB" in table.markdown(section)
    assert "CPU s/GiB" not in table.markdown(own_section(document(measurement("syncer run", 4.0))))


def test_what_was_published_before_stays() -> None:
    """Publishing one workload does not forget the others, their runs, or the profiles."""
    profile = {"title": "W3", "when": "now", "profiler": "p", "where": [["x", 0.5]], "function": [["f", 0.2]]}
    before = summarize([document(measurement("syncer run", 1.0)), {"profiles": [profile]}])
    after = summarize([document(measurement("syncer run", 2.0), when="tuesday", key="W4")], before)
    assert [(section.key, section.when) for section in after.sections] == [("W1", "monday"), ("W4", "tuesday")]
    assert [run["when"] for run in after.runs] == ["monday", "tuesday"]
    assert list(after.profiles) == [profile]
    again = summarize([document(measurement("syncer run", 3.0), when="wednesday")], after)
    assert [(section.key, section.when) for section in again.sections] == [("W1", "wednesday"), ("W4", "tuesday")]
    assert [run["when"] for run in again.runs] == ["tuesday", "wednesday"]


def test_syncer_with_other_settings_is_no_peer() -> None:
    """Whom Syncer is compared with is somebody else."""
    names = ("syncer run", "syncer run, 4 connections", "skopeo copy")
    rows = [Row(peer=name, wall=[1.0], cpu=[1.0], memory=1) for name in names]
    section = Section(key="W8", title="t", when="then", rows=rows)
    assert [row.peer for row in section.peers] == ["skopeo copy"]


def test_who_was_told_more_has_a_least_of_its_own() -> None:
    """Its least is a line of its own below that of the others, and it lowers neither their floor nor anybody's aim."""
    section = own_section(
        document(
            measurement("syncer run", 2.0, served=4.0),
            measurement("syncer run, sole_writer", 1.0, served=2.0, least_source=4, least_target=1),
            measurement("skopeo sync", 9.0, served=5.0),
        )
    )
    assert section.floor == 2.0
    assert section.best_peer is not None
    assert section.best_peer.peer == "skopeo sync"
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.markdown(section).splitlines()]
    headings = lines[0]
    leasts = {line[0]: (line[headings.index("source")], line[headings.index("target")]) for line in lines[-2:]}
    assert leasts == {"least": ("4", "5"), "least, syncer run, sole_writer": ("4", "1")}
    assert {len(line) for line in lines} == {len(headings)}
    (again,) = from_text(to_text(summarize([document(measurement("syncer run", 2.0, least_target=1))]))).sections
    assert again.rows[0].has_own_least
