"""Judges runs by the invariants as they are made, so that every test that syncs is held to them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from syncer.cli.exits import code_of_report
from syncer.events import RepositoryStarted, RequestFinished, TagFinished
from tests.support.faults.invariants import Course, check, place_of

if TYPE_CHECKING:
    from syncer.events import Event
    from syncer.spec.values import Spec
    from syncer.telemetry.report import Report
    from tests.support.faults.invariants import Place, Violation
    from tests.support.personalities.internet import Internet


class Judge:
    """Hears a run on an :class:`Internet`, from its first event, and judges it when it is over."""

    def __init__(self, internet: Internet, spec: Spec) -> None:
        self._internet = internet
        self._since = len(internet.history.entries)
        self._pairs: dict[Place, Place] = {}
        self._finished: list[TagFinished] = []
        self._heard: Counter[int] = Counter()
        #: Errors with all that they carry: what is not in the report may be in a log.
        self._errors: list[str] = []
        self._state = Path(spec.state)
        # A subset of an index is another index, and what is selected is the spec's affair.
        self._is_faithful = not any(entry.platforms for entry in spec.entries)
        wanted = [entry.tags for entry in spec.entries]
        self._is_whole = all(selection == type(selection)() for selection in wanted)

    def notify(self, event: Event) -> None:
        """Hear an event."""
        if error := getattr(event, "error", None):
            self._errors.append(f"{error!r} {vars(error)!r}")
        if isinstance(event, TagFinished):
            self._finished.append(event)
        elif isinstance(event, RequestFinished):
            self._heard[event.status] += 1
        elif isinstance(event, RepositoryStarted):
            self._pairs[place_of(event.target)] = place_of(event.source)

    def verdict(self, report: Report | None, *, is_rerun: bool = False, budget: int | None = None) -> list[Violation]:
        """Return what the run has broken; it reads the state file, and so belongs in a thread.

        Args:
            report: what the run returned; None when it raised an error.
            is_rerun: it follows a success, with nothing new.
            budget: requests that it may cost when nothing fails.
        """
        texts = {path.name: path.read_bytes() for path in self._state.parent.glob(f"{self._state.name}*")}
        texts["an error"] = "\n".join(self._errors).encode(errors="backslashreplace")
        if report is not None:
            texts["the report"] = repr(report.to_json()).encode(errors="backslashreplace")
        course = Course(
            since=self._since,
            pairs=self._pairs if self._is_faithful else {},
            report=report,
            finished=self._finished,
            exit_code=None if report is None else code_of_report(report),
            is_rerun=is_rerun,
            is_whole=self._is_whole,
            budget=budget,
            texts=texts,
            heard=self._heard,
        )
        return check(self._internet.history, course, self._internet.secrets)
