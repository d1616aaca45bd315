"""``python -m syncer.server``: the embedded registry as a program."""

from __future__ import annotations

import re
import signal
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest

from syncer.server.__main__ import main
from tests.support.commands import ended, finished, line_of, started

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = (sys.executable, "-m", "syncer.server")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_stopped(tmp_path: Path, number: signal.Signals) -> None:
    """It prints where it listens once it answers, and a signal ends it well."""
    with started(tmp_path / "new", "--listen", "127.0.0.1:0", "--not-durable", command=PROGRAM) as process:
        address = line_of(process.stdout).strip()
        assert re.fullmatch(r"127\.0\.0\.1:\d+", address)
        with urllib.request.urlopen(f"http://{address}/v2/_catalog") as answer:
            assert answer.read() == b'{"repositories":[]}'
        process.send_signal(number)
        out, _ = ended(process)
        assert (process.returncode, out) == (0, "")


def test_a_root_that_cannot_be_served(tmp_path: Path) -> None:
    """What is wrong is told in a paragraph."""
    (tmp_path / "file").touch()
    done = finished(tmp_path / "file", "--listen", "127.0.0.1:0", command=PROGRAM)
    assert (done.returncode, done.stdout) == (2, "")
    assert str(tmp_path / "file") in done.stderr


@pytest.mark.parametrize("listen", ["5000", ":5000", "host:", "host:x"])
def test_an_address_that_is_none(
    listen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named, with what was expected."""
    monkeypatch.setattr(sys, "argv", ["server", str(tmp_path), "--listen", listen])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert f"--listen is not HOST:PORT: {listen}" in capsys.readouterr().err
