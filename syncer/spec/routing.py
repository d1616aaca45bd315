"""Which repositories an entry reads, and where each of them goes.

``from`` is a repository name or a glob over names; ``to`` is a name or a template with ``{path}``
(the whole source repository), ``{name}`` (its last part) and ``{parent}`` (what is before it).
"""

from __future__ import annotations

import difflib
import re
import string
from dataclasses import dataclass, field, replace
from itertools import chain, product
from typing import TYPE_CHECKING

from syncer.errors import InvalidReference, SpecError
from syncer.oci.reference import check_repository
from syncer.spec.globs import Glob, Token, literal_tokens, parse_glob
from syncer.spec.grammar import REPOSITORY
from syncer.spec.intersection import is_possible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

PLACEHOLDERS = ("path", "name", "parent")
#: What a name begins and ends with.
_LETTERS = frozenset(string.ascii_lowercase + string.digits)
_PIECE = re.compile(r"\{([^{}]*)\}|([^{}]+)|[{}]")


@dataclass(frozen=True, kw_only=True)
class RepositoryPattern:
    """The ``from`` of an entry, without its registry."""

    text: str
    glob: Glob = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a repository name or a glob over names.

        Raises:
            SpecError: without a place, when no repository can match.
            InvalidReference: when it is a name and breaks the grammar.
        """
        glob = parse_glob(text, REPOSITORY) if any(sign in text for sign in "*?[") else None
        if glob is None:
            return cls(text=text, glob=Glob(literal_tokens(check_repository(text)), REPOSITORY))
        if not is_possible(glob):
            raise SpecError(
                f"no repository can match {text!r}",
                hint="Names are lower-case words, separated by one of . _ __ - within a part, and / between parts.",
            )
        return cls(text=text, glob=glob)

    @property
    def literal(self) -> str | None:
        """The only repository that matches, or None when the registry must be asked for its catalog."""
        return self.glob.literal

    @property
    def prefix(self) -> str:
        """The characters that every match begins with, for :meth:`Catalog.repositories`."""
        return self.glob.prefix

    def matches(self, repository: str) -> bool:
        """Tell whether the whole name matches."""
        return self.glob.matches(repository)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True)
class RepositoryTemplate:
    """The ``to`` of an entry, without its registry; ``pieces`` are placeholders and text by turns."""

    text: str
    pieces: tuple[tuple[bool, str], ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a repository name or a template.

        Raises:
            SpecError: without a place, for an unknown placeholder, a stray brace or a character
                that no repository has.
        """
        pieces: list[tuple[bool, str]] = []
        for match in _PIECE.finditer(text):
            name, plain = match[1], match[2]
            if name is not None:
                _check_placeholder(name, text)
                pieces.append((True, name))
            elif plain is not None:
                _check_text(plain, text)
                pieces.append((False, plain))
            else:
                raise SpecError(
                    f"the template {text!r} has a stray {match[0]!r}", hint="Write {path}, {name} or {parent}."
                )
        template = cls(text=text, pieces=tuple(pieces))
        if template.is_plain:
            check_repository(text)
        return template

    @property
    def is_plain(self) -> bool:
        """True when there is no placeholder: every source goes to the same repository."""
        return not any(is_placeholder for is_placeholder, _ in self.pieces)

    @property
    def is_distinct(self) -> bool:
        """True when two sources may go to two targets: ``{parent}`` alone would join its children."""
        return (True, "path") in self.pieces or (True, "name") in self.pieces

    def render(self, repository: str) -> str:
        """Return the target of the source ``repository``.

        Raises:
            InvalidReference: when the result is no repository name.
        """
        parent, _, name = repository.rpartition("/")
        if not parent and (True, "parent") in self.pieces:
            raise InvalidReference(
                f"{self.text!r} needs the parent of {repository!r}, which has one part only",
                hint="Write {path} or {name} instead of {parent}.",
            )
        values = {"path": repository, "name": name, "parent": parent}
        result = "".join(values[text] if is_placeholder else text for is_placeholder, text in self.pieces)
        try:
            return check_repository(result)
        except InvalidReference as error:
            message = f"{self.text!r} makes {result[:160]!r} of {repository!r}: {error.message}"
            raise InvalidReference(message, hint=error.hint) from None

    def fixed(self) -> RepositoryTemplate:
        """Return the same template with ``{parent}/{name}`` written as ``{path}``."""
        text = self.text.replace("{parent}/{name}", "{path}")
        return self if text == self.text else replace(RepositoryTemplate.parse(text), text=text)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True)
class Image:
    """The names that a template can make: at most those of ``globs``, and just those when ``exact``."""

    globs: tuple[Glob, ...]
    exact: bool

    @property
    def is_possible(self) -> bool:
        """True when there is a repository name at all that the template can make."""
        return any(is_possible(glob) for glob in self.globs)


def image(pattern: RepositoryPattern, template: RepositoryTemplate) -> Image:
    """Return what ``template`` can make of the repositories of ``pattern``.

    Each of ``{path}``, ``{name}`` and ``{parent}`` ranges over a glob of its own. The result is exact
    when no placeholder occurs twice and ``{path}`` is not mixed with its parts.
    """
    if (repository := pattern.literal) is not None:
        return Image(globs=(Glob(literal_tokens(template.render(repository)), REPOSITORY),), exact=True)
    template = template.fixed()
    used = [text for is_placeholder, text in template.pieces if is_placeholder]
    exact = len(used) == len(set(used)) and ("path" not in used or used == ["path"])
    globs: dict[Glob, None] = {}
    for parent, name in splits(pattern.glob.tokens):
        if parent is None and "parent" in used:
            continue
        values = {"path": pattern.glob.tokens, "name": name, "parent": parent or ()}
        choices = [
            bounded(values[text]) if is_placeholder else [literal_tokens(text)]
            for is_placeholder, text in template.pieces
        ]
        for choice in product(*choices):
            globs[Glob(tuple(chain.from_iterable(choice)), REPOSITORY)] = None
    return Image(globs=tuple(globs), exact=exact)


def bounded(tokens: Sequence[Token]) -> list[tuple[Token, ...]]:
    """Return token sequences for those matches that begin and end with a letter or digit, as names do.

    Within a longer name the grammar is right about everything but the two ends: ``x{name}`` must not
    make ``x-1`` of a name ``-1``.
    """
    reversed_ends = [tuple(reversed(begun)) for begun in _begun(tokens)]
    return [tuple(reversed(ended)) for begun in reversed_ends for ended in _begun(begun)]


def _begun(tokens: Sequence[Token]) -> list[tuple[Token, ...]]:
    if not tokens:
        return []
    first, rest = tokens[0], tuple(tokens[1:])
    letters = first.characters & _LETTERS
    begun: list[tuple[Token, ...]] = []
    if letters:
        begun.append((Token(letters), first, *rest) if first.repeats else (Token(letters), *rest))
    return begun + _begun(rest) if first.repeats else begun


def splits(tokens: Sequence[Token]) -> Iterator[tuple[tuple[Token, ...] | None, tuple[Token, ...]]]:
    """Yield globs for the parent and the last part of what ``tokens`` match; together they cover it.

    A name is cut at its last slash. That slash is either one the pattern spells out, or inside what
    a ``**`` stands for: then any part may begin there. The parent is None where there is no slash.
    """
    within = REPOSITORY.alphabet - {"/"}
    last: tuple[Token, ...] = ()
    for position in range(len(tokens) - 1, -1, -1):
        token = tokens[position]
        if "/" not in token.characters:
            last = (token, *last)
            continue
        if not token.repeats:
            yield tuple(tokens[:position]), last
            return
        last = (Token(within, repeats=True), *last)
        yield tuple(tokens[: position + 1]), last
    yield None, last


def _check_placeholder(name: str, text: str) -> None:
    if name not in PLACEHOLDERS:
        near = difflib.get_close_matches(name, PLACEHOLDERS, n=1)
        raise SpecError(
            f"the template {text!r} has the unknown placeholder {{{name}}}",
            hint=f"Did you mean {{{near[0]}}}?" if near else "Known ones are {path}, {name} and {parent}.",
        )


def _check_text(plain: str, text: str) -> None:
    for character in plain:
        if character in "*?[":
            raise SpecError(
                f"the target {text!r} has {character!r}: globs belong into 'from'",
                hint="Write {path} for the whole source repository, {name} for its last part.",
            )
        if character not in REPOSITORY.alphabet:
            raise InvalidReference(
                f"the target {text!r} has {character!r}, which no repository has",
                hint="Use lower-case letters and digits, with . _ __ - within a part, and / between parts.",
            )
