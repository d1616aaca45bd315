"""What came of a kill loop, a line for each job."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.kills.crashes import Tally

_WIDTHS = (32, 8, 11, 22, 17, 11, 13)


def _line(texts: Sequence[object]) -> str:
    return "  ".join(str(text).ljust(width) for text, width in zip(texts, _WIDTHS, strict=True)).rstrip()


TITLE = _line(("job", "killed", "converged", "committed sent again", "in flight, most", "median", "requests over"))


def row(tally: Tally) -> str:
    """Return the line of a job under :data:`TITLE`."""
    most, median = tally.resent
    converged = sum(crash.converged for crash in tally.deaths)
    return _line((tally.job, len(tally.deaths), converged, tally.repeated, most, f"{median:.0f}", tally.over))
