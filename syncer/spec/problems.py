"""What is wrong with a spec, gathered, so that all of it is told at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncer.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: As many as a person reads; the rest is counted.
MAX_TOLD = 20
#: Shorter values are too common in ordinary words to be hidden in them.
_SHORTEST_HIDDEN = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing that is wrong, where it is wrong, and what to do about it."""

    line: int
    column: int
    path: str
    message: str
    hint: str = ""


def spec_error(problems: Sequence[Problem], *, file: str, hidden: Mapping[str, str]) -> SpecError:
    """Return one error for all ``problems``, in the order of the file.

    The error stands at the first problem; its message has a line for each of the first
    :data:`MAX_TOLD`. ``hidden`` are values of environment variables by name, which do not show.
    """
    told = sorted({_hide(problem, hidden) for problem in problems}, key=lambda p: (p.line, p.column, p.path, p.message))
    first, *others = told
    if not others:
        return _error(first, first.message, file, first.hint)
    lines = [_with_hint(first)]
    lines += [str(_error(problem, _with_hint(problem), file, "")) for problem in others[: MAX_TOLD - 1]]
    if len(told) > MAX_TOLD:
        lines.append(f"and {len(told) - MAX_TOLD} more")
    return _error(first, "\n".join(lines), file, "")


def spell(path: Iterable[str | int]) -> str:
    """Return ``path`` as people write it: ``sync[2].tags.include``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _error(problem: Problem, message: str, file: str, hint: str) -> SpecError:
    return SpecError(message, file=file, line=problem.line, column=problem.column, path=problem.path, hint=hint)


def _with_hint(problem: Problem) -> str:
    return f"{problem.message}. {problem.hint}" if problem.hint else problem.message


def _hide(problem: Problem, hidden: Mapping[str, str]) -> Problem:
    message, hint = problem.message, problem.hint
    for name, value in hidden.items():
        if len(value) >= _SHORTEST_HIDDEN:
            message = message.replace(value, f"${{{name}}}")
            hint = hint.replace(value, f"${{{name}}}")
    return Problem(line=problem.line, column=problem.column, path=problem.path, message=message, hint=hint)
