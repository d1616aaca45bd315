"""Whether an OCI image layout is valid, at any instant: read as another program would, with none of our code.

A layout of Syncer's is index.json and the journal beside it; other tools see the first alone, so both
views are checked. A writer may be at work meanwhile: what is replaced while it is read is read again.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

#: Where index.json keeps the tag of an entry (image-spec, annotations.md).
_REF_NAME = "org.opencontainers.image.ref.name"
_ATTEMPTS = 50


@dataclass(kw_only=True)
class Checked:
    """What a layout holds.

    Attributes:
        tags: the digest of each tag, the journal included.
        listed: every digest that has an entry, the journal included.
        problems: what is wrong, in words.
    """

    tags: dict[str, str] = field(default_factory=dict)
    listed: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


class Changing(Exception):
    """The layout's record was changed during every look at it."""


def check_layout(path: Path, *, quiet: bool = True) -> Checked:
    """Check the layout at ``path``.

    oci-layout and index.json are there and say what they must; each tag resolves to a manifest whose
    children, blobs and bytes are all there; each file below ``blobs`` hashes to its name.

    Args:
        path: the layout's directory.
        quiet: nobody writes meanwhile. Otherwise what seems to be wrong counts only where the record was the
            same before and after: a manifest's entry goes before its file.

    Raises:
        Changing: when something seemed wrong in every look, and the record was another one after each.
    """
    problems: list[str] = []
    for _ in range(_ATTEMPTS):
        before = _stamps(path)
        checked = _check(path)
        if quiet or not checked.problems or _stamps(path) == before:
            return checked
        problems = checked.problems
    raise Changing(f"the record of {path} never held still for {_ATTEMPTS} looks: {problems}")


def check_tree(root: Path, *, quiet: bool = True) -> dict[str, Checked]:
    """Check every layout below ``root``, by its path from there."""
    found = sorted(marker.parent for marker in root.rglob("oci-layout"))
    return {str(path.relative_to(root)): check_layout(path, quiet=quiet) for path in found}


def assert_valid(root: Path, *, quiet: bool = True) -> dict[str, dict[str, str]]:
    """Fail unless ``root`` and all below is valid; return the tags of each layout, by its path from there."""
    checked = check_tree(root, quiet=quiet)
    problems = [f"{name}: {problem}" for name, each in checked.items() for problem in each.problems]
    assert not problems, "\n".join(problems)
    return {name: each.tags for name, each in checked.items()}


def _stamps(path: Path) -> list[tuple[str, int, int, int]]:
    """Return what changes when the record does."""
    found = []
    for name in ("index.json", ".syncer/journal"):
        with suppress(FileNotFoundError):
            status = (path / name).stat()
            found.append((name, status.st_ino, status.st_mtime_ns, status.st_size))
    return found


def _check(path: Path) -> Checked:
    checked = Checked()
    version = _document(path / "oci-layout", checked)
    if version != {"imageLayoutVersion": "1.0.0"}:
        checked.problems.append(f"oci-layout says {version}")
    # The journal first: when its writer empties it now, then into an index.json that is read after it.
    journal = path / ".syncer" / "journal"
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    index = _document(path / "index.json", checked)
    if not isinstance(index, dict) or not isinstance(index.get("manifests"), list):
        checked.problems.append("index.json is no index")
        return checked
    tags: dict[str, str] = {}
    for entry in index["manifests"]:
        name = entry.get("annotations", {}).get(_REF_NAME)
        if name:
            if name in tags:
                checked.problems.append(f"the tag {name} is there twice")
            tags[name] = entry["digest"]
        checked.listed.add(entry["digest"])
    # What others see must be whole, and what we see, too; a manifest that the journal removes may be gone already.
    removed = _apply_journal(lines, checked, tags)
    checked.tags = tags
    _check_blobs(path, checked)
    for digest in sorted(checked.listed - removed):
        _check_closure(path, digest, checked)
    return checked


def _apply_journal(lines: list[bytes], checked: Checked, tags: dict[str, str]) -> set[str]:
    """Apply the journal's whole lines to ``tags`` and the entries; return the digests that they remove."""
    removed: set[str] = set()
    for line in lines:
        change = json.loads(line)
        if "put" in change:
            digest = change["put"]["digest"]
            checked.listed.add(digest)
            removed.discard(digest)
            if change.get("tag"):
                tags[change["tag"]] = digest
        elif "untag" in change:
            tags.pop(change["untag"], None)
        else:
            removed.add(change["remove"])
            for tag in [tag for tag, digest in tags.items() if digest == change["remove"]]:
                del tags[tag]
    return removed


def _check_blobs(path: Path, checked: Checked) -> None:
    folder = path / "blobs"
    if not folder.is_dir():
        checked.problems.append("there is no folder blobs")
        return
    for file in folder.glob("*/*"):
        try:
            actual = hashlib.new(file.parent.name, file.read_bytes()).hexdigest()
        except FileNotFoundError:
            continue
        if actual != file.name:
            checked.problems.append(f"{file.name} has the content of {actual}")


def _check_closure(path: Path, digest: str, checked: Checked) -> None:
    algorithm, _, encoded = digest.partition(":")
    file = path / "blobs" / algorithm / encoded
    if not file.is_file():
        checked.problems.append(f"the manifest {digest} is missing")
        return
    manifest = json.loads(file.read_bytes())
    for child in manifest.get("manifests", []):
        _check_closure(path, child["digest"], checked)
    blobs = [*manifest.get("layers", []), *([manifest["config"]] if "config" in manifest else [])]
    for blob in blobs:
        algorithm, _, encoded = blob["digest"].partition(":")
        place = path / "blobs" / algorithm / encoded
        if blob.get("urls"):
            continue
        if not place.is_file():
            checked.problems.append(f"{digest} lacks its blob {blob['digest']}")
        elif place.stat().st_size != blob["size"]:
            checked.problems.append(f"{blob['digest']} has {place.stat().st_size} bytes, not {blob['size']}")


def _document(path: Path, checked: Checked) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        checked.problems.append(f"{path.name} cannot be read: {error}")
        return None
