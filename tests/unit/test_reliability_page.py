"""The page on reliability names tests and commands that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+(?:\.py)?/?)(?:::(\w+))?`", PAGE)))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_what_holds_a_promise_is_there(file: str, name: str) -> None:
    """Each file exists, and has the test that is named, or tests that begin so."""
    path = ROOT / file
    assert path.exists()
    if name:
        functions = [node.name for node in ast.walk(ast.parse(path.read_text())) if hasattr(node, "name")]
        assert any(function.startswith(name) for function in functions)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make (\w+)`", PAGE))))
def test_commands_are_there(target: str) -> None:
    """Each target is one of the Makefile."""
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("module", sorted(set(re.findall(r"`python -m ([\w.]+)", PAGE))))
def test_modules_are_there(module: str) -> None:
    """Each module that is to be run can be."""
    path = ROOT / module.replace(".", "/")
    assert (path / "__main__.py").exists() or path.with_suffix(".py").exists()
