"""The password file: one ``user:hash`` a line, as Apache's htpasswd writes it.

Understood are bcrypt (``$2y$…``, when the ``bcrypt`` package is installed), ``{SHA}…``, and two forms
of our own that need nothing but Python: ``$scrypt$n$r$p$salt$key`` and
``$pbkdf2-sha256$iterations$salt$key``, salt and key in base64. Clear text, MD5 and crypt entries are
not: they are listed in :attr:`PasswordFile.unusable` so that nobody wonders.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import importlib
import importlib.util
import os
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from anyio.to_thread import run_sync

from syncer.errors import CredentialsError

if TYPE_CHECKING:
    from pathlib import Path

_SCRYPT = (16384, 8, 1)
#: Bounds that keep a line of the file from taking the machine.
_MAX_SCRYPT_MEMORY = 128 * 1024 * 1024
_MAX_ITERATIONS = 10_000_000
#: A shorter key would be guessed rather than computed.
_MIN_KEY = 16
#: Seconds for which a password that was right is taken again without the slow hash.
_TRUST = 300.0
_TRUSTED = 1024
#: Seconds between two looks at whether the file has changed.
_RECHECK = 1.0
_BCRYPT = ("$2y$", "$2b$", "$2a$")


@dataclass(frozen=True, kw_only=True, slots=True)
class UnusableEntry:
    """A line of the password file with which nobody can log in, and why."""

    line: int
    user: str
    reason: str


def encode_password(password: str) -> str:
    """Return a new ``$scrypt$`` hash of ``password`` for the password file; takes about 50 ms."""
    salt = secrets.token_bytes(16)
    n, r, p = _SCRYPT
    key = hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=_MAX_SCRYPT_MEMORY, dklen=32)
    return f"$scrypt${n}${r}${p}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


def check_password(password: str, entry: str) -> bool:
    """Tell whether ``password`` is the one of a hash that :func:`unusable_reason` accepts; slow by design."""
    data = password.encode()
    if entry.startswith(_BCRYPT):
        bcrypt = importlib.import_module("bcrypt")
        # bcrypt takes 72 bytes; newer packages refuse more where older ones cut.
        return bool(bcrypt.checkpw(data[:72], entry.encode()))
    if entry.startswith("{SHA}"):
        # The format is Apache's: an unsalted SHA-1 is all it can hold.
        expected = base64.b64decode(entry[5:])
        return hmac.compare_digest(hashlib.sha1(data, usedforsecurity=False).digest(), expected)
    scheme, *numbers, salt, key = entry.split("$")[1:]
    salt_bytes, expected = base64.b64decode(salt), base64.b64decode(key)
    if scheme == "scrypt":
        n, r, p = map(int, numbers)
        actual = hashlib.scrypt(data, salt=salt_bytes, n=n, r=r, p=p, maxmem=_MAX_SCRYPT_MEMORY, dklen=len(expected))
    else:
        actual = hashlib.pbkdf2_hmac("sha256", data, salt_bytes, int(numbers[0]), len(expected))
    return hmac.compare_digest(actual, expected)


def unusable_reason(entry: str) -> str:
    """Return why a hash cannot be used, or an empty string when it can."""
    if entry.startswith(_BCRYPT):
        return "" if importlib.util.find_spec("bcrypt") else "bcrypt needs the 'bcrypt' package, which is not installed"
    try:
        if entry.startswith("{SHA}"):
            return "" if len(base64.b64decode(entry[5:], validate=True)) == hashlib.sha1().digest_size else "malformed"  # noqa: S324 - its length only
        parts = entry.split("$")
        if entry.startswith("$scrypt$"):
            _, _, n, r, p, salt, key = parts
            # RFC 7914: n is a power of two greater than one, and 128 * n * r bytes are used.
            if int(n).bit_count() != 1 or int(n) == 1 or 128 * int(n) * int(r) * int(p) > _MAX_SCRYPT_MEMORY // 2:
                return "its scrypt parameters are out of bounds"
        elif entry.startswith("$pbkdf2-sha256$"):
            _, _, iterations, salt, key = parts
            if not 0 < int(iterations) <= _MAX_ITERATIONS:
                return "its number of iterations is out of bounds"
        elif entry.startswith("$apr1$"):
            return "Apache's MD5 is not supported; write it again with 'htpasswd -B'"
        else:
            return "not a hash of a known kind; clear text and crypt entries are not supported"
        salt_ok = bool(base64.b64decode(salt, validate=True))
        return "" if salt_ok and len(base64.b64decode(key, validate=True)) >= _MIN_KEY else "malformed"
    except (ValueError, binascii.Error):
        return "malformed"


class PasswordFile:
    """The users who may log in; read again when the file changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._entries: dict[str, str] = {}
        self.unusable: tuple[UnusableEntry, ...] = ()
        self._pepper = os.urandom(32)
        self._trusted: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        # A login takes 50 ms of a core, and there are usually more cores than two.
        self._limiter = anyio.CapacityLimiter(2)
        self._decoy = ""
        self._fresh_until = 0.0

    async def load(self) -> tuple[UnusableEntry, ...]:
        """Read the file; return the entries that cannot be used.

        Raises:
            CredentialsError: when the file cannot be read.
        """
        await run_sync(self._refresh)
        return self.unusable

    async def verify(self, user: str, password: str) -> bool:
        """Tell whether the user may log in with the password.

        Takes as long for a user who is not in the file as for one who is.
        """
        # What is remembered of a password is keyed with a secret of this process.
        mark = hmac.digest(self._pepper, f"{user}\0{password}".encode(), "sha256")
        if time.monotonic() < self._fresh_until and self._is_trusted(user, mark):
            return True
        return await run_sync(self._verify, user, password, mark, limiter=self._limiter)

    def _verify(self, user: str, password: str, mark: bytes) -> bool:
        self._refresh()
        if self._is_trusted(user, mark):
            return True
        entry = self._entries.get(user)
        right = check_password(password, entry or self._decoy)
        if entry is None or not right:
            return False
        self._trusted[mark] = (entry, time.monotonic() + _TRUST)
        while len(self._trusted) > _TRUSTED:
            self._trusted.popitem(last=False)
        return True

    def _is_trusted(self, user: str, mark: bytes) -> bool:
        entry, until = self._trusted.get(mark, ("", 0.0))
        return bool(entry) and self._entries.get(user) == entry and until > time.monotonic()

    def _refresh(self) -> None:
        self._fresh_until = time.monotonic() + _RECHECK
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp == self._stamp:
                return
            text = self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            if self._stamp is not None:
                # While the file is being replaced, the one that was read last stands.
                return
            raise CredentialsError(
                f"the password file {self._path} cannot be read: {error}",
                hint="Give the path of an htpasswd file that this process may read.",
            ) from None
        self._entries, self.unusable = _parse(text)
        self._stamp = stamp
        self._trusted.clear()
        self._decoy = next(iter(self._entries.values()), "") or encode_password(secrets.token_hex())


def _parse(text: str) -> tuple[dict[str, str], tuple[UnusableEntry, ...]]:
    entries: dict[str, str] = {}
    unusable: list[UnusableEntry] = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        user, colon, entry = stripped.partition(":")
        reason = unusable_reason(entry) if colon and user else "the line is not user:hash"
        if reason:
            # Without a colon the line may be a password: it is not repeated.
            unusable.append(UnusableEntry(line=number, user=user if colon else "", reason=reason))
        else:
            entries[user] = entry
    return entries, tuple(unusable)
