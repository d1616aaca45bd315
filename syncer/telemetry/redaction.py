"""What must not be seen in a log line, a report or on a terminal.

Errors and events carry no secrets by contract; this is the second lock on the same door. It masks
what looks like a credential wherever it appears: authorization headers and schemes, userinfo in
URLs, parameters of URLs that are not on a short list of harmless ones (a presigned URL or an
upload session's ``_state`` is a credential), secrets in JSON and ``key=value`` text, and tokens
that are known by their shape.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

MASK = "***"

#: The parameters of the distribution-spec and of token requests; none of them is a secret.
HARMLESS_PARAMETERS = frozenset(
    {"n", "last", "mount", "from", "digest", "artifacttype", "ns", "tag", "service", "scope"}
)

_SENSITIVE = (
    r"(?:access_?token|refresh_?token|id_?token|identity_?token|registry_?token|session_?token|token"
    r"|password|passwd|passphrase|secret|client_secret|secret_?access_?key|api_?key|private_?key|auth|credentials?)"
)
_SENSITIVE_FIELD = re.compile(rf"(?i)(?:.*[_.-])?(?:{_SENSITIVE}|authorization|cookie|userinfo)")
_VALUE = r"(?:\"[^\"\n]*\"?|'[^'\n]*'?)"

_HEADER = re.compile(
    r"(?i)\b((?:proxy-)?authorization|x-(?:[a-z]{1,20}-){0,3}(?:auth|token|config)|(?:set-)?cookie)([\"']?\s*[:=]\s*)"
    rf"(?:{_VALUE}|[^\n]+)"
)
#: Words that follow the name of a scheme in a sentence; whatever else follows it is taken for its credentials.
_PROSE = (
    r"(?:auth\w*|challenges?|credentials?|header|is|nor|only|or|realm|schemes?|tokens?|and|was)\b(?![=+/.~_-]*[\w=])"
)
#: Not "digest": that scheme's credentials are parameters with quotes, and the word is one of ours.
_SCHEME = re.compile(rf"(?i)\b(bearer|basic|negotiate)\s+(?!realm=)(?!{_PROSE})[A-Za-z0-9._~+/-]+=*")
_PAIR = re.compile(
    rf"(?i)\b({_SENSITIVE})(?:([\"']\s*:\s*){_VALUE}|(=)(?:{_VALUE}|[^\s,;&)}}\]]+))"
    r"|\b(password|passwd|passphrase|secret)(:\s+)(?!the variable\b|expected\b|unknown key\b)\S+"
)
_USERINFO = re.compile(r"(//)[^/\s?#\"'<>]+@(?!sha(?:256|512):)")
_PARAMETER = re.compile(r"([?&;#])([A-Za-z0-9_.~%\[\]-]+)=([^&;\s\"'<>#]+)")
_SHAPE = re.compile(
    r"\beyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]+)+"  # a JSON web token
    r"|\b(?:dckr_[po]at_|gh[pousr]_|github_pat_|glpat-)[A-Za-z0-9_-]{8,}"
)


def redact(text: str) -> str:
    """Return ``text`` with everything masked that looks like a credential."""
    text = _HEADER.sub(rf"\1\2{MASK}", text)
    text = _USERINFO.sub(rf"\1{MASK}@", text)
    text = _PARAMETER.sub(_parameter, text)
    text = _SCHEME.sub(rf"\1 {MASK}", text)
    text = _PAIR.sub(_pair, text)
    return _SHAPE.sub(MASK, text)


def printable(text: str) -> str:
    r"""Return ``text`` on one line, with control characters escaped (``\x1b``).

    What a registry says may hold escape sequences; a terminal or a log must not obey them.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c in "\n\t" else ascii(c)[1:-1] for c in text.strip())


def redact_value(value: Any) -> Any:
    """Return ``value`` with its strings redacted; numbers, booleans and None are passed on as they are."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return redact_fields(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [redact_value(item) for item in value]
    return redact(str(value))


def redact_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``fields`` with every value redacted, and masked whole where the name says it is secret."""
    return {
        str(name): MASK
        if value is not None and _SENSITIVE_FIELD.fullmatch(str(name)) is not None
        else redact_value(value)
        for name, value in fields.items()
    }


def redact_event(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> dict[str, Any]:
    """Redact one log line: a structlog processor, to be placed right before the renderer."""
    return redact_fields(fields)


def _parameter(match: re.Match[str]) -> str:
    if match[2].lower() in HARMLESS_PARAMETERS:
        return match[0]
    return f"{match[1]}{match[2]}={MASK}"


def _pair(match: re.Match[str]) -> str:
    name = match[1] or match[4]
    return f"{name}{match[2] or match[3] or match[5]}{MASK}"
