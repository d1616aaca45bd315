"""The programs that are measured and measured against: on PATH, or unpacked from Debian's packages."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

_CACHE = Path(__file__).parents[1] / ".cache"


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
        _unpack(package, root)
    if not binary.exists():
        raise Missing(f"{program} is not installed; on Debian: apt-get install {package}")
    return str(binary)


def _unpack(package: str, root: Path) -> None:
    """Unpack a package without installing it, which needs no root; it appears when it is whole."""
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent) as name:
        folder = Path(name)
        try:
            subprocess.run(["apt-get", "download", package], cwd=folder, check=True, capture_output=True, timeout=120)
            content = folder / "content"
            for archive in folder.glob("*.deb"):
                subprocess.run(["dpkg", "-x", str(archive), str(content)], check=True, capture_output=True, timeout=120)
            if content.exists() and not root.exists():
                content.rename(root)
        except (OSError, subprocess.SubprocessError):
            return
