"""A YAML document as plain data that remembers where each value stands.

Every scalar is text here, as it is written, until the key it belongs to says what it should be: a
tag ``1.10`` is not a number, and a password ``0123`` keeps its zero. A value can be found by its
path, a tuple like ``("sync", 2, "tags", "include", 0)``.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from syncer.errors import SpecError
from syncer.spec.interpolation import interpolate
from syncer.spec.problems import Problem, spell

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ruamel.yaml.nodes import Node

Path = tuple[str | int, ...]

MAX_SIZE = 4 * 1024 * 1024
#: Values after aliases are expanded, so that a few lines of aliases to aliases cannot fill the memory.
MAX_VALUES = 200_000
MAX_DEPTH = 32
_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"
_TEXT = "tag:yaml.org,2002:str"
#: The keys under ``credentials`` that may be told; any other may be a password whose colon or quote was forgotten.
_KNOWN_TO_ALL = frozenset({"username", "password", "token"})
#: What a YAML escape can make and no file, request or state can hold.
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(kw_only=True, eq=False)
class Document:
    """The ``tree`` of mappings, lists, text and None; the ``places`` of its values and keys."""

    file: str
    tree: Any = None
    places: dict[Path, tuple[int, int]] = field(default_factory=dict)
    key_places: dict[Path, tuple[int, int]] = field(default_factory=dict)
    #: What is written where an environment variable came in.
    written: dict[Path, str] = field(default_factory=dict)
    #: Variables of the environment that came in, with their values.
    hidden: dict[str, str] = field(default_factory=dict, repr=False)
    problems: list[Problem] = field(default_factory=list)
    #: Where the value is not known, so that nothing more need be said of it.
    unknown: set[Path] = field(default_factory=set)

    def place(self, path: Path) -> tuple[int, int]:
        """Return line and column of the value at ``path``, or of what should have contained it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, (1, 1))

    def report(self, path: Path, message: str, hint: str = "", *, at_key: bool = False) -> None:
        """Note a problem with the value at ``path``, or with its key."""
        line, column = self.key_places.get(path, self.place(path)) if at_key else self.place(path)
        self.report_at(line, column, path, message, hint)

    def report_at(self, line: int, column: int, path: Path, message: str, hint: str = "") -> None:
        """Note a problem at a place that no path leads to."""
        told = spell(_open_part(path))
        self.problems.append(Problem(line=line, column=column, path=told, message=message, hint=hint))

    def report_value(self, path: Path, expected: str, message: str, hint: str = "") -> None:
        """Note that the value at ``path`` is not ``expected``.

        ``message`` may quote the value. Where it came out of the environment, what is written in the
        file is quoted instead.
        """
        written = self.written.get(path)
        if written is None:
            self.report(path, message, hint)
        else:
            self.report(path, f"expected {expected}, and {written!r} does not give it")


def read_document(text: str, *, file: str, environ: Mapping[str, str]) -> Document:
    """Parse ``text`` and put ``environ`` into it; problems that leave a tree are noted, not raised.

    Raises:
        SpecError: when it is empty, too large, or not one YAML document.
    """
    if len(text) > MAX_SIZE:
        raise SpecError(
            f"the spec is larger than {MAX_SIZE // 1024**2} MiB", file=file, hint="Split it into several specs."
        )
    root = _compose(text, file)
    if root is None:
        raise SpecError("the spec is empty", file=file, line=1, column=1, hint="Start with 'version: 1'.")
    document = Document(file=file)
    document.tree = _Reader(text, environ, document).read(root, ())
    return document


def _compose(text: str, file: str) -> Node | None:
    try:
        # ruamel warns of an anchor that is defined twice; the later one holds, as YAML says.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            root: Node | None = YAML(typ="safe", pure=True).compose(text)
    except ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        raise SpecError(
            "a character that YAML does not allow", file=file, line=line, column=column, hint="Remove it."
        ) from None
    except MarkedYAMLError as error:
        raise _syntax_error(error, text, file) from None
    except (AssertionError, KeyError):
        # ruamel asserts that it knows the version that a directive names, or looks up what it does with it.
        if "%YAML" not in text:
            raise
        raise SpecError(
            "a %YAML directive names a version that is not known", file=file, hint="Remove the directive."
        ) from None
    except (YAMLError, RecursionError):
        raise SpecError("the YAML is nested too deeply", file=file) from None
    return root


def _syntax_error(error: MarkedYAMLError, text: str, file: str) -> SpecError:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    problem = str(error.problem or "not valid YAML")
    lines = text.splitlines()
    written = lines[line - 1] if line <= len(lines) else ""
    hint = "Check the indentation and the quotes around here."
    if "undefined alias" in problem:
        # What follows the * may be a password that nobody quoted.
        problem, hint = "an alias to an anchor that is not defined", "Quote text that begins with *."
    elif "another document" in problem:
        problem, hint = "a second YAML document begins here", "Write one spec in each file."
    elif "\\t" in problem:
        problem, hint = "a tab", "Indent with spaces."
    elif "${" in written:
        hint = 'Within { } and [ ], quote what has a variable: "${NAME}".'
    return SpecError(f"not valid YAML: {problem}", file=file, line=line, column=column, hint=hint)


class _Reader:
    """Turns nodes into plain data, and notes where each came from in ``document``."""

    def __init__(self, text: str, environ: Mapping[str, str], document: Document) -> None:
        self._text = text
        self._environ = environ
        self._document = document
        self._count = 0

    def read(self, node: Node, path: Path) -> Any:
        self._count += 1
        if self._count > MAX_VALUES:
            raise self._fatal(node, f"more than {MAX_VALUES} values, counting what aliases repeat")
        if len(path) > MAX_DEPTH:
            raise self._fatal(node, "nested too deeply, or an alias to what contains it")
        document = self._document
        document.places[path] = _start(node)
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if isinstance(node, SequenceNode):
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._mapping(node, path)

    def _scalar(self, node: ScalarNode, path: Path) -> str | None:
        tag, text = str(node.tag), str(node.value)
        if tag == _NULL and not node.style:
            self._document.report(path, "there is no value", "Remove the key, or give it a value.", at_key=True)
            self._document.unknown.add(path)
            return None
        if tag != _TEXT and not tag.startswith("tag:yaml.org,2002:"):
            self._document.report(path, f"the YAML tag {tag} is not used in a spec", "Remove it.")
        if _SURROGATE.search(text):
            self._document.report(path, "half of a surrogate pair, which is no character", "Remove it.")
        try:
            result = interpolate(text, self._environ)
        except SpecError as error:
            place = self._locate(node, text, (error.column or 1) - 1)
            self._document.report_at(*place, path, error.detail, error.hint)
            self._document.unknown.add(path)
            return text
        if result.variables:
            self._document.written[path] = text
            self._document.hidden.update((name, self._environ[name]) for name in result.variables)
        return result.text

    def _mapping(self, node: Node, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        own: dict[str, int] = {}
        for key, value, merged in self._pairs(node, path, MAX_DEPTH):
            name = str(key.value)
            if merged:
                if name in result:
                    continue
            elif name in own:
                self._repeated(key, (*path, name), own[name])
                continue
            else:
                own[name] = key.start_mark.line + 1
            self._document.key_places[*path, name] = _start(key)
            # What an x- key holds is read where its anchors are used.
            if path or not name.startswith("x-"):
                result[name] = self.read(value, (*path, name))
        return result

    def _pairs(self, node: Node, path: Path, depth: int) -> Iterator[tuple[ScalarNode, Node, bool]]:
        """Yield the keys of a mapping with their values, its own first and those of ``<<`` after."""
        if not isinstance(node, MappingNode) or depth == 0:
            self._document.report(path, "'<<' takes a mapping, or a list of mappings", "Write <<: *anchor.")
            return
        merges: list[Node] = []
        for key, value in node.value:
            self._count += 1
            if key.tag == _MERGE:
                merges += value.value if isinstance(value, SequenceNode) else [value]
            elif isinstance(key, ScalarNode):
                yield key, value, False
            else:
                self._document.report_at(*_start(key), path, "a key must be text")
        if self._count > MAX_VALUES:
            raise self._fatal(node, f"more than {MAX_VALUES} values, counting what aliases repeat")
        for merge in merges:
            for key, value, _ in self._pairs(merge, path, depth - 1):
                yield key, value, True

    def _repeated(self, key: Node, path: Path, line: int) -> None:
        message = f"the key is given twice, first on line {line}"
        self._document.report_at(*_start(key), path, message, "Remove one of them.")

    def _locate(self, node: ScalarNode, text: str, offset: int) -> tuple[int, int]:
        """Return where the character at ``offset`` of a scalar stands, or its start where escapes hide it."""
        start = self._text.find(text[offset:].split("\n", maxsplit=1)[0], node.start_mark.index, node.end_mark.index)
        if start < 0:
            return _start(node)
        before = self._text[:start]
        return before.count("\n") + 1, start - before.rfind("\n")

    def _fatal(self, node: Node, message: str) -> SpecError:
        line, column = _start(node)
        return SpecError(message, file=self._document.file, line=line, column=column)


def _open_part(path: Path) -> Path:
    """Return ``path`` as far as it may be told: no key that may be a secret is in it."""
    for index, part in enumerate(path):
        is_key_told = part == "credentials" and path[index + 1 : index + 2] and path[index + 1] in _KNOWN_TO_ALL
        if part == "credentials" or (part == "proxy" and path[0] == "registries"):
            return path[: index + 2 if is_key_told else index + 1]
    return path


def _start(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
