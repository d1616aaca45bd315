"""Content digests, as the OCI image-spec (descriptor.md, "Digests") defines them.

A :class:`Digest` is always valid: it is checked before it can reach a URL or a path,
which is what keeps a hostile manifest from naming ``sha256:../../etc/passwd``
(CVE-2024-3727).
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from syncer.errors import InvalidDigest

if TYPE_CHECKING:
    from typing import Self

#: Hex length of each algorithm the image-spec registers and registries use.
ALGORITHMS = {"sha256": 64, "sha512": 128}
_ENCODED = {name: re.compile(rf"[0-9a-f]{{{length}}}") for name, length in ALGORITHMS.items()}


class Digest(str):
    """A digest ``algorithm:encoded``; a string that has passed the grammar.

    Raises:
        InvalidDigest: when the text is not a sha256 or sha512 digest in lower-case hex.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Check ``text``; a digest that was checked before passes at once."""
        if isinstance(text, cls):
            return text
        algorithm, _, encoded = text.partition(":")
        pattern = _ENCODED.get(algorithm)
        if pattern is None or pattern.fullmatch(encoded) is None:
            raise InvalidDigest(
                f"invalid digest {text[:160]!r}",
                hint="A digest is sha256: and 64 hex digits in lower case, or sha512: and 128.",
            )
        return super().__new__(cls, text)

    @property
    def algorithm(self) -> str:
        """The name of the hash, ``sha256`` or ``sha512``."""
        return self.partition(":")[0]

    @property
    def encoded(self) -> str:
        """The hash in lower-case hex."""
        return self.partition(":")[2]

    @property
    def short(self) -> str:
        """The first twelve hex digits, for people."""
        return self.encoded[:12]

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Self:
        """Return the digest of ``data``."""
        return cls(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")

    def hasher(self) -> hashlib._Hash:
        """Return a fresh hash object of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def matches(self, data: bytes) -> bool:
        """Tell whether ``data`` hashes to this digest."""
        return hashlib.new(self.algorithm, data).hexdigest() == self.encoded


def is_digest(text: str) -> bool:
    """Tell whether ``text`` is a valid digest."""
    try:
        Digest(text)
    except InvalidDigest:
        return False
    return True
