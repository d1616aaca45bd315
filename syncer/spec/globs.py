"""Globs over tags and repository names.

``*`` stands for any characters within one part of a name, ``**`` for any characters, ``?`` for one
character, ``[a-z]`` and ``[!a-z]`` for one of (or none of) a set. Tags have no parts, so ``*`` and
``**`` are the same there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from syncer.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from syncer.spec.grammar import Grammar

#: No name is longer than 255 characters, so no useful pattern is much longer.
MAX_PATTERN_LENGTH = 512


@dataclass(frozen=True, slots=True)
class Token:
    """One character out of ``characters``, or any number of them when ``repeats``."""

    characters: frozenset[str]
    repeats: bool = False


@dataclass(frozen=True)
class Glob:
    """A parsed glob: ``tokens`` over the names of ``grammar``."""

    tokens: tuple[Token, ...] = field(repr=False)
    grammar: Grammar = field(repr=False)

    @cached_property
    def literal(self) -> str | None:
        """The only text that matches, or None when there may be others."""
        prefix = self.prefix
        return prefix if len(prefix) == len(self.tokens) else None

    @cached_property
    def prefix(self) -> str:
        """The characters that every match begins with."""
        prefix = ""
        for token in self.tokens:
            if token.repeats or len(token.characters) != 1:
                break
            prefix += next(iter(token.characters))
        return prefix

    @property
    def sample(self) -> str:
        """A text that matches and looks like a name to people: ``3.*`` gives ``3.1``."""
        return "".join("1" if "1" in token.characters else min(token.characters) for token in self.tokens)

    @cached_property
    def regex(self) -> str:
        """A regular expression for the whole text, which takes at most quadratic time.

        A run of tokens between two stars is matched where it occurs first and never again: with
        what comes after it, a later occurrence cannot do better. Atomic groups say so to ``re``,
        without which ``*a*a*a*b`` would take time to the power of its stars.
        """
        *leading, last = _split(self.tokens, lambda token: token.repeats and token.characters == self.grammar.alphabet)
        if not leading:
            return _anchored(last)
        first, *middle = leading
        anywhere = "".join(f"(?>(?s:.)*?{_earliest(chunk)})" for chunk in middle)
        return f"{_earliest(first)}{anywhere}(?s:.)*?{_anchored(last)}"

    def matches(self, text: str) -> bool:
        """Tell whether the whole of ``text`` matches."""
        return self._compiled.fullmatch(text) is not None

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.regex)


def parse_glob(text: str, grammar: Grammar) -> Glob:
    """Parse ``text`` as a glob over the names of ``grammar``.

    Raises:
        SpecError: without a place, when it is empty or has a character that no such name has.
    """
    if not text:
        raise SpecError(f"a {grammar.noun} pattern is empty")
    if len(text) > MAX_PATTERN_LENGTH:
        raise SpecError(f"a {grammar.noun} pattern is longer than {MAX_PATTERN_LENGTH} characters")
    tokens: list[Token] = []
    position = 0
    while position < len(text):
        token, position = _next_token(text, position, grammar)
        tokens.append(token)
    return Glob(tuple(tokens), grammar)


def literal_tokens(text: str) -> tuple[Token, ...]:
    """Return the tokens that match ``text`` and nothing else."""
    return tuple(Token(frozenset(character)) for character in text)


def _next_token(text: str, position: int, grammar: Grammar) -> tuple[Token, int]:
    character = text[position]
    within = grammar.alphabet - frozenset(grammar.separator)
    if character == "*":
        end = position
        while end < len(text) and text[end] == "*":
            end += 1
        return Token(grammar.alphabet if end - position > 1 else within, repeats=True), end
    if character == "?":
        return Token(within), position + 1
    if character == "[":
        return _set(text, position, within, grammar)
    if character not in grammar.alphabet:
        hint = {
            "{": "Braces are not part of globs: list the alternatives one by one.",
            "!": "Write what is not wanted under 'exclude'.",
        }.get(character, "")
        raise SpecError(f"the pattern {text!r} has {character!r}, which no {grammar.noun} has", hint=hint)
    return Token(frozenset(character)), position + 1


def _set(text: str, position: int, within: frozenset[str], grammar: Grammar) -> tuple[Token, int]:
    negated = text[position + 1 : position + 2] in ("!", "^")
    start = position + 2 if negated else position + 1
    # As in the shell, a bracket that comes first belongs to the set.
    end = text.find("]", start + 1)
    if end < 0:
        raise SpecError(f"the pattern {text!r} has '[' without ']'", hint="Close the set, as in [0-9].")
    members: set[str] = set()
    index = start
    while index < end:
        if index + 2 < end and text[index + 1] == "-":
            low, high = text[index], text[index + 2]
            if low > high:
                raise SpecError(f"the pattern {text!r} has the empty range {low}-{high}")
            members.update(chr(code) for code in range(ord(low), ord(high) + 1))
            index += 3
        else:
            members.add(text[index])
            index += 1
    chosen = within - members if negated else within & members
    if not chosen:
        raise SpecError(
            f"the pattern {text!r} has the set {text[position : end + 1]}, which no {grammar.noun} can meet"
        )
    return Token(frozenset(chosen)), end + 1


def _split(tokens: Sequence[Token], divides: Callable[[Token], bool]) -> list[list[Token]]:
    chunks: list[list[Token]] = [[]]
    for token in tokens:
        if divides(token):
            chunks.append([])
        else:
            chunks[-1].append(token)
    return chunks


def _earliest(tokens: Sequence[Token]) -> str:
    """Match ``tokens`` from here on, ending as early as possible."""
    star = next((_characters(token.characters) for token in tokens if token.repeats), "")
    first, *rest = _split(tokens, lambda token: token.repeats)
    return _run(first) + "".join(f"(?>{star}*?{_run(run)})" for run in rest)


def _anchored(tokens: Sequence[Token]) -> str:
    """Match ``tokens`` from here to the end of the text."""
    star = next((_characters(token.characters) for token in tokens if token.repeats), "")
    first, *rest = _split(tokens, lambda token: token.repeats)
    if not rest:
        return _run(first) + r"\Z"
    *middle, last = rest
    anywhere = "".join(f"(?>{star}*?{_run(run)})" for run in middle)
    return f"{_run(first)}{anywhere}{star}*{_run(last)}\\Z"


def _run(tokens: Iterable[Token]) -> str:
    return "".join(_characters(token.characters) for token in tokens)


def _characters(characters: frozenset[str]) -> str:
    if len(characters) == 1:
        return re.escape(next(iter(characters)))
    return "[" + "".join(re.escape(character) for character in sorted(characters)) + "]"
