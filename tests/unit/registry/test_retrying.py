"""When to ask again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.errors import (
    CertificateError,
    ConnectionFailed,
    Denied,
    DigestMismatch,
    NotFound,
    ProtocolViolation,
    RateLimited,
    ServerFailure,
    StatusError,
    Timeout,
    Unauthorized,
)
from syncer.registry.retry import Decision, Reaction, RetryPolicy, classify, retry_after

POLICY = RetryPolicy()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Timeout(), Reaction.TRY_AGAIN),
        (ConnectionFailed(), Reaction.TRY_AGAIN),
        (ServerFailure(status=502), Reaction.TRY_AGAIN),
        (StatusError(status=408), Reaction.TRY_AGAIN),
        (StatusError(status=425), Reaction.TRY_AGAIN),
        (RateLimited(status=429), Reaction.PAUSE_HOST),
        (RateLimited(status=503), Reaction.PAUSE_HOST),
        (StatusError(status=413), Reaction.GIVE_UP),
        (Unauthorized(status=401), Reaction.GIVE_UP),
        (Denied(status=403), Reaction.GIVE_UP),
        (NotFound(), Reaction.GIVE_UP),
        (CertificateError(), Reaction.GIVE_UP),
        (ProtocolViolation(), Reaction.GIVE_UP),
        (DigestMismatch(), Reaction.GIVE_UP),
    ],
)
def test_classes(error: Exception, expected: Reaction) -> None:
    """Only what is passing is tried again, and only throttling pauses the host."""
    assert expected is classify(error)


def test_backoff_doubles_and_is_capped() -> None:
    """The longest delay doubles from 0.25 s and ends at 30 s."""
    assert [POLICY.backoff(attempt, lambda: 1.0) for attempt in range(1, 6)] == [0.25, 0.5, 1.0, 2.0, 4.0]
    assert POLICY.backoff(1000, lambda: 1.0) == 30.0


@given(st.integers(1, 100), st.floats(0, 1))
def test_jitter_is_full(attempt: int, chance: float) -> None:
    """A delay is anywhere between nothing and its longest."""
    assert 0.0 <= POLICY.backoff(attempt, lambda: chance) <= POLICY.backoff(attempt, lambda: 1.0)


def test_six_tries() -> None:
    """The sixth failure is the last."""
    assert Reaction.TRY_AGAIN is POLICY.decide(Timeout(), 5, lambda: 0.0).reaction
    assert Decision(reaction=Reaction.GIVE_UP) == POLICY.decide(Timeout(), 6, lambda: 0.0)


def absent() -> ConnectionFailed:
    """Return the failure to reach a registry that is not there."""
    error = ConnectionFailed()
    error.is_absent = True
    return error


def test_a_registry_that_is_not_there_gets_seconds_to_come_back() -> None:
    """A refused connection is tried five times in 1.4 to 2.8 s: the jitter takes half of a delay at most."""
    decisions = [POLICY.decide(absent(), attempt, lambda: 1.0) for attempt in range(1, 6)]
    assert [decision.delay for decision in decisions[:4]] == [0.25, 0.5, 1.0, 1.0]
    assert [POLICY.decide(absent(), attempt, lambda: 0.0).delay for attempt in range(1, 5)] == [0.125, 0.25, 0.5, 0.5]
    assert {decision.reaction for decision in decisions[:4]} == {Reaction.TRY_AGAIN}
    assert Reaction.GIVE_UP is decisions[4].reaction


def test_a_policy_of_one_try_is_for_absent_registries_too() -> None:
    """Fewer tries than five stay fewer."""
    assert Reaction.GIVE_UP is RetryPolicy(tries=1).decide(absent(), 1, lambda: 0.0).reaction
    assert Reaction.GIVE_UP is POLICY.decide(absent(), 1, lambda: 0.0, tries=1).reaction


def test_own_number_of_tries() -> None:
    """A call that may go out once is not repeated, unless the registry only asks to wait."""
    assert Reaction.GIVE_UP is POLICY.decide(Timeout(), 1, lambda: 0.0, tries=1).reaction
    assert Reaction.PAUSE_HOST is POLICY.decide(RateLimited(status=429), 1, lambda: 0.0, tries=1).reaction


@pytest.mark.parametrize(("asked", "expected"), [(7.0, 7.0), (0.0, 1.0), (1e9, 300.0), (None, 1.0)])
def test_pauses_are_clamped(asked: float | None, expected: float) -> None:
    """A Retry-After of nothing or of years becomes 1 s or 5 min."""
    error = RateLimited(status=429)
    error.retry_after = asked
    assert expected == POLICY.decide(error, 1, lambda: 0.0).delay


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "120"}, 120.0),
        ({"Retry-After": " 0 "}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:10 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 10.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:10 GMT"}, 5.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:27:00 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "9" * 400}, 999_999_999_999.0),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], expected: float | None) -> None:
    """Both forms of Retry-After are read; a date counts from the answer's own Date, else from our clock."""
    assert expected == retry_after(headers, 1445412485.0)


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_retry_after_is_survived(value: str, date: str) -> None:
    """No header raises, and none asks for a negative time."""
    assert (retry_after({"Retry-After": value, "Date": date}, 0.0) or 0.0) >= 0.0
