"""Reads a spec: the one way from a file to a :class:`~syncer.spec.values.Spec`.

Both functions work synchronously and are meant for before the event loop starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncer.errors import SpecError
from syncer.spec.problems import spec_error
from syncer.spec.resolution import resolve

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from syncer.spec.values import Spec

_MAX_BYTES = 4 * 1024 * 1024


def load_spec(path: Path, environ: Mapping[str, str]) -> Spec:
    """Read the spec in the file ``path``; relative paths in it start at its folder.

    Raises:
        SpecError: when the file cannot be read, or for everything that is wrong with it, at once.
    """
    file = str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise SpecError("there is no such file", file=file, hint="Check the path of the spec.") from None
    except IsADirectoryError:
        raise SpecError("this is a folder, not a file", file=file, hint="Name the spec within it.") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SpecError(f"cannot be read: {reason}", file=file, hint="Check its permissions.") from None
    if len(data) > _MAX_BYTES:
        raise SpecError("the spec is larger than 4 MiB", file=file, hint="Split it into several specs.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        raise SpecError("not UTF-8", file=file, line=line, column=column, hint="Save the file as UTF-8.") from None
    # Not resolve(): a spec that is reached by a symbolic link names its neighbours from where the link is.
    return parse_spec(text, file=file, base=path.parent, environ=environ)


def parse_spec(text: str, *, file: str, base: Path, environ: Mapping[str, str]) -> Spec:
    """Read the spec in ``text``.

    Args:
        text: YAML.
        file: what errors call it.
        base: where relative paths start.
        environ: what ``${NAME}`` stands for.

    Raises:
        SpecError: for everything that is wrong with it, at once.
    """
    # Pydantic and the YAML parser cost more than all the rest of this room: only who reads a spec pays.
    from syncer.spec.document import read_document  # noqa: PLC0415 - imports the YAML parser
    from syncer.spec.validation import validate  # noqa: PLC0415 - imports pydantic

    document = read_document(text, file=file, environ=environ)
    parts = validate(document)
    spec = resolve(document, parts, base.absolute())
    if document.problems:
        raise spec_error(document.problems, file=file, hidden=document.hidden)
    return spec
