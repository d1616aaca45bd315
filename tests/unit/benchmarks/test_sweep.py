"""Windows that find their size beside fixed ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import pinned, sweep, table
from benchmarks.content import Repository
from benchmarks.peers import Job, Pair
from benchmarks.publish import PAGE, SUMMARY, files_of
from benchmarks.servers import Server
from benchmarks.summary import Row, Section, Summary, from_text
from syncer.app import declared
from syncer.app.surroundings import Surroundings
from syncer.spec import parse_spec
from syncer.spec.values import RegistrySpec

if TYPE_CHECKING:
    import pytest

ROWS = [
    Row(peer="8", wall=[3.0, 5.0, 4.0], cpu=[1.0], memory=50_000_000),
    Row(peer="16", wall=[2.0, 2.0, 2.0], cpu=[1.0], memory=50_000_000),
    Row(peer="adaptive", wall=[2.1, 2.2, 9.0], cpu=[1.0], memory=50_000_000),
]
SECTION = Section(key="sweep", title="W1: first sync of 500 tags at 50 ms", when="then", rows=ROWS)


def test_every_size_from_one_and_the_windows_that_find_theirs() -> None:
    """On loopback all take turns; far away those that take minutes are measured once."""
    near, far = sweep.swept(2, 0.0, (1, 2, 4, 8, 16)), sweep.swept(2, 0.025, (1, 2, 4, 8, 16))
    assert [peer.name for peer in near.peers] == ["1", "2", "4", "8", "16", "adaptive"]
    assert not near.once
    assert [peer.name for peer in far.peers] == ["8", "16", "adaptive"]
    assert [peer.name for peer in far.once] == ["1", "2", "4"]


def test_the_best_fixed_size_is_what_is_compared_with() -> None:
    """Medians count, and the adaptive windows are never their own measure."""
    assert table.verdict(SECTION) == "adaptive takes 1.10 of the time of the best fixed size, 16 at once"
    lines = table.markdown(SECTION).splitlines()[2:]
    assert [line.split(" | ")[3] for line in lines] == ["2.00", "1.00", "1.10"]


def test_a_sweep_has_its_place_on_the_page() -> None:
    """It is published like other results, and is no line among the comparisons with peers."""
    page = "<!-- measured: {} -->\nold\n<!-- end -->\n"
    files = files_of(Summary(sections=[SECTION]), page.format("sweep") + page.format("glance"))
    swept, glance = files[PAGE].split("<!-- end -->\n")[:2]
    assert "adaptive takes 1.10 of the time" in swept
    assert "W1" not in glance
    assert from_text(files[SUMMARY]).sections == [SECTION]


def test_near_and_far_are_drawn_together() -> None:
    """A chart for W1 and one for W2, each with the fixed sizes as lines and the adaptive ones as levels."""
    titles = ["W1: first sync of 500 tags on loopback", "W2: nothing new in 500 tags on loopback",
              "W1: first sync of 500 tags at 50 ms", "W2: nothing new in 500 tags at 50 ms"]  # fmt: skip
    sections = [Section(key="sweep", title=title, when="then", rows=ROWS) for title in titles]
    files = files_of(Summary(sections=sections), "<!-- measured: sweep -->\n<!-- end -->\n")
    drawn = {path.name: text for path, text in files.items() if path.suffix == ".svg"}
    assert sorted(drawn) == ["windows-w1.svg", "windows-w2.svg"]
    assert all(f"(performance/{name})" in files[PAGE] for name in drawn)
    first = drawn["windows-w1.svg"]
    assert "W1: first sync of 500 tags by the size of windows" in first
    assert ">on loopback<" in first
    assert ">at 50 ms<" in first
    assert (first.count("<circle"), first.count('stroke-dasharray="6 4"'), first.count('="4 4"')) == (4, 2, 0)


def test_a_size_is_an_argument_of_a_program_of_the_benchmarks(tmp_path: Path) -> None:
    """The spec is the same for all, and the registry's settings are not: the sizes come by another way."""
    here = Server(host="127.0.0.1:1", direct="127.0.0.1:1")
    pair = Pair(source=Repository(name="app", images=()), target="app")
    command = sweep.Pinned(32).command(Job(source=here, target=here, pairs=[pair], folder=tmp_path))
    assert command[1:5] == ["-m", "benchmarks.pinned", "32", "run"]


def test_pinned_windows_have_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests and blobs have as many at once from the start; large blobs no more than they may have anyway."""
    monkeypatch.setattr(declared, "settings_of_spec", declared.settings_of_spec)
    spec = parse_spec(
        json.dumps({"version": 1, "registries": {"a": {"host": "127.0.0.1:1"}, "b": {"host": "127.0.0.1:2"}},
                    "sync": [{"from": "a/app", "to": "b/app"}]}),
        file="spec.yaml", base=Path(), environ={},
    )  # fmt: skip
    pinned.pin(8)
    registry = spec.registries["a"]
    assert isinstance(registry, RegistrySpec)
    settings = declared.settings_of_spec(registry, Surroundings(environ={}, home=Path("/nonexistent")))
    assert (settings.connections, settings.data_connections, settings.bulk_connections) == (8, 8, 8)
    assert settings.is_fixed
