"""Rows of the state file as records; what no Syncer writes is refused, since others can write to the file."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from syncer.errors import InvalidDigest, StateError
from syncer.events import RunStatus, TagOutcome
from syncer.oci.digest import Digest
from syncer.plan.records import LearnedChallenge, TagRecord
from syncer.state.records import RunRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

#: The year 10000, in seconds since the epoch: no calendar goes on.
_LAST_MOMENT = 253_402_300_800.0


@contextmanager
def sound(path: Path) -> Iterator[None]:
    """Raise a row that is none as a StateError that names the file."""
    try:
        yield
    except (ValueError, TypeError, RecursionError, InvalidDigest) as error:
        raise StateError(
            f"the state file {path} holds something that no Syncer wrote",
            hint="Move it away, and run again; without it the next run only takes longer.",
        ) from error


def text_of(value: Any) -> str:
    """Return a value that is text."""
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def moment_of(value: Any) -> float:
    """Return a value that is a moment, in seconds since the epoch."""
    if not isinstance(value, int | float) or not 0 <= value < _LAST_MOMENT:
        raise TypeError("no moment")
    return float(value)


def count_of(value: Any) -> int:
    """Return a value that counts something."""
    if not isinstance(value, int) or value < 0:
        raise TypeError("no count")
    return value


def digest_of(value: Any) -> Digest:
    """Return a value that is a digest."""
    return Digest(text_of(value))


def run_of(row: Sequence[Any]) -> RunRecord:
    """Return a row of the query ``runs``."""
    run, spec, status, started, finished, summary = row
    return RunRecord(
        run=text_of(run),
        spec=text_of(spec),
        status=RunStatus(status),
        started=moment_of(started),
        finished=None if finished is None else moment_of(finished),
        summary={name: count_of(count) for name, count in dict(json.loads(summary)).items()},
    )


def tag_of(row: Sequence[Any]) -> TagRecord:
    """Return a row of ``tag_records``; its last column is for going on to the next page."""
    run, entry, source, target, tag, outcome, source_digest, target_digest, error, at, _ = row
    return TagRecord(
        run=text_of(run),
        entry=text_of(entry),
        source=text_of(source),
        target=text_of(target),
        tag=text_of(tag),
        outcome=TagOutcome(outcome),
        source_digest=digest_of(source_digest) if source_digest else None,
        target_digest=digest_of(target_digest) if target_digest else None,
        error=text_of(error),
        at=moment_of(at),
    )


def challenge_of(row: Sequence[Any]) -> LearnedChallenge:
    """Return a row of the query ``challenges``."""
    location, prefix, realm, service = map(text_of, row)
    return LearnedChallenge(location=location, prefix=prefix, realm=realm, service=service)
