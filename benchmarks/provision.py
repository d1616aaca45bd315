"""The programs that are measured and measured against: on PATH, or unpacked from Debian's packages."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_CACHE = Path(__file__).parents[1] / ".cache"
#: The packages whose libraries a program needs, of those that a small system may lack.
_LIBRARIES = {"skopeo": ("libgpgme11", "libassuan0", "libdevmapper1.02.1")}


class Missing(RuntimeError):
    """A program that is needed is not there."""


def find(program: str, package: str = "") -> str:
    """Return the path of ``program``; where it is not installed, Debian's ``package`` is unpacked into .cache.

    Raises:
        Missing: when it can be had neither way.
    """
    if found := shutil.which(program):
        return found
    package = package or program
    root = _CACHE / package
    binary = root / "usr" / "bin" / program
    if not binary.exists():
        _unpack((package, *_LIBRARIES.get(package, ())), root)
    if not binary.exists():
        raise Missing(f"{program} is not installed; on Debian: apt-get install {package}")
    return str(binary)


def libraries() -> str:
    """Return where the libraries of unpacked packages are, as LD_LIBRARY_PATH wants it; usually nothing."""
    return ":".join(sorted(str(folder) for folder in _CACHE.glob("*/usr/lib/*-linux-gnu")))


def _unpack(packages: Sequence[str], root: Path) -> None:
    """Unpack packages without installing them, which needs no root; they appear together when they are whole."""
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent) as name:
        folder = Path(name)
        content = folder / "content"
        try:
            subprocess.run(["apt-get", "download", *packages], cwd=folder, check=True, capture_output=True, timeout=120)
            for archive in folder.glob("*.deb"):
                subprocess.run(["dpkg", "-x", str(archive), str(content)], check=True, capture_output=True, timeout=120)
            for other in content.glob("lib/*-linux-gnu"):
                shutil.copytree(other, content / "usr" / other.relative_to(content), symlinks=True, dirs_exist_ok=True)
            if content.exists() and not root.exists():
                content.rename(root)
        except (OSError, subprocess.SubprocessError):
            return
