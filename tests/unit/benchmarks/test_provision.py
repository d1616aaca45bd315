"""Programs that are not installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import provision

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Unpack into a folder of the test's own, with nothing on PATH."""
    monkeypatch.setattr(provision, "_CACHE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    return tmp_path


def test_what_was_unpacked_is_found(cache: Path) -> None:
    """A program that an earlier measurement unpacked is used, with the libraries that came along."""
    program = cache / "tool" / "usr" / "bin" / "tool"
    program.parent.mkdir(parents=True)
    program.touch()
    library = cache / "tool" / "usr" / "lib" / "x86_64-linux-gnu"
    library.mkdir(parents=True)
    assert provision.find("tool") == str(program)
    assert provision.libraries() == str(library)


def test_what_cannot_be_had_is_named(cache: Path) -> None:
    """Without the program and without apt-get, the error says what to install, and nothing is left behind."""
    with pytest.raises(provision.Missing, match="tool is not installed; on Debian: apt-get install the-package"):
        provision.find("tool", "the-package")
    assert list(cache.iterdir()) == []
