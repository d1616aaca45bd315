"""Everything that reads bytes from outside survives them: the corpus, again and again."""

from __future__ import annotations

from contextlib import ExitStack, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING

import pytest

from tests.fuzz.catalogue import FAMILIES
from tests.fuzz.stage import CORPUS, Family, survive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fuzz.stage import Reader

_ALL = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


@pytest.fixture
def read(family: Family, tmp_path: Path) -> Iterator[Reader]:
    """Open the family's reader."""
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(StringIO()))
        yield stack.enter_context(family.opened(tmp_path))


@_ALL
def test_the_corpus_is_survived(family: Family, read: Reader) -> None:
    """What is valid and what was kept, each past crash among it, is taken or refused in our words."""
    for data in family.seeds():
        survive(family, read, data)
    for path in family.corpus():
        survive(family, read, path.read_bytes())


@_ALL
def test_valid_documents_are_taken(family: Family, read: Reader) -> None:
    """The first valid document of a family is read to its end: what is searched around is not refused at the door."""
    error = survive(family, read, family.seeds()[0])
    assert error is None or family.name in _REFUSED_AS_MEANT, error


#: Families whose documents are refusals themselves, or of which every reader takes only some.
_REFUSED_AS_MEANT = {"answers_push", "documents", "errors", "headers", "helpers", "references"}


def test_every_folder_of_the_corpus_has_a_family() -> None:
    """What is kept is read again: no folder is left behind by a family that has another name now."""
    assert {path.name for path in CORPUS.iterdir()} == set(FAMILIES)
