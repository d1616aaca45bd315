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
    ImmutableTag,
    NotFound,
    ProtocolViolation,
    QuotaExceeded,
    RangeRejected,
    RateLimited,
    RateLimitReached,
    ServerFailure,
    SizeMismatch,
    StatusError,
    Timeout,
    Unauthorized,
    Unsupported,
)
from syncer.events import RequestKind
from syncer.events import RequestKind as Kind
from syncer.registry.traffic.retry import (
    ACTIONS,
    TABLE,
    Action,
    Decision,
    FailureClass,
    Reaction,
    RetryBudget,
    RetryPolicy,
    classify,
    retry_after,
)

POLICY = RetryPolicy()


def refused(status: int, *codes: str, kind: type[StatusError] = StatusError) -> StatusError:
    """Return the error of an answer."""
    return kind(status=status, codes=codes)


#: Reference section 4.1, row by row: what came back, what was asked, its class and what it calls for.
ROWS: list[tuple[Exception, RequestKind | None, bool, FailureClass, Action]] = [
    (Timeout(), Kind.TAGS, False, FailureClass.UNREACHABLE, Action.TRY_AGAIN),
    (ConnectionFailed(), Kind.UPLOAD_PUT, False, FailureClass.UNREACHABLE, Action.TRY_AGAIN),
    (CertificateError(), None, False, FailureClass.HOST_FATAL, Action.STOP_HOST),
    *(
        (refused(status), Kind.MANIFEST_GET, False, FailureClass.PASSING, Action.TRY_AGAIN)
        for status in (408, 425, 499, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529)
    ),
    (refused(530, kind=ServerFailure), None, False, FailureClass.PASSING, Action.TRY_AGAIN),
    (refused(429, kind=RateLimited), None, False, FailureClass.THROTTLED, Action.PAUSE_HOST),
    (refused(503, kind=RateLimited), None, False, FailureClass.THROTTLED, Action.PAUSE_HOST),
    (RateLimitReached(), None, False, FailureClass.DEFERRED, Action.DEFER),
    (refused(401, kind=Unauthorized), None, False, FailureClass.AUTHENTICATION, Action.RENEW_TOKEN),
    (refused(403, kind=Denied), Kind.MANIFEST_GET, False, FailureClass.DENIED, Action.GIVE_UP),
    (refused(403, "DENIED", kind=QuotaExceeded), Kind.UPLOAD_POST, False, FailureClass.QUOTA, Action.GIVE_UP),
    (refused(507, kind=QuotaExceeded), Kind.UPLOAD_PUT, True, FailureClass.QUOTA, Action.GIVE_UP),
    (NotFound(), Kind.MANIFEST_GET, False, FailureClass.GONE, Action.GIVE_UP),
    (NotFound(), Kind.UPLOAD_POST, False, FailureClass.REPOSITORY_MISSING, Action.CREATE_REPOSITORY),
    (NotFound(), Kind.UPLOAD_PATCH, False, FailureClass.SESSION_LOST, Action.NEW_SESSION),
    (refused(400, "BLOB_UPLOAD_INVALID"), Kind.UPLOAD_PUT, True, FailureClass.SESSION_LOST, Action.NEW_SESSION),
    (refused(400, "DIGEST_INVALID"), Kind.UPLOAD_PUT, True, FailureClass.CORRUPT, Action.READ_AGAIN),
    (refused(400, "SIZE_INVALID"), Kind.UPLOAD_POST, True, FailureClass.CORRUPT, Action.READ_AGAIN),
    (DigestMismatch(), Kind.BLOB_GET, False, FailureClass.CORRUPT, Action.READ_AGAIN),
    (SizeMismatch(), Kind.BLOB_GET, False, FailureClass.CORRUPT, Action.READ_AGAIN),
    (NotFound(), Kind.MANIFEST_PUT, True, FailureClass.CONTRADICTED, Action.BRING_MISSING),
    (refused(400, kind=ImmutableTag), Kind.MANIFEST_PUT, True, FailureClass.IMMUTABLE, Action.COMPARE_TAG),
    *(
        (refused(status, kind=Unsupported), None, False, FailureClass.UNSUPPORTED, Action.FALL_BACK)
        for status in (405, 406, 501)
    ),
    *(
        (refused(status), Kind.UPLOAD_PUT, False, FailureClass.TOO_LARGE, Action.SEND_LESS)
        for status in (413, 414, 431)
    ),
    (refused(416, kind=RangeRejected), Kind.UPLOAD_PATCH, False, FailureClass.OFFSET, Action.ASK_OFFSET),
    (refused(416, kind=RangeRejected), Kind.BLOB_GET, False, FailureClass.RANGE, Action.READ_FROM_START),
    (refused(412, kind=Denied), Kind.MANIFEST_GET, False, FailureClass.POLICY, Action.GIVE_UP),
    (refused(451, kind=Denied), Kind.BLOB_GET, False, FailureClass.POLICY, Action.GIVE_UP),
    (refused(502, kind=ServerFailure), Kind.UPLOAD_PUT, True, FailureClass.AMBIGUOUS, Action.LOOK_FIRST),
    (ConnectionFailed(), Kind.UPLOAD_PUT, True, FailureClass.AMBIGUOUS, Action.LOOK_FIRST),
    (Timeout(), Kind.UPLOAD_PATCH, True, FailureClass.AMBIGUOUS, Action.LOOK_FIRST),
    (refused(400), None, False, FailureClass.FINAL, Action.GIVE_UP),
    (ProtocolViolation(), None, False, FailureClass.FINAL, Action.GIVE_UP),
]


@pytest.mark.parametrize(("error", "request_kind", "is_sent", "expected", "action"), ROWS)
def test_the_table(
    error: Exception, request_kind: RequestKind | None, expected: FailureClass, action: Action, *, is_sent: bool
) -> None:
    """Each row of reference section 4.1 has its class, and the class its action."""
    assert (expected, action) == (
        classify(error, request_kind, is_sent=is_sent),
        ACTIONS[classify(error, request_kind, is_sent=is_sent)],
    )


def test_the_table_is_whole() -> None:
    """Every class has an action and a row here, and every line of the table is reached by some row."""
    assert set(FailureClass) == set(ACTIONS) == {failure for *_, failure, _ in ROWS}
    reached = {
        next((at for at, line in enumerate(TABLE) if line.fits(error, kind, is_sent=is_sent)), -1)
        for error, kind, is_sent, *_ in ROWS
    }
    assert {*range(-1, len(TABLE))} == reached


def test_a_passing_answer_to_a_whole_body_is_not_sent_again_blindly() -> None:
    """The same 502 is passing before the body was sent whole, and ambiguous after it."""
    error = refused(502, kind=ServerFailure)
    assert classify(error, Kind.UPLOAD_PUT) is FailureClass.PASSING
    assert classify(error, Kind.UPLOAD_PUT, is_sent=True) is FailureClass.AMBIGUOUS
    assert classify(error, Kind.MANIFEST_PUT, is_sent=True) is FailureClass.PASSING


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Timeout(), Reaction.TRY_AGAIN),
        (refused(429, kind=RateLimited), Reaction.PAUSE_HOST),
        (RateLimitReached(), Reaction.DEFER),
        (CertificateError(), Reaction.GIVE_UP),
        (NotFound(), Reaction.GIVE_UP),
    ],
)
def test_reactions(error: Exception, expected: Reaction) -> None:
    """Only what is passing is sent again, and only throttling pauses the host."""
    assert expected is POLICY.decide(error, 1, lambda: 0.5).reaction


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


def test_a_name_that_does_not_exist_is_looked_up_three_times() -> None:
    """NXDOMAIN is believed the third time."""
    error = absent()
    error.is_nameless = True
    assert [POLICY.decide(error, attempt, lambda: 0.0).reaction for attempt in (1, 2, 3)] == [
        Reaction.TRY_AGAIN,
        Reaction.TRY_AGAIN,
        Reaction.GIVE_UP,
    ]


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
    ("asked", "expected"),
    [(300.0, Reaction.PAUSE_HOST), (301.0, Reaction.DEFER), (86400.0, Reaction.DEFER), (1e9, Reaction.PAUSE_HOST)],
)
def test_long_wishes_are_for_another_run(asked: float, expected: Reaction) -> None:
    """Over five minutes nobody waits; what is absurd, over a week, is a mistake and gets five minutes."""
    error = RateLimited(status=429)
    error.retry_after = asked
    assert expected is POLICY.decide(error, 1, lambda: 0.0).reaction


def test_the_budget_is_a_hundred_tries_and_a_fifth_of_the_requests() -> None:
    """A run that makes 50 requests may try again 110 times, and not once more."""
    budget = RetryBudget()
    for _ in range(50):
        budget.earn()
    assert [budget.spend() for _ in range(111)] == [True] * 110 + [False]
    assert budget.left < 1.0


@given(st.integers(0, 500), st.integers(0, 500))
def test_no_budget_is_overdrawn(requests: int, tries: int) -> None:
    """However requests and tries come, no more tries are granted than the budget has."""
    budget = RetryBudget(reserve=10, share=0.5)
    granted = 0
    for _ in range(requests):
        budget.earn()
    for _ in range(tries):
        granted += budget.spend()
    assert granted <= 10 + requests * 0.5
    assert budget.left >= 0


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
