"""What a process gets from outside, read once and passed on."""

from __future__ import annotations

import os
import random as random_module
import resource
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

#: Open files beyond which there is no use for more; some systems allow a billion, and programs that close them all.
_MOST_FILES = 65536
#: The word for reading no registries.conf at all.
OFF = "off"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Surroundings:
    """What a process finds around it.

    Attributes:
        environ: the environment.
        home: the home directory.
        etc: where the machine's own configuration is.
        authfile: the credential file asked for; empty for the usual ones.
        registries_conf: the ``registries.conf`` asked for, or ``off``; empty for the usual ones.
        files: how many files this process may have open; None for any number.
        clock: seconds that only ever grow, by which registries are waited for.
        wall_clock: seconds since the epoch.
        sleep: waits for seconds of ``clock``; raises Interrupted when there is no use in waiting.
        random: a number from 0 to 1, by which those who wait are kept apart.
    """

    environ: Mapping[str, str] = field(repr=False)
    home: Path
    etc: Path = Path("/etc")
    authfile: str = ""
    registries_conf: str = ""
    files: int | None = None
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    wall_clock: Callable[[], float] = field(default=time.time, repr=False)
    sleep: Callable[[float], Awaitable[None]] = field(default=anyio.sleep, repr=False)
    random: Callable[[], float] = field(default=random_module.random, repr=False)

    @classmethod
    def of_process(
        cls,
        *,
        authfile: str = "",
        registries_conf: str = "",
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> Surroundings:
        """Return the surroundings of this process, and raise its limit on open files as far as it may be."""
        home = os.environ.get("HOME")
        return cls(
            environ=dict(os.environ),
            home=Path(home) if home else Path.home(),
            authfile=authfile,
            registries_conf=registries_conf,
            files=raise_file_limit(),
            sleep=sleep,
        )

    @property
    def certificate_folders(self) -> tuple[str, ...]:
        """The ``certs.d`` folders of other tools, the user's first."""
        own = self.home / ".config" / "containers" / "certs.d"
        return tuple(map(str, (own, self.etc / "containers" / "certs.d", self.etc / "docker" / "certs.d")))


def raise_file_limit() -> int:
    """Let this process have as many files open as it may, and return how many that is.

    The limit at which a process starts is low for the sake of programs that use select(2); how far it
    may be raised is what the administrator meant.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return _MOST_FILES if soft == resource.RLIM_INFINITY else soft
    # Some systems refuse what they call the hard limit.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
