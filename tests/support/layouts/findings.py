"""What can be wrong with content on the disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum, auto


class Flaw(StrEnum):
    """A kind of finding."""

    #: A file that makes the layout what it is, or the folder ``blobs``, is not there.
    ABSENT = auto()
    #: ``oci-layout``, or a directory's ``version``, does not say what it must.
    VERSION = auto()
    #: ``index.json`` is no index.
    INDEX = auto()
    #: A whole line of the journal is no change.
    JOURNAL = auto()
    #: Two entries of ``index.json`` have one tag.
    TAG_TWICE = auto()
    #: A manifest or a blob that is linked to is not there.
    MISSING = auto()
    #: It has another size than its descriptor says.
    SIZE = auto()
    #: It is to be a manifest, and is none.
    MANIFEST = auto()
    #: A file's name is not the digest of its bytes.
    CONTENT = auto()
    #: Syncer refuses to read what is there.
    REFUSED = auto()
    #: A writer that is done has left something behind.
    LEFTOVER = auto()


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        flaw: the kind.
        subject: the digest, tag or file that it is about.
        says: the rest of the sentence.
    """

    flaw: Flaw
    subject: str
    says: str

    def __str__(self) -> str:
        return f"{self.subject} {self.says}"


@dataclass(kw_only=True)
class Layout:
    """What there is.

    Attributes:
        tags: the digest of each tag.
        digests: of the manifests that are listed.
        findings: all that is wrong.
    """

    tags: dict[str, str] = field(default_factory=dict)
    digests: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)

    def told(self, name: str) -> list[str]:
        """Say what is wrong with the layout ``name``, a line each."""
        return [f"{name}: {finding}" for finding in self.findings]
