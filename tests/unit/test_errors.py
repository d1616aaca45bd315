"""Errors and notices can be shown, logged and stored whatever a registry sent."""

from __future__ import annotations

import pytest

from syncer.errors import LONGEST_HINT, LONGEST_MESSAGE, ProtocolViolation, SpecError, SyncerError, printable
from syncer.events import Notice


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, Grüße und 漢字", "plain text, Grüße und 漢字"),
        ("two\nlines", "two\nlines"),
        ("a byte \udcff that is no UTF-8", "a byte \\udcff that is no UTF-8"),
        ("half a pair \ud800", "half a pair \\ud800"),
        ("\x1b[2Jcleared", "\\x1b[2Jcleared"),
        ("over\rwritten\tand\x00cut\x7f\x9b", "over\\rwritten\\tand\\x00cut\\x7f\\x9b"),
        ("turned \u202eround", "turned \\u202eround"),
        ("C:\\path\\x41", "C:\\path\\x41"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    """What cannot be encoded or would steer a terminal is escaped; everything else is left as it is."""
    assert printable(text) == shown
    assert printable(printable(text)) == shown
    printable(text).encode()


@pytest.mark.parametrize("kind", [SyncerError, ProtocolViolation, SpecError])
def test_every_error_can_be_encoded(kind: type[SyncerError]) -> None:
    """Message, hint and text of an error are printable, whatever went into them."""
    error = kind("the digest \udcff\x1b[0m", hint="Ask \ud800.")
    assert error.message == "the digest \\udcff\\x1b[0m"
    assert error.hint == "Ask \\ud800."
    assert (str(error), error.paragraph()) == (error.message, f"{error.message}. {error.hint}")


def test_what_is_set_later_can_be_encoded_too() -> None:
    """A hint that is found after the error was made gets the same treatment."""
    error = SyncerError("no")
    error.hint = "realm \udcff"
    error.message = "not \x1b now"
    assert (error.message, error.hint) == ("not \\x1b now", "realm \\udcff")


def test_every_notice_can_be_encoded() -> None:
    """A registry's warning is printable, and so is the place it came from."""
    notice = Notice(where="r.io\x07", text="soon gone \udcff")
    assert (notice.where, notice.text) == ("r.io\\x07", "soon gone \\udcff")


@pytest.mark.parametrize("letter", ["a", "\x00", "\U000e0001", "é"])
def test_no_error_is_a_document(letter: str) -> None:
    """What a registry makes megabytes long is cut in a message and a hint, escapes and all."""
    error = SpecError(letter * 2_000_000, hint=letter * 2_000_000)
    assert len(error.message) == len(error.detail) == LONGEST_MESSAGE
    assert len(error.hint) == LONGEST_HINT
    assert error.message.endswith("…")
    assert SyncerError("a" * LONGEST_MESSAGE).message == "a" * LONGEST_MESSAGE
