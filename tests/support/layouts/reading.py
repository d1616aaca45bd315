"""Reads OCI image layouts by the image-spec (image-layout.md), as another program would: with none of our code.

A layout of Syncer's is index.json and the journal beside it; other tools see the first alone. Everything blocks.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, field
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

from tests.support.layouts.findings import Finding, Flaw, Layout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Descriptor = dict[str, Any]

#: Where index.json keeps the tag of an entry (image-spec, annotations.md).
_REF_NAME = "org.opencontainers.image.ref.name"
_ATTEMPTS = 50


class Changing(Exception):
    """The layout's record was changed during every look at it."""


@dataclass(kw_only=True)
class Record:
    """What a layout says that it has.

    Attributes:
        entries: the descriptor of each manifest that is listed, by digest.
        tags: the digest of each tag.
        removed: digests that index.json lists, and the journal removes: their files may have gone.
        findings: what is wrong with the record itself.
    """

    entries: dict[str, Descriptor] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)


def read_layout(path: Path, *, journal: bool = False) -> Layout:
    """Read the layout at ``path``, and find all that is wrong with it.

    The files of the layout say what they must; each entry resolves to a manifest whose children, blobs and
    bytes are all there; each file below ``blobs`` hashes to its name.

    Args:
        path: the layout's directory.
        journal: read the journal, too: its entries count, and what it removes need not be there any more.
    """
    record = read_record(path, journal=journal)
    findings = [*_wrong_version(path), *record.findings, *_wrong_blobs(path)]
    whole: set[tuple[str, int]] = set()
    for digest in sorted(record.entries.keys() - record.removed):
        findings += flaws_below(path, record.entries[digest], whole)
    return Layout(tags=record.tags, digests=set(record.entries), findings=findings)


def read_tree(root: Path) -> dict[str, Layout]:
    """Read every layout below ``root`` by its index.json, by its path from there."""
    return {str(path.relative_to(root)): read_layout(path) for path in _layouts_below(root)}


def assert_valid(root: Path, *, quiet: bool = True) -> dict[str, dict[str, str]]:
    """Fail unless ``root`` and all below is valid, journals included; return the tags of each, by its path from there.

    Args:
        root: a layout, or a tree of them.
        quiet: nobody writes meanwhile. Otherwise what seems to be wrong counts only where the record was the
            same before and after: a manifest's entry goes before its file.

    Raises:
        Changing: when something seemed wrong in every look, and the record was another one after each.
    """
    found = {
        str(path.relative_to(root)): read_layout(path, journal=True) if quiet else _read_beside_a_writer(path)
        for path in _layouts_below(root)
    }
    told = [line for name, layout in found.items() for line in layout.told(name)]
    assert not told, "\n".join(told)
    return {name: layout.tags for name, layout in found.items()}


def leftovers(root: Path) -> list[Finding]:
    """Find what a writer that is done must not leave, anywhere below ``root``."""
    places = (*root.rglob(".syncer/tmp/*"), *root.rglob("*.tmp-*"))
    return [Finding(Flaw.LEFTOVER, str(place.relative_to(root)), "is left behind") for place in sorted(places)]


def read_record(path: Path, *, journal: bool) -> Record:
    """Read index.json, and the ``journal`` where that is wanted."""
    record = Record()
    # The journal first: when its writer empties it now, then into an index.json that is read after it.
    lines = _journal_lines(path) if journal else []
    index = _document(path / "index.json", Flaw.INDEX, record.findings)
    if index is None:
        return record
    if not isinstance(index, dict) or index.get("schemaVersion") != 2 or not isinstance(index.get("manifests"), list):
        record.findings.append(Finding(Flaw.INDEX, "index.json", "is no index"))
        return record
    for entry in index["manifests"]:
        if not _is_descriptor(entry):
            record.findings.append(Finding(Flaw.INDEX, "index.json", f"has an entry that is none: {entry}"))
            continue
        record.entries[entry["digest"]] = entry
        if tag := (entry.get("annotations") or {}).get(_REF_NAME):
            if tag in record.tags:
                record.findings.append(Finding(Flaw.TAG_TWICE, tag, "is the tag of two entries"))
            record.tags[tag] = entry["digest"]
    for line in lines:
        try:
            _apply(json.loads(line), record)
        except (ValueError, KeyError, TypeError):
            record.findings.append(Finding(Flaw.JOURNAL, "the journal", f"has a line that is no change: {line!r}"))
    return record


def flaws_below(path: Path, descriptor: Descriptor, whole: set[tuple[str, int]]) -> Iterator[Finding]:
    """Find what a manifest of the layout at ``path``, and all that it links to at any depth, lacks.

    Manifests that are ``whole``, by digest and size, are passed over, and those that turn out to be are added.
    """
    digest, size = descriptor["digest"], descriptor["size"]
    if (digest, size) in whole:
        return
    raw = _bytes_of(_file(path, digest))
    if raw is None:
        yield Finding(Flaw.MISSING, digest, "is missing")
        return
    found = [] if len(raw) == size else [Finding(Flaw.SIZE, digest, f"has {len(raw)} bytes in place of {size}")]
    links = links_of(raw)
    if links is None:
        yield from [*found, Finding(Flaw.MANIFEST, digest, "is no manifest")]
        return
    for child in links.children:
        found += flaws_below(path, child, whole)
    for blob in links.blobs:
        # Layers with urls live elsewhere (image-spec, descriptor.md).
        if not blob.get("urls"):
            found += _wrong_blob(path, blob, below=digest)
    if not found:
        whole.add((digest, size))
    yield from found


@dataclass(frozen=True, kw_only=True)
class Links:
    """The descriptors in a manifest."""

    children: list[Descriptor]
    blobs: list[Descriptor]


def links_of(raw: bytes) -> Links | None:
    """Return what a manifest links to; None when it is none."""
    try:
        manifest = json.loads(raw)
        children = [*manifest.get("manifests", [])]
        blobs = [*([manifest["config"]] if "config" in manifest else []), *manifest.get("layers", [])]
    except (ValueError, TypeError, AttributeError):
        return None
    if not all(map(_is_descriptor, [*children, *blobs])):
        return None
    return Links(children=children, blobs=blobs)


def _read_beside_a_writer(path: Path) -> Layout:
    findings: list[Finding] = []
    for _ in range(_ATTEMPTS):
        before = _stamps(path)
        layout = read_layout(path, journal=True)
        if not layout.findings or _stamps(path) == before:
            return layout
        findings = layout.findings
    raise Changing(f"the record of {path} never held still for {_ATTEMPTS} looks: {'; '.join(map(str, findings))}")


def _stamps(path: Path) -> list[tuple[str, int, int, int]]:
    """Return what changes when the record does."""
    found = []
    for name in ("index.json", ".syncer/journal"):
        with suppress(FileNotFoundError):
            status = (path / name).stat()
            found.append((name, status.st_ino, status.st_mtime_ns, status.st_size))
    return found


def _layouts_below(root: Path) -> list[Path]:
    return sorted(marker.parent for marker in root.rglob("oci-layout"))


def _wrong_version(path: Path) -> list[Finding]:
    found: list[Finding] = []
    version = _document(path / "oci-layout", Flaw.VERSION, found)
    if not found and version != {"imageLayoutVersion": "1.0.0"}:
        found.append(Finding(Flaw.VERSION, "oci-layout", f"says {version}"))
    return found


def _document(path: Path, flaw: Flaw, findings: list[Finding]) -> Any:
    """Return a JSON document, or None after a finding: it is absent, or it cannot be read and has the ``flaw``."""
    raw = _bytes_of(path)
    if raw is None:
        findings.append(Finding(Flaw.ABSENT, path.name, "is not there"))
        return None
    try:
        return json.loads(raw)
    except ValueError as error:
        findings.append(Finding(flaw, path.name, f"cannot be read: {error}"))
        return None


def _journal_lines(path: Path) -> list[bytes]:
    """Return the whole lines: one without its end was never acknowledged."""
    return (_bytes_of(path / ".syncer" / "journal") or b"").split(b"\n")[:-1]


def _apply(change: dict[str, Any], record: Record) -> None:
    """Apply a change of the journal.

    Raises:
        ValueError, KeyError, TypeError: when it is none.
    """
    if "put" in change:
        entry = change["put"]
        if not _is_descriptor(entry):
            raise ValueError(entry)
        digest = entry["digest"]
        record.entries[digest] = entry
        record.removed.discard(digest)
        if change.get("tag"):
            record.tags[change["tag"]] = digest
    elif "untag" in change:
        record.tags.pop(change["untag"], None)
    else:
        gone = change["remove"]
        record.removed.add(gone)
        record.tags = {tag: digest for tag, digest in record.tags.items() if digest != gone}


def _wrong_blobs(path: Path) -> Iterator[Finding]:
    """Find what is below ``blobs`` and is no blob of its name."""
    folder = path / "blobs"
    if not folder.is_dir():
        yield Finding(Flaw.ABSENT, "blobs", "is not there")
    for file in sorted(folder.glob("*/*")):
        try:
            actual = hashlib.new(file.parent.name, file.read_bytes()).hexdigest()
        except FileNotFoundError:
            # Deleted since it was listed.
            continue
        except (OSError, ValueError) as error:
            yield Finding(Flaw.CONTENT, f"{file.parent.name}/{file.name}", f"is no blob: {error}")
            continue
        if actual != file.name:
            yield Finding(Flaw.CONTENT, f"{file.parent.name}:{file.name}", f"has the content of {actual}")


def _wrong_blob(path: Path, blob: Descriptor, *, below: str) -> Iterator[Finding]:
    try:
        status = _file(path, blob["digest"]).stat()
    except (FileNotFoundError, NotADirectoryError):
        status = None
    if status is None or not S_ISREG(status.st_mode):
        yield Finding(Flaw.MISSING, blob["digest"], f"is missing below {below}")
    elif status.st_size != blob["size"]:
        yield Finding(Flaw.SIZE, blob["digest"], f"has {status.st_size} bytes in place of {blob['size']}")


def _is_descriptor(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("digest"), str) and isinstance(value.get("size"), int)


def _file(path: Path, digest: str) -> Path:
    algorithm, _, encoded = digest.partition(":")
    return path / "blobs" / algorithm / encoded


def _bytes_of(file: Path) -> bytes | None:
    """Return what is in a file; None where there is none."""
    with suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return file.read_bytes()
    return None
