"""docs/cli.md says what the commands say of themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from syncer.cli import main
from syncer.cli.commands import COMMANDS
from syncer.cli.exits import ExitCode

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
SECTIONS = {
    part.partition("\n")[0].strip("` "): part.partition("\n")[2]
    for part in re.split(r"^#{2,3} ", TEXT, flags=re.MULTILINE)
}
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*\b")
SHARED = "Options that many commands have"
WORDS = [" ".join(command.words) for command in COMMANDS]


def options_of(words: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Return the options that the help of a command lists."""
    main([*words.split(), "--help"])
    listed = capsys.readouterr().out.partition("Options:")[2]
    # Options stand at the beginning of a line; those within a sentence are spoken about.
    names = (re.match(r"\s{2}(-.*?)(?:\s{2,}|$)", line) for line in listed.splitlines())
    return {option for match in names if match for option in OPTION.findall(match[1])}


@pytest.mark.parametrize("words", WORDS)
def test_every_command_and_option_is_documented(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command has a section, and each of its options is in it or among the shared ones."""
    section = SECTIONS[f"syncer {words}"]
    assert options_of(words, capsys) <= set(OPTION.findall(section)) | set(OPTION.findall(SECTIONS[SHARED]))


@pytest.mark.parametrize("words", WORDS)
def test_no_option_is_documented_that_is_not_there(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The list of a section has no option that the command does not take."""
    listed = re.findall(r"^- `([^`]+)`", SECTIONS[f"syncer {words}"], flags=re.MULTILINE)
    assert {option for line in listed for option in OPTION.findall(line)} <= options_of(words, capsys)


@pytest.mark.parametrize("words", WORDS)
def test_every_command_has_an_example(words: str) -> None:
    """A section shows how the command is used."""
    assert re.search(rf"^    (.*\| ?)?syncer {words}\b", SECTIONS[f"syncer {words}"], flags=re.MULTILINE)


@pytest.mark.parametrize("code", ExitCode)
def test_every_exit_code_is_documented(code: ExitCode) -> None:
    """The table has each number."""
    assert f"| {int(code)} |" in SECTIONS["Exit codes"]


def test_the_packaged_spec_is_the_example() -> None:
    """What the demo runs by default is config.example.yaml, byte for byte."""
    packaged = ROOT / "syncer" / "cli" / "demo.yaml"
    assert packaged.read_bytes() == (ROOT / "config.example.yaml").read_bytes()
