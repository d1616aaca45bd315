"""What an upload does when a step of it fails."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.errors import (
    ConnectionFailed,
    Denied,
    NotFound,
    ProtocolViolation,
    QuotaExceeded,
    RangeRejected,
    RateLimited,
    ServerFailure,
    StatusError,
    SyncerError,
    Timeout,
    Unauthorized,
    Unsupported,
)
from syncer.registry.upload.ladder import LADDER, Ladder, Signal, Stage, Step, signal_of
from syncer.registry.upload.progress import chunk_minimum, confirms, offset_in_status

MIB = 1024 * 1024


def lost() -> NotFound:
    """Return the 404 of a session that is gone."""
    return NotFound("gone")


@pytest.mark.parametrize(
    ("error", "stage", "is_sent", "signal"),
    [
        (ConnectionFailed("x"), Stage.WHOLE, False, Signal.CUT),
        (ConnectionFailed("x"), Stage.WHOLE, True, Signal.UNANSWERED),
        (Timeout("x"), Stage.PART, False, Signal.CUT),
        (ServerFailure("x", status=502), Stage.WHOLE, True, Signal.UNANSWERED),
        (ServerFailure("x", status=503), Stage.PART, False, Signal.CUT),
        (ServerFailure("x", status=500), Stage.PART, True, Signal.BROKEN),
        (ServerFailure("x", status=500), Stage.WHOLE, True, Signal.UNANSWERED),
        (lost(), Stage.WHOLE, True, Signal.LOST),
        (StatusError("x", status=400, codes=("BLOB_UPLOAD_INVALID",)), Stage.PART, True, Signal.LOST),
        (StatusError("x", status=400, codes=("DIGEST_INVALID",)), Stage.COMMIT, True, Signal.CORRUPT),
        (StatusError("x", status=400, codes=("SIZE_INVALID",)), Stage.PART, True, Signal.CORRUPT),
        (StatusError("x", status=413), Stage.WHOLE, False, Signal.TOO_LARGE),
        (QuotaExceeded("x", status=413), Stage.WHOLE, False, Signal.FINAL),
        (RangeRejected("x", status=416), Stage.PART, True, Signal.OUT_OF_STEP),
        (Unauthorized("x", status=401), Stage.WHOLE, False, Signal.REFUSED),
        (RateLimited("x", status=429), Stage.PART, True, Signal.BUSY),
        (Unsupported("x", status=405), Stage.WHOLE, True, Signal.UNSUPPORTED),
        (Unsupported("x", status=501), Stage.PART, True, Signal.UNSUPPORTED),
        (StatusError("x", status=400), Stage.WHOLE, True, Signal.UNSUPPORTED),
        (StatusError("x", status=411), Stage.WHOLE, True, Signal.UNSUPPORTED),
        (StatusError("x", status=400, codes=("NAME_INVALID",)), Stage.WHOLE, True, Signal.FINAL),
        (Denied("x", status=403), Stage.WHOLE, False, Signal.FINAL),
        (ProtocolViolation("x"), Stage.WHOLE, True, Signal.FINAL),
    ],
)
def test_signals(error: SyncerError, stage: Stage, is_sent: bool, signal: Signal) -> None:  # noqa: FBT001 - a row
    """Every error means one thing for an upload."""
    assert signal is signal_of(error, stage, is_sent=is_sent)


def test_the_table_is_whole() -> None:
    """Every signal has its steps at every stage, and each ladder ends in a decision."""
    for signal in Signal:
        for stage in Stage:
            steps = LADDER[signal][stage]
            assert steps[-1] in (Step.RESTART, Step.DEMOTE, Step.FAIL)
            assert not set(steps[:-1]) & {Step.RESTART, Step.DEMOTE, Step.FAIL}


def test_sessions_that_are_over_are_never_asked() -> None:
    """After a wrong digest, an unknown session or zot's 500 to a PATCH, no request goes to the same session."""
    for signal, stage in ((Signal.CORRUPT, Stage.COMMIT), (Signal.LOST, Stage.PART), (Signal.BROKEN, Stage.PART)):
        assert Step.ASK not in LADDER[signal][stage]


def test_a_token_that_is_refused_after_a_minute_has_expired() -> None:
    """A registry that looks at the token after a long body says nothing of the next one."""
    late, early = (signal_of(Unauthorized("x", status=401), Stage.WHOLE, is_sent=True, seconds=n) for n in (60, 59))
    assert (late, early) == (Signal.OUTLIVED, Signal.REFUSED)


@pytest.mark.parametrize(
    ("signal", "most"), [(Signal.LOST, 3), (Signal.CORRUPT, 1), (Signal.REFUSED, 2), (Signal.OUTLIVED, 3)]
)
def test_what_no_waiting_cures_is_bounded(signal: Signal, most: int) -> None:
    """Lost sessions and outlived tokens are replaced three times, refused ones twice, and other bytes answered once."""
    ladder = Ladder()
    for _ in range(most):
        assert Step.RESTART in ladder.steps(Stage.WHOLE, signal)
    assert ladder.steps(Stage.WHOLE, signal) == (Step.FAIL,)


def test_losing_count_twice_ends_the_chunks() -> None:
    """The first 416 asks for the offset, the second in a row gives the form up; headway in between makes it good."""
    ladder = Ladder()
    assert ladder.steps(Stage.PART, Signal.OUT_OF_STEP) == (Step.ASK, Step.RESTART)
    ladder.made_headway()
    assert ladder.steps(Stage.PART, Signal.OUT_OF_STEP) == (Step.ASK, Step.RESTART)
    assert ladder.steps(Stage.PART, Signal.OUT_OF_STEP) == (Step.DEMOTE,)


@pytest.mark.parametrize(
    ("first", "second", "is_connection", "is_stable"),
    [
        (100 * MIB, 103 * MIB, True, True),
        (100 * MIB, 50 * MIB, True, False),
        (100 * MIB, 100 * MIB, False, False),
        (1000, 1000, True, False),
    ],
)
def test_connections_that_end_at_the_same_byte(first: int, second: int, is_connection: bool, is_stable: bool) -> None:  # noqa: FBT001 - a row
    """Two resets at about the same offset are about the size; other offsets, a few bytes or an overload are not."""
    ladder = Ladder()
    assert Step.DEMOTE not in ladder.steps(Stage.WHOLE, Signal.CUT, sent=first, is_connection=is_connection)
    steps = ladder.steps(Stage.WHOLE, Signal.CUT, sent=second, is_connection=is_connection)
    assert is_stable == (Step.DEMOTE in steps)


@pytest.mark.parametrize(
    ("text", "acknowledged", "offset"),
    [
        ("0-9", 0, 10),
        ("bytes=0-10", 0, 10),
        ("bytes=0-9", 10, 10),
        ("bytes=0--1", 0, 0),
        ("bytes 0-9", 0, 10),
        ("0-0", 0, 0),
        ("0-0", 1, 1),
        ("", 0, None),
        ("1-9", 0, None),
        ("0-9/10", 0, None),
        ("0-99999999999999999999999", 0, None),
    ],
)
def test_offset_of_a_status(text: str, acknowledged: int, offset: int | None) -> None:
    """The Range of a status is read as each kind of registry means it; nonsense is no offset."""
    assert offset == offset_in_status(text, acknowledged)


@given(st.integers(min_value=2, max_value=10**15))
def test_honest_answers_to_a_patch_agree(size: int) -> None:
    """The specification's Range and Quay's agree with what was sent; any other number does not."""
    assert confirms(f"0-{size - 1}", size)
    assert confirms(f"bytes=0-{size}", size)
    assert confirms("", size)
    assert not confirms(f"0-{size + 1}", size)
    assert not confirms(f"0-{size - 2}", size) or size == 1


@given(st.text(max_size=40), st.integers(min_value=0, max_value=10**6))
def test_any_range_is_survived(text: str, acknowledged: int) -> None:
    """Whatever a registry writes is an offset of at least nothing, or none."""
    offset = offset_in_status(text, acknowledged)
    assert offset is None or offset >= 0
    assert isinstance(confirms(text, acknowledged), bool)
    assert chunk_minimum(text) >= 0


def test_chunk_minimum() -> None:
    """OCI-Chunk-Min-Length is a number of bytes or nothing."""
    assert [chunk_minimum(text) for text in ("5242880", " 7 ", "", "-1", "5 MiB", "٣")] == [5242880, 7, 0, 0, 0, 0]
