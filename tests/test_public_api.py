"""The public face: exactly these names, and nothing heavy behind `import syncer`."""

from __future__ import annotations

import subprocess
import sys

import pytest

import syncer


@pytest.mark.parametrize("name", syncer.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """Each name of ``__all__`` can be had from the package itself."""
    assert getattr(syncer, name) is not None
    assert name in dir(syncer)


def test_importing_the_package_is_cheap() -> None:
    """``import syncer`` loads none of the heavy libraries; ``syncer --version`` needs none either."""
    heavy = ("aiohttp", "aiosqlite", "cryptography", "pydantic", "rich", "ruamel", "structlog", "typer", "uvloop")
    script = "import sys, syncer; sys.argv = ['syncer', '--version']; import syncer.cli as c\n"
    script += "try: c.main()\nexcept SystemExit as e: assert not e.code, e.code\n"
    script += f"print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.splitlines() == [f"syncer {syncer.__version__}", "[]"]
