"""What errors look like."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from syncer.cli.rendering import bug_report, paragraph, print_error, print_pairs
from syncer.errors import NotFound, Side, SpecError, SyncerError

if TYPE_CHECKING:
    from pathlib import Path

LONG = NotFound("there is no " + "very " * 40 + "long name", hint="Look elsewhere.", side=Side.SOURCE)


def test_a_pipe_gets_one_line() -> None:
    """What reads a pipe can search for a whole sentence."""
    text = paragraph(LONG)
    assert text.startswith("syncer: error: there is no very")
    assert text.endswith("long name. Look elsewhere.")
    assert "\n" not in text


def test_a_terminal_gets_whole_words_within_its_width() -> None:
    """Lines are wrapped between words and the rest is indented."""
    lines = paragraph(LONG, width=60).splitlines()
    assert len(lines) > 3
    assert max(map(len, lines)) <= 60
    assert all(line.startswith("  ") for line in lines[1:])
    assert " ".join(line.strip() for line in lines) == paragraph(LONG)


def test_a_digest_is_never_broken() -> None:
    """A word that is wider than the terminal stays whole, to be copied."""
    digest = f"sha256:{'a' * 64}"
    assert digest in paragraph(NotFound(f"blob {digest} is missing"), width=40)


def test_several_problems_of_a_spec_keep_a_line_each() -> None:
    """A list of problems stays a list."""
    text = paragraph(SpecError("first\nspec.yaml:3:1: second", file="spec.yaml", line=1, column=1))
    assert text.splitlines() == ["syncer: error: spec.yaml:1:1: first", "spec.yaml:3:1: second."]


def test_what_a_registry_said_cannot_steer_the_terminal() -> None:
    """Escape sequences are shown, not obeyed."""
    assert "\x1b" not in paragraph(SyncerError("said \x1b[2Jboo"))


def test_secrets_are_masked() -> None:
    """Userinfo of a URL does not get through, whoever put it into an error."""
    assert "CANARY" not in paragraph(SyncerError("GET https://bob:CANARY@registry.example/v2/ failed"))


def test_json_errors_name_the_side(capsys: pytest.CaptureFixture[str]) -> None:
    """The object has the members that scripts know, on one line of standard error."""
    print_error(LONG, as_json=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err) == {
        "error": {"type": "NotFound", "message": LONG.message, "hint": "Look elsewhere.", "side": "source"}
    }


def test_a_bug_leaves_its_trace_in_a_private_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paragraph names the exception and the file; the file has the trace without secrets."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int("https://bob:CANARY@registry.example")
    text = paragraph(bug_report(caught.value))
    file = next(tmp_path.iterdir())
    assert "ValueError" in text
    assert "CANARY" not in text
    assert str(file) in text
    assert file.stat().st_mode & 0o777 == 0o600
    assert "Traceback" in file.read_text()
    assert "bob:CANARY" not in file.read_text()


def test_a_bug_is_told_where_no_file_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a place for the trace the paragraph says how to see it."""
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    assert "SYNCER_DEBUG=1" in paragraph(bug_report(KeyError("x")))


def test_pairs_stand_in_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """Values begin in one column, and what is empty is left out."""
    print_pairs([("a", "1"), ("none", ""), ("long", "2")])
    assert capsys.readouterr().out == "a     1\nlong  2\n"
