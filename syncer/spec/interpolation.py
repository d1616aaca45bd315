"""``${NAME}`` and ``${NAME:-default}`` in the text of a spec; ``$$`` is a dollar sign.

A dollar sign before anything but ``{`` and ``$`` stands for itself, so that regular expressions
need no care.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncer.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

_REFERENCE = re.compile(r"\$(?:\$|\{(?P<inside>[^{}]*)(?P<end>\}?))")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Interpolated:
    """The resulting ``text``, and which variables of the environment went into it."""

    text: str
    variables: tuple[str, ...] = ()


def interpolate(text: str, environ: Mapping[str, str]) -> Interpolated:
    """Replace each ``${NAME}`` in ``text`` by its value in ``environ``, once: values are not read again.

    With ``:-``, the default also replaces an empty value, as in a shell.

    Raises:
        SpecError: when a variable without a default is not set, or the syntax is wrong; its ``column``
            counts within ``text``, from 1.
    """
    if "$" not in text:
        return Interpolated(text=text)
    pieces: list[str] = []
    variables: list[str] = []
    position = 0
    for match in _REFERENCE.finditer(text):
        pieces.append(text[position : match.start()])
        position = match.end()
        if match["inside"] is None:
            pieces.append("$")
            continue
        inside = _INSIDE.fullmatch(match["inside"]) if match["end"] else None
        if inside is None:
            raise _failure("expected ${NAME} or ${NAME:-default}", match, "Write $$ for a dollar sign before a brace.")
        name, default = inside["name"], inside["default"]
        value = environ.get(name)
        if default is not None and not value:
            pieces.append(default)
        elif value is None:
            raise _failure(
                f"the variable {name} is not set", match, f"Set {name}, or give a default: ${{{name}:-default}}."
            )
        else:
            pieces.append(value)
            variables.append(name)
    pieces.append(text[position:])
    return Interpolated(text="".join(pieces), variables=tuple(dict.fromkeys(variables)))


def _failure(message: str, match: re.Match[str], hint: str) -> SpecError:
    return SpecError(message, column=match.start() + 1, hint=hint)
