"""Everything that reads bytes from outside survives them: the corpus again, and a search from valid documents on."""

from __future__ import annotations

from contextlib import ExitStack, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.catalogue import FAMILIES
from tests.fuzz.hunting import Catch, hunt
from tests.fuzz.stage import CORPUS, Family, survive
from tests.support.searching import SEARCH

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random

    from tests.fuzz.stage import Reader

pytestmark = pytest.mark.untraced

_ALL = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
#: Inputs of each family under ``make torture``; a socket, a file or a parser of YAML takes milliseconds for each.
_MANY = 1000


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


@_ALL
def test_nothing_but_our_errors_leaves_a_reader(family: Family, read: Reader) -> None:
    """A valid document that is changed in a place or two is taken or refused in our words, and nothing else happens."""

    @settings(SEARCH, max_examples=SEARCH.max_examples // (4 if family.is_slow else 1))
    @given(st.sampled_from(family.seeds()), st.randoms(use_true_random=False))
    def search(seed: bytes, random: Random) -> None:
        survive(family, read, family.mutate(random, seed))

    search()


def test_every_folder_of_the_corpus_has_a_family() -> None:
    """What is kept is read again: no folder is left behind by a family that has another name now."""
    assert {path.name for path in CORPUS.iterdir()} == set(FAMILIES)


@pytest.mark.torture
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(2))
@_ALL
def test_a_long_hunt_comes_home_with_nothing(family: Family, seed: int, tmp_path: Path) -> None:
    """Thousands of changes laid over each other, from the corpus on, find nothing that is not survived."""

    def wanted(catch: Catch) -> bool:
        return catch.tried < _MANY and not catch.found

    catch = hunt(family, tmp_path, seed=seed, wanted=wanted)
    assert not catch.found
    # Our own record of referrers is made anew where it is damaged.
    assert catch.refused or family.name == "layout_referrers", "of thousands of broken documents some are refused"
