"""``syncer spec`` and ``syncer status`` without a registry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from syncer.cli import main
from syncer.spec.schema import json_schema

if TYPE_CHECKING:
    from pathlib import Path

SPEC = """\
version: 1
registries:
  a: {host: a.example, credentials: {username: bob, password: "${PASSWORD}"}}
  b: {host: b.example}
sync:
  - {name: one, from: a/x, to: b/y}
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the path of a valid spec with a secret."""
    monkeypatch.setenv("PASSWORD", "CANARY-password")
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    return str(path)


def test_a_valid_spec_is_said_to_be_valid(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line with what is in it."""
    assert main(["spec", "validate", spec]) == 0
    assert capsys.readouterr().out == f"{spec} is valid: 1 entry, 2 registries.\n"


def test_a_valid_spec_as_json_shows_no_secret(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The entries are listed with both ends; credentials are not."""
    assert main(["spec", "validate", "--output", "json", spec]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)["entries"] == [{"name": "one", "from": "a/x", "to": "b/y"}]
    assert "CANARY" not in out


def test_the_schema_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed is what the spec room says, whatever --output is."""
    assert main(["spec", "schema", "--output", "human"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(json_schema()))
