"""Platforms of an index's manifests: ``os/architecture[/variant]``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from syncer.errors import InvalidReference

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

_WORD = re.compile(r"[A-Za-z0-9_.-]+")
#: Names people write, and the GOARCH names that indexes carry (containerd's platforms package).
_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "i386": "386"}
#: The variant that is meant where none is given.
_DEFAULT_VARIANT = {"arm64": "v8", "arm": "v7"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Platform:
    """What a manifest runs on; ``unknown/unknown`` marks BuildKit's attestations."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``os/architecture[/variant]``, e.g. ``linux/arm64/v8``.

        Raises:
            InvalidReference: when there are not two or three words.
        """
        words = text.strip().split("/")
        if len(words) not in (2, 3) or not all(_WORD.fullmatch(word) for word in words):
            raise InvalidReference(
                f"invalid platform {text!r}",
                hint="Write os/architecture[/variant], for example linux/arm64/v8.",
            )
        architecture = words[1].lower()
        return cls(
            os=words[0].lower(),
            architecture=_ARCHITECTURES.get(architecture, architecture),
            variant=words[2].lower() if len(words) == 3 else "",  # noqa: PLR2004 - the grammar has three words
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read the ``platform`` object of a descriptor; missing members become empty."""
        features = value.get("os.features")
        return cls(
            os=str(value.get("os") or ""),
            architecture=str(value.get("architecture") or ""),
            variant=str(value.get("variant") or ""),
            os_version=str(value.get("os.version") or ""),
            os_features=tuple(str(item) for item in features) if isinstance(features, list) else (),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the ``platform`` object, without empty members."""
        value: dict[str, Any] = {"architecture": self.architecture, "os": self.os}
        if self.os_version:
            value["os.version"] = self.os_version
        if self.os_features:
            value["os.features"] = list(self.os_features)
        if self.variant:
            value["variant"] = self.variant
        return value

    def satisfies(self, wanted: Platform) -> bool:
        """Tell whether this platform is what ``wanted`` asks for.

        A variant that is asked for must be equal; arm64 without one is v8 and arm without one is
        v7, on both sides. Without a variant in ``wanted`` every variant is taken.
        """
        if (self.os, self.architecture) != (wanted.os, wanted.architecture):
            return False
        if wanted.os_version and not self.os_version.startswith(wanted.os_version):
            return False
        if not wanted.variant:
            return True
        default = _DEFAULT_VARIANT.get(self.architecture, "")
        return (self.variant or default) == wanted.variant

    @property
    def is_unknown(self) -> bool:
        """True for ``unknown/unknown``, the platform of attestation manifests."""
        return self.os == "unknown" and self.architecture == "unknown"

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)
