"""What a process gets from outside, read once and passed on."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The word for reading no registries.conf at all.
OFF = "off"


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What a process finds around it.

    Attributes:
        environ: the environment.
        home: the home directory.
        etc: where the machine's own configuration is.
        authfile: the credential file asked for; empty for the usual ones.
        registries_conf: the ``registries.conf`` asked for, or ``off``; empty for the usual ones.
    """

    environ: Mapping[str, str] = field(repr=False)
    home: Path
    etc: Path = Path("/etc")
    authfile: str = ""
    registries_conf: str = ""

    @classmethod
    def of_process(cls, *, authfile: str = "", registries_conf: str = "") -> Surroundings:
        """Return the surroundings of this process."""
        home = os.environ.get("HOME")
        return cls(
            environ=dict(os.environ),
            home=Path(home) if home else Path.home(),
            authfile=authfile,
            registries_conf=registries_conf,
        )

    @property
    def certificate_folders(self) -> tuple[str, ...]:
        """The ``certs.d`` folders of other tools, the user's first."""
        own = self.home / ".config" / "containers" / "certs.d"
        return tuple(map(str, (own, self.etc / "containers" / "certs.d", self.etc / "docker" / "certs.d")))
