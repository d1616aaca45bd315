"""File systems of a test's own: small ones that can be filled, and read-only ones; only root may have them."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PAGE = 4096


@contextmanager
def tmpfs(path: Path, size: str) -> Iterator[Path]:
    """Mount an empty file system of ``size`` (``600k``) at ``path``; skip the test where that is not allowed."""
    path.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path))
    try:
        yield path
    finally:
        _unmount(path)


@contextmanager
def read_only(path: Path) -> Iterator[Path]:
    """Make ``path`` read-only for everybody, root included; skip the test where that is not allowed."""
    _mount("--bind", str(path), str(path))
    try:
        _mount("-o", "remount,bind,ro", str(path))
        yield path
    finally:
        _unmount(path)


def fill(path: Path, *, leave: int = 0) -> Path:
    """Take all space of the file system of the folder ``path`` but ``leave`` bytes; return the file to remove."""
    filling = path / "filling"
    handle = os.open(filling, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        while True:
            os.write(handle, bytes(_PAGE))
    except OSError:
        os.ftruncate(handle, max(0, os.fstat(handle).st_size - leave))
    finally:
        os.close(handle)
    return filling


def _mount(*arguments: str) -> None:
    try:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"there is no mount here: {error}")
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


def _unmount(path: Path) -> None:
    subprocess.run(["umount", "--lazy", str(path)], capture_output=True, check=False)
