"""The grammars of tags and repository names as small automata.

The distribution-spec gives them as regular expressions ("Pulling manifests"); deciding whether two
globs can name the same thing needs them one character at a time. ``syncer.oci.reference`` stays
the judge of whole names, and a test holds the two together.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncer.oci.reference import MAX_NAME_LENGTH

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOWER = string.ascii_lowercase + string.digits
_WORD = string.ascii_letters + string.digits + "_"
MAX_TAG_LENGTH = 128


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Grammar:
    """What names of one kind look like: an automaton that starts in state 0."""

    noun: str
    alphabet: frozenset[str]
    #: What a single ``*`` does not cross; empty where names have no parts.
    separator: str
    max_length: int
    steps: Mapping[tuple[int, str], int]
    accepting: frozenset[int]

    def step(self, state: int, character: str) -> int | None:
        """Return the state after ``character``, or None when no name goes on like this."""
        return self.steps.get((state, character))

    def accepts(self, text: str) -> bool:
        """Tell whether ``text`` is a name."""
        state = 0
        for character in text:
            following = self.step(state, character)
            if following is None:
                return False
            state = following
        return state in self.accepting and len(text) <= self.max_length


def _tag_steps() -> dict[tuple[int, str], int]:
    first = {(0, character): 1 for character in _WORD}
    return first | {(1, character): 1 for character in _WORD + ".-"}


def _repository_steps() -> dict[tuple[int, str], int]:
    # 0: a part begins; 1: after a letter or digit; 2: after "."; 3, 4: after "_", "__"; 5: after dashes.
    steps = {(state, character): 1 for state in range(6) for character in _LOWER}
    return steps | {(1, "."): 2, (1, "_"): 3, (3, "_"): 4, (1, "-"): 5, (5, "-"): 5, (1, "/"): 0}


TAG = Grammar(
    noun="tag",
    alphabet=frozenset(_WORD + ".-"),
    separator="",
    max_length=MAX_TAG_LENGTH,
    steps=_tag_steps(),
    accepting=frozenset({1}),
)
REPOSITORY = Grammar(
    noun="repository",
    alphabet=frozenset(_LOWER + "._-/"),
    separator="/",
    max_length=MAX_NAME_LENGTH,
    steps=_repository_steps(),
    accepting=frozenset({1}),
)
