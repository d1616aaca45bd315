"""What a process gets from outside, read once and passed on."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """The environment, the home directory, and the credential file asked for (empty: the usual ones)."""

    environ: Mapping[str, str] = field(repr=False)
    home: Path
    authfile: str = ""

    @classmethod
    def of_process(cls, *, authfile: str = "") -> Surroundings:
        """Return the surroundings of this process."""
        home = os.environ.get("HOME")
        return cls(environ=dict(os.environ), home=Path(home) if home else Path.home(), authfile=authfile)
