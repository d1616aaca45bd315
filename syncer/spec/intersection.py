"""Whether two globs can match the same name, decided exactly and with an example.

A glob is a small automaton: its state is the set of tokens that may come next, held as the bits of
a number. Two globs and the grammar are walked side by side, shortest name first, along with the
globs that must *not* match.
"""

from __future__ import annotations

import string
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from syncer.spec.globs import Glob
    from syncer.spec.grammar import Grammar

#: Without globs to avoid, the walk is at most the product of two patterns. Avoiding them can take
#: exponentially many states in theory; beyond this many the question counts as not decided.
MAX_STATES = 20_000
#: Examples are for people: digits and common letters first.
_PREFERRED = "1" + "0" + "v" + string.digits + string.ascii_letters + "._-/"


class Automaton:
    """One glob as a machine; its state is a bit set of token positions."""

    def __init__(self, glob: Glob) -> None:
        self._tokens = glob.tokens
        self._final = 1 << len(glob.tokens)
        self.start = self._close(1)

    def step(self, state: int, character: str) -> int:
        """Return the state after ``character``; 0 when nothing can match any more."""
        reached = 0
        for position, token in enumerate(self._tokens):
            if state >> position & 1 and character in token.characters:
                reached |= 1 << (position if token.repeats else position + 1)
        return self._close(reached)

    def accepts(self, state: int) -> bool:
        """Tell whether what was read so far is a whole match."""
        return bool(state & self._final)

    def branches(self, state: int) -> Iterator[int]:
        """Yield the single positions of ``state``, each as a state of its own."""
        for position in range(len(self._tokens) + 1):
            if state >> position & 1:
                yield self._close(1 << position)

    def _close(self, state: int) -> int:
        # A star may match nothing, so the token after it may come at once.
        for position, token in enumerate(self._tokens):
            if token.repeats and state >> position & 1:
                state |= 1 << (position + 1)
        return state


def common_name(first: Glob, second: Glob, *, without: Sequence[Glob] = ()) -> str | None:
    """Return a shortest name that both globs match and none of ``without`` does.

    Returns None when there is no such name, or when ``without`` is so entangled that the answer
    would take more than :data:`MAX_STATES` steps.
    """
    one, two = first.prefix, second.prefix
    if not (one.startswith(two) or two.startswith(one)):
        return None
    grammar = first.grammar
    left, right = Automaton(first), Automaton(second)
    avoided = [Automaton(glob) for glob in without]
    letters = _letters(grammar, (first, second, *without))
    begin = (left.start, right.start, 0, tuple(machine.start for machine in avoided))
    queue = deque([(begin, "")])
    seen = {begin}
    while queue and len(seen) <= MAX_STATES:
        (left_state, right_state, state, others), name = queue.popleft()
        if (
            state in grammar.accepting
            and left.accepts(left_state)
            and right.accepts(right_state)
            and not any(machine.accepts(other) for machine, other in zip(avoided, others, strict=True))
        ):
            return name
        if len(name) == grammar.max_length:
            continue
        for letter in letters:
            following = grammar.step(state, letter)
            if following is None:
                continue
            outside = tuple(machine.step(other, letter) for machine, other in zip(avoided, others, strict=True))
            for branch in left.branches(left.step(left_state, letter)):
                for partner in right.branches(right.step(right_state, letter)):
                    node = (branch, partner, following, outside)
                    if node not in seen:
                        seen.add(node)
                        queue.append((node, name + letter))
    return None


def is_possible(glob: Glob) -> bool:
    """Tell whether any name at all matches ``glob``."""
    return glob.grammar.accepts(glob.sample) or common_name(glob, glob) is not None


def _letters(grammar: Grammar, globs: Sequence[Glob]) -> list[str]:
    """Return one character for each way in which characters differ to the globs and the grammar."""
    sets = {token.characters for glob in globs for token in glob.tokens}
    found: dict[tuple[object, ...], str] = {}
    states = {state for state, _ in grammar.steps}
    for character in dict.fromkeys(_PREFERRED):
        if character in grammar.alphabet:
            likeness = (*(character in members for members in sets), *(grammar.step(s, character) for s in states))
            found.setdefault(likeness, character)
    return list(found.values())
