"""What the README shows can be done."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from syncer.cli.commands import COMMANDS
from syncer.spec import parse_spec

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ENVIRON = {"PROD_USER": "robot", "PROD_PASSWORD": "secret"}
SPECS = [block for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if block.startswith("version:")]
CALLS = re.findall(r"^ {4}syncer (.+?)(?:\s+#.*)?$", README, re.MULTILINE)


def test_its_specs_load() -> None:
    """Every spec shown is valid."""
    assert SPECS
    for text in SPECS:
        assert parse_spec(text, file="README.md", base=ROOT, environ=ENVIRON).entries


@pytest.mark.parametrize("call", CALLS)
def test_its_commands_exist(call: str) -> None:
    """Every command shown is one, with its words in the right order."""
    words = call.split()
    assert any(tuple(words[: len(command.words)]) == tuple(command.words) for command in COMMANDS)


def test_its_make_targets_exist() -> None:
    """`make demo` and `make test` are the first thing shown, and the Makefile has them."""
    targets = re.findall(r"^ {4}make ([a-z]+)", README, re.MULTILINE)
    assert targets[:2] == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_its_links_lead_somewhere() -> None:
    """Every file that is linked to is there."""
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
