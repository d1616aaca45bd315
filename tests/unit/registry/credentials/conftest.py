"""A machine of one's own: a home, an environment, and credential helpers on its PATH."""

from __future__ import annotations

import base64
import json
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from syncer.registry.credentials import Helpers, Keychain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from syncer.registry.credentials import Credential

#: A user number that no /run/containers folder belongs to.
UID = 4_000_000_000
#: What must never be seen outside a credential.
CANARY = "canary-7f3a"


@dataclass(kw_only=True)
class Machine:
    """A home directory, an environment, and a folder of programs."""

    home: Path
    programs: Path
    environ: dict[str, str] = field(default_factory=dict)
    #: The time of its keychains, in seconds.
    now: float = 0.0

    def keychain(
        self, *, explicit: Mapping[str, Credential] | None = None, authfile: Path | None = None, timeout: float = 30.0
    ) -> Keychain:
        """Return a keychain that sees this machine only."""
        helpers = Helpers(self.environ, timeout=timeout)
        return Keychain(
            environ=self.environ,
            home=self.home,
            explicit=explicit,
            authfile=authfile,
            helpers=helpers,
            uid=UID,
            clock=lambda: self.now,
        )

    def write(self, name: str, document: Any) -> Path:
        """Write a file below the home: text as it is, anything else as JSON."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    def helper(self, name: str, script: str) -> Path:
        """Install ``docker-credential-NAME``, a shell script; it counts its calls in ``calls-NAME``."""
        path = self.programs / f"docker-credential-{name}"
        calls = self.programs / f"calls-{name}"
        path.write_text(f"#!/bin/sh\necho $1 >> {calls}\n{textwrap.dedent(script)}\n")
        path.chmod(0o755)
        return path

    def calls(self, name: str) -> list[str]:
        """Return the verbs that a helper was called with."""
        path = self.programs / f"calls-{name}"
        return path.read_text().split() if path.exists() else []


def auth(username: str, password: str) -> dict[str, str]:
    """Return an entry of ``auths``."""
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine where nobody has logged in to anything."""
    home, programs = tmp_path / "home", tmp_path / "bin"
    home.mkdir()
    programs.mkdir()
    return Machine(home=home, programs=programs, environ={"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(home)})
