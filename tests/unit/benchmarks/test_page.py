"""docs/performance.md says what benchmarks/results/published.json says, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import publish
from benchmarks.publish import CHARTS, PAGE, SUMMARY, files_of
from benchmarks.summary import Row, Section, Summary, from_text, to_text

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
PUBLISHED = from_text((ROOT / SUMMARY).read_text(encoding="utf-8"))
PLACE = "<!-- measured: {} -->\nold\n<!-- end -->\n"


def test_page_and_charts_are_made_of_the_published_summary() -> None:
    """Publishing again changes no byte: no table, chart or summary was edited by hand or left behind."""
    files = files_of(PUBLISHED, TEXT)
    for path, content in files.items():
        assert (ROOT / path).read_text(encoding="utf-8") == content, f"{path}: python -m benchmarks publish"
    assert {path.relative_to(ROOT) for path in (ROOT / CHARTS).glob("*")} == set(files) - {SUMMARY, PAGE}


def test_prose_has_no_measured_numbers() -> None:
    """Outside of the blocks nobody states seconds, ratios or megabytes, which would outlive what they describe."""
    prose = re.sub(r"<!-- measured.*?<!-- end -->", "", TEXT, flags=re.DOTALL)
    assert not re.findall(r"\b\d+(?:\.\d+)? ?(?:s|x|times|MB|MiB|GB|GiB|%)(?!\w)", prose)


def test_charts_of_the_page_are_there() -> None:
    """Every picture that the page shows is a file."""
    assert all((ROOT / PAGE.parent / link).exists() for link in re.findall(r"\]\(([^)#]+)\)", TEXT))


def test_a_scaled_run_says_so() -> None:
    """Numbers of a trial cannot be taken for a result."""
    machine = {"cpus": 2, "processor": "p", "load": [1.0], "in_memory": True, "system": "s", "python": "3"}
    run = {"when": "then", "rounds": 2, "scale": 0.05, "versions": {"tool": "tool 1"}, "machine": machine}
    page = files_of(Summary(runs=[run]), PLACE.format("runs"))[PAGE]
    assert "At scale 0.05: a trial of the machinery, not a result." in page
    assert "trial" not in files_of(Summary(runs=[{**run, "scale": 1.0}]), PLACE.format("runs"))[PAGE]


def test_a_workload_without_a_place_is_refused() -> None:
    """What was measured appears on the page, or the command fails."""
    section = Section(
        key="W8", title="W8: new", when="then", rows=[Row(peer="syncer run", wall=[1], cpu=[1], memory=1)]
    )
    with pytest.raises(ValueError, match="no place for W8"):
        files_of(Summary(sections=[section]), PLACE.format("W1"))


def test_an_unknown_place_is_refused() -> None:
    """A block that nothing fills would keep numbers written by hand."""
    with pytest.raises(ValueError, match="something unknown: speed"):
        files_of(Summary(), PLACE.format("speed"))


def test_what_was_not_measured_is_named() -> None:
    """A block without numbers says so instead of keeping old ones."""
    assert files_of(Summary(), PLACE.format("W3"))[PAGE] == PLACE.format("W3").replace("old", "Not measured yet.")


def test_growth_is_drawn() -> None:
    """W7 has a table and three charts, which the page shows."""
    rows = [
        Row(
            peer=f"{tags} tags",
            wall=[tags / 100],
            cpu=[1],
            memory=10**7,
            source={"tags": 1},
            target={"tags": 1},
            amount=tags,
        )
        for tags in (10, 100, 1000)
    ]
    section = Section(key="W7", title="W7: first sync", when="then", rows=rows)
    files = files_of(Summary(sections=[section]), PLACE.format("W7"))
    assert {path.name for path in files if path.suffix == ".svg"} == {
        "tags-seconds.svg",
        "tags-requests.svg",
        "tags-memory.svg",
    }
    assert files[PAGE].count("![") == 3
    assert "first sync" in files[CHARTS / "tags-seconds.svg"]


def test_a_file_that_is_no_result_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says what it cannot read, with its exit code, and writes nothing."""
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    assert publish.main([str(broken), "--root", str(tmp_path)]) == 2
    assert "cannot publish" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [broken]


def published(root: Path, *keys: str) -> Path:
    """Write a page with places for ``keys`` and an empty summary into ``root``, and return a result of a trial."""
    for path, text in ((SUMMARY, to_text(Summary())), (PAGE, "".join(map(PLACE.format, keys)))):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    machine = {"cpus": 2, "processor": "p", "load": [1.0], "in_memory": True, "system": "s", "python": "3"}
    traffic = {"requests": {}, "sent": 0, "taken": 0, "cpu": 1.0}
    one = {"workload": "W4: some", "peer": "syncer run", "round": 0, "wall": 1.0, "cpu": 1.0, "memory": 10**7,
           "source": traffic, "target": traffic, "served": 1.0, "started": 0.0, "facts": {}}  # fmt: skip
    result = root / "trial.json"
    document = {"when": "then", "rounds": 1, "scale": 0.1, "versions": {}, "machine": machine,
                "parts": [{"key": "W4", "title": "W4: some"}], "measurements": [one]}  # fmt: skip
    result.write_text(json.dumps(document))
    return result


def test_a_trial_is_published_only_when_asked_for(tmp_path: Path) -> None:
    """Of all files that lie around, those at full scale count; one that is named counts as it is."""
    result = published(tmp_path, "W4")
    assert publish.main([str(result), "--whole", "--root", str(tmp_path)]) == 0
    assert "W4: some" not in (tmp_path / PAGE).read_text()
    assert publish.main([str(result), "--root", str(tmp_path)]) == 0
    assert "W4: some" in (tmp_path / PAGE).read_text()
    assert publish.main(["--anew", "--root", str(tmp_path)]) == 0
    assert "W4: some" not in (tmp_path / PAGE).read_text()


def test_a_chart_that_nothing_makes_any_more_goes(tmp_path: Path) -> None:
    """An old picture would look like a result; what is no chart is left alone."""
    published(tmp_path, "W4")
    (tmp_path / CHARTS).mkdir()
    for name in ("old.svg", "note.txt"):
        (tmp_path / CHARTS / name).touch()
    assert publish.main(["--root", str(tmp_path)]) == 0
    assert [path.name for path in (tmp_path / CHARTS).iterdir()] == ["note.txt"]
