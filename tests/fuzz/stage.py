"""What every family of inputs has in common: valid documents, a reader that must survive anything, and its corpus."""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from syncer.errors import SyncerError, printable
from tests.support.mutating import mutated_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.support.mutating import Mutator

    Reader = Callable[[bytes], object]

CORPUS = Path(__file__).parent / "corpus"
#: What stands in secrets of the valid documents, and must not stand in any error.
CANARY = "canary"


@dataclass(frozen=True, kw_only=True)
class Family:
    """One kind of input from outside.

    Attributes:
        name: of the family, and of its folder in the corpus.
        seeds: returns valid documents, from which others are made.
        opened: takes an empty folder, and yields what reads a document as the product does. It raises
            errors of ``syncer.errors``, and AssertionError where a second look disagrees with the first.
        mutate: makes another document of one.
        is_slow: whether an input takes milliseconds (files, sockets, YAML), so that fewer are tried each day.
        has_secrets: whether what is read may be secret as a whole, so that errors must not quote any of it.
    """

    name: str
    seeds: Callable[[], tuple[bytes, ...]]
    opened: Callable[[Path], AbstractContextManager[Reader]]
    mutate: Mutator = mutated_json
    is_slow: bool = False
    has_secrets: bool = False

    def corpus(self) -> list[Path]:
        """Return the files that are kept of this family."""
        return sorted(path for path in (CORPUS / self.name).iterdir() if path.is_file())


def always(*seeds: bytes) -> Callable[[], tuple[bytes, ...]]:
    """Give the same documents each time."""
    return lambda: seeds


def pure(read: Reader) -> Callable[[Path], AbstractContextManager[Reader]]:
    """Give a reader that needs no folder."""

    @contextmanager
    def opened(_folder: Path) -> Iterator[Reader]:
        yield read

    return opened


def survive(family: Family, read: Reader, data: bytes) -> SyncerError | None:
    """Read ``data``; what leaves the reader must be an error of ours that a person can be shown.

    Raises:
        AssertionError: when something else leaves it, or the error is not fit to be shown.
    """
    try:
        read(data)
    except SyncerError as error:
        _check(family, error)
        return error
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{family.name}: {type(error).__name__} left the reader: {str(error)[:300]}") from error
    return None


def _check(family: Family, error: SyncerError) -> None:
    shown = error.paragraph()
    assert shown.strip(), "an error says what happened"
    assert shown == printable(shown), "an error can be shown"
    assert len(shown) <= MAX_SHOWN, f"an error is no document: {len(shown)} characters"
    if family.has_secrets:
        # What a log would hold: the error, and those that it came from where they are shown.
        logged = "".join(line for one in _chain(error) for line in traceback.format_exception_only(one)) + repr(error)
        assert CANARY not in logged, "an error repeats nothing secret"


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


#: Characters of an error with its hint; a spec's problems, twenty at once, are the longest.
MAX_SHOWN = 20_100
