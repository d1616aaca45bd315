"""What a process gets from outside, read once and passed on."""

from __future__ import annotations

import os
import random as random_module
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
        clock: seconds that only ever grow, by which registries are waited for.
        wall_clock: seconds since the epoch.
        random: a number from 0 to 1, by which those who wait are kept apart.
    """

    environ: Mapping[str, str] = field(repr=False)
    home: Path
    etc: Path = Path("/etc")
    authfile: str = ""
    registries_conf: str = ""
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    wall_clock: Callable[[], float] = field(default=time.time, repr=False)
    random: Callable[[], float] = field(default=random_module.random, repr=False)

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
