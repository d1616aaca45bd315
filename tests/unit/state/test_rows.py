"""Rows that no Syncer writes are damage that is told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from syncer.errors import StateError
from syncer.events import RunStatus, TagOutcome
from syncer.state.rows import challenge_of, run_of, sound, tag_of

if TYPE_CHECKING:
    from collections.abc import Callable

DIGEST = f"sha256:{'0' * 64}"
RUN = ["r1", "spec.yaml", "done", 1.0, 2.5, '{"copied": 3}']
TAG = ["r1", "e", "s.io/a", "t.io/a", "v1", "copied", DIGEST, None, "", 7, 1]
CHALLENGE = ["https://a.io", "/v2/", "https://a.io/token", "a.io"]


def test_sound_rows() -> None:
    """What Syncer wrote reads back."""
    run, tag, challenge = run_of(RUN), tag_of(TAG), challenge_of(CHALLENGE)
    assert (run.status, run.finished, run.summary) == (RunStatus.DONE, 2.5, {"copied": 3})
    assert run_of([*RUN[:4], None, "{}"]).finished is None
    assert (tag.outcome, tag.source_digest, tag.target_digest, tag.at) == (TagOutcome.COPIED, DIGEST, None, 7.0)
    assert challenge.service == "a.io"


@pytest.mark.parametrize(
    ("read", "row", "at", "value"),
    [
        *((run_of, RUN, at, value) for at in (0, 1) for value in (None, 1, b"x")),
        *((run_of, RUN, 2, value) for value in ("", "perfect", None)),
        *((run_of, RUN, at, value) for at in (3, 4) for value in ("1", -1, 1e300, float("nan"), b"")),
        *((run_of, RUN, 5, value) for value in ("", "[1]", '{"copied": -1}', '{"copied": "3"}', "[" * 100_000, None)),
        *((tag_of, TAG, at, value) for at in (0, 1, 2, 3, 4, 8) for value in (None, 1)),
        *((tag_of, TAG, 5, value) for value in ("", "lost", 3)),
        *((tag_of, TAG, at, value) for at in (6, 7) for value in ("sha256:0", "x", 5, b"y")),
        *((tag_of, TAG, 9, value) for value in (None, "1", 1e12)),
        *((challenge_of, CHALLENGE, at, None) for at in range(4)),
    ],
)
def test_damaged_rows(read: Callable[[list[Any]], object], row: list[Any], at: int, value: object) -> None:
    """One wrong value in a row is a StateError that names the file, and says what to do."""
    damaged = [*row[:at], value, *row[at + 1 :]]
    with (
        pytest.raises(StateError, match=r"/x/state\.db holds something that no Syncer wrote") as caught,
        sound(Path("/x/state.db")),
    ):
        read(damaged)
    assert "Move it away" in caught.value.hint
