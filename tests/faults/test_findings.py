"""What the fault matrix has found in Syncer, each as the smallest run that showed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.matrix import CONVERGES, Cell, Row, ends, play
from tests.support.faults import exchanges
from tests.support.faults.footprint import Footprint, Watcher, bounded
from tests.support.personalities.history import Step

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.matrix import Outcome
    from tests.support.faults.injection import Fault

pytestmark = pytest.mark.untraced


def cell(fault: Fault, step: Step, *, times: int | None = 1, outcome: Outcome = CONVERGES) -> Cell:
    """Return a cell of the matrix."""
    return Cell(row=Row(fault=fault, steps=frozenset({step}), times=times, outcome=outcome), step=step)


def test_tokens_that_are_all_taken_back_at_once(tmp_path: Path) -> None:
    """A request whose token is refused, and then the older one that is still held, is sent with a new one."""
    assert not play(cell(exchanges.EXPIRED, Step.MOUNT), tmp_path).problems


def test_a_tag_whose_manifest_is_changed_on_the_way(tmp_path: Path) -> None:
    """One bit of it is another, and it is a manifest all the same: it is read by its digest, and never written."""
    assert not play(cell(exchanges.FLIPPED_MANIFEST, Step.MANIFEST_GET), tmp_path).problems


def test_a_tag_whose_manifest_is_changed_each_time(tmp_path: Path) -> None:
    """Who changes it always is found out, and nothing is written."""
    outcome = ends("DigestMismatch", 4)
    assert not play(cell(exchanges.FLIPPED_MANIFEST, Step.MANIFEST_GET, times=None, outcome=outcome), tmp_path).problems


@pytest.mark.parametrize("fault", [exchanges.SHORT, exchanges.EXTRA, exchanges.EMPTY], ids=lambda fault: fault.name)
def test_a_blob_that_is_announced_with_another_length_once(fault: Fault, tmp_path: Path) -> None:
    """As other bytes are, another length is asked for once more."""
    assert not play(cell(fault, Step.BLOB_GET), tmp_path).problems


def test_a_commit_that_cannot_be_believed(tmp_path: Path) -> None:
    """Where something else than the registry has answered, the registry still has the upload: it is deleted."""
    outcome = ends("ProtocolViolation")
    assert not play(cell(exchanges.PORTAL, Step.PUT, times=None, outcome=outcome), tmp_path).problems


def test_an_error_of_a_hundred_megabytes_is_not_kept(tmp_path: Path) -> None:
    """I7: of an answer that is an error, no more is read than is shown."""
    with Watcher() as watcher:
        played = play(cell(exchanges.HUGE_ERROR, Step.MANIFEST_GET, times=3), tmp_path)
        watcher.look()
    assert not played.problems
    assert not list(bounded(watcher.most, Footprint(memory=40 * 1024 * 1024, files=60)))
