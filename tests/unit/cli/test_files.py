"""Files beside the result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import syncer
from syncer.cli.files import check_writable, write_text
from syncer.errors import StorageFull, UsageError

DEVICES = Path("/dev")


def test_a_file_is_written_with_a_line_end_and_the_usual_mode(tmp_path: Path) -> None:
    """Others may read it as far as the umask lets them, and no other file is left."""
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "digest", "sha256:0")
    finally:
        os.umask(before)
    assert (tmp_path / "digest").read_text() == "sha256:0\n"
    assert (tmp_path / "digest").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["digest"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """A file half-written by a process that is no more goes with the next writing."""
    (tmp_path / "digest.tmp-0123456789ab").write_text("sha2")
    write_text(tmp_path / "digest", "sha256:0")
    assert [path.name for path in tmp_path.iterdir()] == ["digest"]


def test_what_is_no_utf8_is_written_all_the_same(tmp_path: Path) -> None:
    """The name of a spec that is no UTF-8 stands in a report as JSON can say it, and ends no command."""
    name = os.fsdecode(b"spec-\xff.yaml")
    write_text(tmp_path / "report", json.dumps({"spec": name}, ensure_ascii=False))
    assert json.loads((tmp_path / "report").read_bytes()) == {"spec": name}


def test_a_file_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    """A directory, and a file in a directory that is not there, are refused."""
    for path in (tmp_path, tmp_path / "no" / "file"):
        with pytest.raises(UsageError):
            check_writable(path)
    check_writable(tmp_path / "file")


def test_a_full_disk_is_told_as_such() -> None:
    """ENOSPC is no usage error."""
    with pytest.raises(StorageFull):
        write_text(DEVICES / "full", "x")


def test_a_device_is_written_as_it_is() -> None:
    """A device is not replaced by a file."""
    write_text(DEVICES / "null", "x")
    assert not (DEVICES / "null").is_file()


def test_a_link_stays_one(tmp_path: Path) -> None:
    """What a link leads to is replaced, as a file is."""
    (tmp_path / "elsewhere").mkdir()
    file, link = tmp_path / "elsewhere" / "digest", tmp_path / "link"
    link.symlink_to(file)
    for text in ("sha256:0", "sha256:1"):
        write_text(link, text)
        assert file.read_text() == f"{text}\n"
    assert link.is_symlink()
    assert [path.name for path in file.parent.iterdir()] == ["digest"]


@pytest.mark.parametrize("number", [1, 2])
def test_what_a_standard_stream_goes_to_is_written_through_it(tmp_path: Path, number: int) -> None:
    """A link to the stream (/dev/stdout) is not replaced, and what else is printed stands before and behind."""
    link, out = tmp_path / "stream", tmp_path / "out"
    link.symlink_to(f"/proc/self/fd/{number}")
    code = f"""
import os, pathlib
from syncer.cli.files import write_text
os.write({number}, b"before ")
write_text(pathlib.Path({str(link)!r}), "text")
os.write({number}, b"behind")
"""
    with out.open("wb") as file:
        out_and_err = (file, None) if number == 1 else (None, file)
        environ = {**os.environ, "PYTHONPATH": str(Path(syncer.__file__).parents[1])}
        command = [sys.executable, "-c", code]
        subprocess.run(command, env=environ, check=True, stdout=out_and_err[0], stderr=out_and_err[1])
    assert link.is_symlink()
    assert out.read_text() == "before text\nbehind"
