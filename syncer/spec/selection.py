"""Which tags of a repository an entry wants.

A pattern is a literal tag, a glob, or ``re:`` and a regular expression for the whole tag. Tags
that belong to another manifest (cosign's ``sha256-….sig`` and the referrers tag schema) travel
with it, and are selected on their own only when they are named in full.

Python's ``re`` cannot be interrupted. What bounds it is that a tag has at most 128 characters:
enough for any sane expression, not for ``(a+)+$``. Globs always take a short time.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from syncer.errors import SpecError
from syncer.oci.reference import is_tag
from syncer.oci.referrers import is_companion
from syncer.spec.globs import MAX_PATTERN_LENGTH, Glob, parse_glob
from syncer.spec.grammar import TAG
from syncer.spec.intersection import common_name, is_possible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Self

REGEX_PREFIX = "re:"


@dataclass(frozen=True)
class TagPattern:
    """One pattern; ``glob`` is None for a regular expression."""

    text: str
    glob: Glob | None = field(repr=False)
    expression: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a literal tag, a glob or ``re:…``.

        Raises:
            SpecError: without a place, when it cannot match any tag or is not a regular expression.
        """
        if not text.startswith(REGEX_PREFIX):
            glob = parse_glob(text, TAG)
            if not is_possible(glob):
                raise SpecError(
                    f"no tag can match {text!r}",
                    hint="A tag has up to 128 of letters, digits, dots, underscores and dashes, and no . or - first.",
                )
            return cls(text=text, glob=glob, expression=glob.regex)
        expression = text.removeprefix(REGEX_PREFIX)
        if not expression or len(expression) > MAX_PATTERN_LENGTH:
            raise SpecError(f"a regular expression has 1 to {MAX_PATTERN_LENGTH} characters")
        try:
            _compile(expression)
        except (re.error, OverflowError, RecursionError) as error:
            raise SpecError(
                f"{text!r} is not a regular expression: {error}",
                hint="Use Python's syntax; the expression must match the whole tag.",
            ) from None
        return cls(text=text, glob=None, expression=expression)

    @property
    def literal(self) -> str | None:
        """The only tag that matches, or None when there may be others."""
        return self.glob.literal if self.glob else None

    def matches(self, tag: str) -> bool:
        """Tell whether the whole ``tag`` matches."""
        return self._compiled.fullmatch(tag) is not None

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return _compile(self.expression)


@dataclass(frozen=True, kw_only=True)
class TagSelection:
    """The tags wanted: in ``include`` (everything when empty), not in ``exclude``.

    A tag of ``immutable`` is not looked at again once it has been copied.
    """

    include: tuple[TagPattern, ...] = ()
    exclude: tuple[TagPattern, ...] = ()
    immutable: tuple[TagPattern, ...] = ()

    @classmethod
    def parse(cls, *, include: Iterable[str] = (), exclude: Iterable[str] = (), immutable: Iterable[str] = ()) -> Self:
        """Parse the patterns of each list.

        Raises:
            SpecError: without a place, for the first pattern that is not valid.
        """
        return cls(
            include=tuple(TagPattern.parse(text) for text in include),
            exclude=tuple(TagPattern.parse(text) for text in exclude),
            immutable=tuple(TagPattern.parse(text) for text in immutable),
        )

    def selects(self, tag: str) -> bool:
        """Tell whether ``tag`` is wanted; what is not a tag by the grammar never is."""
        if tag in self._named:
            return not self._excluded(tag)
        if not is_tag(tag) or is_companion(tag):
            return False
        return self._included(tag) and not self._excluded(tag)

    def select(self, tags: Iterable[str]) -> list[str]:
        """Return the wanted ones of ``tags`` in their order, each once."""
        return [tag for tag in dict.fromkeys(tags) if self.selects(tag)]

    def literal_tags(self) -> tuple[str, ...] | None:
        """Return the wanted tags when each is named in full, so that none need be listed; else None."""
        if not self.include or len(self._named) != len({pattern.text for pattern in self.include}):
            return None
        return self.named_tags()

    def named_tags(self) -> tuple[str, ...]:
        """Return the wanted tags that are named in full; one that is not there is a failure."""
        return tuple(tag for tag in self._named if not self._excluded(tag))

    def is_immutable(self, tag: str) -> bool:
        """Tell whether ``tag`` is not to be looked at again once copied."""
        return any(pattern.matches(tag) for pattern in self.immutable)

    @cached_property
    def _named(self) -> dict[str, None]:
        return dict.fromkeys(pattern.literal for pattern in self.include if pattern.literal is not None)

    def _included(self, tag: str) -> bool:
        return not self.include or any(pattern.matches(tag) for pattern in self.include)

    def _excluded(self, tag: str) -> bool:
        return any(pattern.matches(tag) for pattern in self.exclude)


#: Tried first when an example is wanted, because they look like what people have.
_FAMILIAR = ("latest", "1.0", "v1.0", "1.0.0", "v1.0.0", "main")
_EVERYTHING = TagPattern.parse("*")


def common_tag(first: TagSelection, second: TagSelection) -> str | None:
    """Return a tag that both selections want, or None when there is none or none can be shown.

    Literals and globs are decided exactly, excludes and all. What a regular expression has in
    common with a glob or another expression is not decided: only examples are tried.
    """
    patterns = (*first.include, *second.include)
    samples = [pattern.glob.sample for pattern in patterns if pattern.glob is not None]
    for tag in (*samples, *_FAMILIAR):
        if first.selects(tag) and second.selects(tag):
            return tag
    avoided = [pattern.glob for pattern in (*first.exclude, *second.exclude) if pattern.glob is not None]
    for glob in _globs(first.include):
        for other in _globs(second.include):
            shared = common_name(glob, other, without=avoided)
            if shared is not None and first.selects(shared) and second.selects(shared):
                return shared
    return None


def _globs(patterns: Sequence[TagPattern]) -> list[Glob]:
    # The sample of a literal is the literal, and it was tried: only patterns that leave a choice are walked.
    chosen = patterns or (_EVERYTHING,)
    return [pattern.glob for pattern in chosen if pattern.glob is not None and pattern.glob.literal is None]


def _compile(expression: str) -> re.Pattern[str]:
    # Python warns of sets that a future version may read otherwise; it is no business of the terminal's.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return re.compile(expression)
