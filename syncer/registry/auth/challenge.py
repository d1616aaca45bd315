"""The WWW-Authenticate header (RFC 9110, section 11.6.1), read by its grammar.

Several challenges may share a header, quoted values may hold commas, equals signs and escaped
quotes, and the parameters of one challenge are told from the next challenge only by what follows
a word. Splitting at commas is how others have leaked credentials. Realms, services and scopes are
ASCII: a value that is not is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from syncer.errors import StatusError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$))")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BLANK = re.compile(r"[ \t]*")
#: A header longer than this is not read on; it is no registry's.
_LONGEST = 64 * 1024
_MOST = 16
_LONGEST_REASON = 200
_ENDED = re.compile(r"\btoken (?:has |is )?expired\b", re.IGNORECASE)
_SECRET = re.compile(r"[A-Za-z0-9._~+/=-]{33,}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenge:
    """One challenge: its scheme in lower case, and its parameters with names in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    token68: str = ""


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Return the challenges of all WWW-Authenticate headers, in order.

    What breaks the grammar is skipped up to the next comma, and what was read before it is kept.
    """
    found: list[Challenge] = []
    for header in headers:
        found.extend(_Reader(header[:_LONGEST]).challenges())
        if len(found) >= _MOST:
            break
    return found[:_MOST]


def asks_for_token(error: Exception, challenges: Iterable[Challenge]) -> bool:
    """Tell whether showing something else may help: after any 401, and a 403 that names the scope it misses."""
    if not isinstance(error, StatusError) or error.status not in (401, 403):
        return False
    return error.status == 401 or any(  # noqa: PLR2004 - Unauthorized
        challenge.scheme == "bearer"
        and (challenge.parameters.get("error") == "insufficient_scope" or "scope" in challenge.parameters)
        for challenge in challenges
    )


def says_expired(error: Exception) -> bool:
    """Tell whether the registry says that what it was shown has ended, by another status than 401.

    Amazon's do: 403 for a password ("Your authorization token has expired"), 400 for a token of the public one.
    """
    return isinstance(error, StatusError) and error.status in (400, 403) and _ENDED.search(error.message) is not None


def described(challenges: Iterable[Challenge]) -> str:
    """Return the reason that challenges give (RFC 6750, section 3), for people; empty for none.

    What may be a secret that the registry repeats (a long word without a space) is left out.
    """
    for challenge in challenges:
        reason = [challenge.parameters.get(name, "") for name in ("error", "error_description")]
        shown = [_SECRET.sub("…", " ".join(part[:_LONGEST_REASON].split())) for part in reason if part]
        if shown:
            return ": ".join(shown)
    return ""


class _Reader:
    """A cursor over one header."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def challenges(self) -> list[Challenge]:
        """Read to the end of the header."""
        found: list[Challenge] = []
        while self._skip_commas():
            scheme = self._take(_TOKEN)
            # A scheme is followed by a space or by nothing; "name=" here is a stray parameter.
            if scheme is None or self._peek("="):
                self._skip_to_comma()
                continue
            found.append(self._challenge(scheme.lower()))
            if len(found) >= _MOST:
                break
        return found

    def _challenge(self, scheme: str) -> Challenge:
        self._take(_BLANK)
        token68 = self._token68()
        if token68:
            return Challenge(scheme=scheme, token68=token68)
        parameters: dict[str, str] = {}
        while True:
            before = self._at
            if not self._skip_commas():
                break
            name = self._take(_TOKEN)
            if name is None:
                self._skip_to_comma()
                continue
            self._take(_BLANK)
            if not self._peek("="):
                # A word without "=" is the scheme of the next challenge.
                self._at = before
                break
            self._at += 1
            self._take(_BLANK)
            value = self._value()
            if value is not None and value.isascii():
                # The first wins: a second one is at best a mistake, at worst an attempt to be read differently.
                parameters.setdefault(name.lower(), value)
            self._skip_to_comma()
        return Challenge(scheme=scheme, parameters=parameters)

    def _token68(self) -> str:
        match = _TOKEN68.match(self._text, self._at)
        if match is None:
            return ""
        # "Basic, Bearer realm=…": a word before a comma may also be a scheme without parameters; in
        # that case the comma stands before it, and we are not here.
        self._at = match.end()
        return match[0]

    def _value(self) -> str | None:
        match = _QUOTED.match(self._text, self._at)
        if match is not None:
            self._at = match.end()
            return re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL)
        return self._take(_TOKEN)

    def _take(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.match(self._text, self._at)
        if match is None:
            return None
        self._at = match.end()
        return match[0]

    def _peek(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _skip_commas(self) -> bool:
        while self._at < len(self._text) and self._text[self._at] in ", \t":
            self._at += 1
        return self._at < len(self._text)

    def _skip_to_comma(self) -> None:
        """Step over the rest of a broken or finished element, respecting quotes."""
        while self._at < len(self._text) and self._text[self._at] != ",":
            if self._text[self._at] != '"':
                self._at += 1
                continue
            quoted = _QUOTED.match(self._text, self._at)
            # A quote that does not close holds all the rest; to look for its end again at the next one takes for ever.
            self._at = quoted.end() if quoted else len(self._text)
