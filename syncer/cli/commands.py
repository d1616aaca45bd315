"""Which commands there are, and building the typer application of those that are needed."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Command:
    """A command: its words on the command line, and the function behind it."""

    words: tuple[str, ...]
    module: str
    function: str
    summary: str

    def load(self) -> Callable[..., object]:
        """Import the command's module and return its function."""
        if self.words[0] not in _OFFLINE:
            _import_client_library()
        function: Callable[..., object] = getattr(import_module(self.module), self.function)
        return function

    def placeholder(self) -> Callable[[], None]:
        """Return a function that has nothing but the command's summary."""

        def listed() -> None:
            raise AssertionError(self.words)

        listed.__doc__ = self.summary
        return listed


#: In the order in which the help lists them. The summaries are what the functions' docstrings begin with.
COMMANDS = tuple(
    Command(words=tuple(words.split()), module=f"syncer.cli.{module}", function=function, summary=summary)
    for words, module, function, summary in (
        ("run", "run", "run", "Bring the targets of a spec in step with their sources."),
        ("plan", "run", "plan", "Show what a run would do; nothing is written."),
        ("status", "status", "status", "Show the last runs, and where each repository stands."),
        ("copy", "copy", "copy", "Copy one image, with everything that refers to it."),
        ("inspect", "inspect", "inspect", "Show what an image is made of."),
        ("list-tags", "listing", "list_tags", "List the tags of a repository."),
        ("list-repos", "listing", "list_repos", "List the repositories of a registry."),
        ("manifest-digest", "digest", "manifest_digest", "Print the digest of a manifest."),
        ("delete", "delete", "delete", "Delete a tag, and nothing else."),
        ("login", "login", "login", "Log in to a registry."),
        ("logout", "login", "logout", "Log out of a registry."),
        ("registry serve", "serve", "serve", "Serve a folder as a registry."),
        ("spec validate", "spec", "validate", "Check a spec; nothing is requested."),
        ("spec schema", "spec", "schema", "Print the JSON schema of the spec, for editors."),
        ("demo", "demo", "demo", "Sync two real registries on this machine and show it."),
    )
)
#: The first words of those that ask no registry and serve none.
_OFFLINE = frozenset({"status", "spec"})
_GROUPS = {
    "registry": "Run a registry.",
    "spec": "Check specs, and get their JSON schema.",
}


def application(arguments: Sequence[str]) -> typer.Typer:
    """Return the typer application that understands ``arguments``.

    Only the modules of the command that is named are imported. Where none is, what follows can only
    be the list of commands or an error, and for that their names will do.
    """
    first = next((word for word in arguments if not word.startswith("-")), "")
    named = [command for command in COMMANDS if command.words[0] == first]
    app = _empty("Keep container registries in step.")
    app.callback()(_top)
    groups: dict[str, typer.Typer] = {}
    for command in named or COMMANDS:
        function = command.load() if named else command.placeholder()
        *group, name = command.words
        parent = app
        if group:
            if group[0] not in groups:
                groups[group[0]] = _empty(_GROUPS[group[0]])
                groups[group[0]].callback()(_group)
                app.add_typer(groups[group[0]], name=group[0])
            parent = groups[group[0]]
        parent.command(name, context_settings=_SETTINGS)(function)
    return app


def _import_client_library() -> None:
    """Import aiohttp before anything else of a command, with next to nothing on the stack.

    Python 3.11 keeps frames in chunks, and whatever is called again and again across the end of one makes and drops
    the next each time. Deep below our own imports that happens to the expressions that aiohttp compiles as it is
    imported, and takes a twentieth of a run that finds everything in sync.
    """
    with _without_authorities():
        import aiohttp  # noqa: F401, PLC0415 - it stays among the modules


@contextmanager
def _without_authorities() -> Iterator[None]:
    """Let OpenSSL find no authorities for the length of the block.

    aiohttp makes two TLS contexts as it is imported, and reading the system's authorities for them takes 40 ms,
    a tenth of a run that finds everything in sync. We use neither: what is spoken in TLS has the contexts of
    :mod:`syncer.registry.network.certificates`, which are made when they are needed. Should anything use
    aiohttp's all the same, it trusts nobody.
    """
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    before = {name: os.environ[name] for name in names if name in os.environ}
    os.environ.update(dict.fromkeys(names, os.devnull))
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]
        os.environ.update(before)


def _empty(text: str) -> typer.Typer:
    # rich's help and tracebacks cost 100 ms before anything is done.
    return typer.Typer(
        help=text,
        add_completion=False,
        no_args_is_help=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=_SETTINGS,
    )


def _version(wanted: bool) -> None:
    if wanted:
        from syncer import __version__  # noqa: PLC0415 - as short as the fast path

        typer.echo(f"syncer {__version__}")
        raise typer.Exit


def _top(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and stop."
    ),
) -> None:
    del version


def _group() -> None:
    """Keep typer from taking a group of one command for the command itself."""
