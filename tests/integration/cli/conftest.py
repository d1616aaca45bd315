"""Registries that run in a thread of their own, so that commands run in the test's, as a process would."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from anyio.from_thread import start_blocking_portal

from syncer.cli import main
from syncer.layout.repository import LayoutRepository
from syncer.layout.tree import LayoutTree
from tests.support.transfer import push
from tests.support.world import Embedded, embedded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from anyio.from_thread import BlockingPortal

    from tests.support.images import Sample

    Serve = Callable[..., AbstractContextManager[Embedded]]


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The error paragraph, without log lines."""
        return self.err[self.err.index("syncer: error:") :]


@pytest.fixture
def syncer(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command line in this process."""

    def run(*arguments: str) -> Ran:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return Ran(code=code, out=out, err=err)

    return run


@pytest.fixture
def portal() -> Iterator[BlockingPortal]:
    """Give a loop in a thread."""
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture
def serve(portal: BlockingPortal, tmp_path: Path) -> Serve:
    """Start registries by name; each lives in ``tmp_path/NAME`` until the end of its block."""

    @contextmanager
    def start(name: str, content: dict[str, Sample] | None = None, **settings: Any) -> Iterator[Embedded]:
        root = tmp_path / name
        portal.call(_fill, root, content or {})
        with portal.wrap_async_context_manager(embedded(root, **settings)) as registry:
            yield registry

    return start


async def _fill(root: Path, content: dict[str, Sample]) -> None:
    """Write samples by ``repository:tag`` before anybody serves them."""
    tree = LayoutTree(root, durable=False)
    for name, sample in content.items():
        repository, _, tag = name.partition(":")
        await push(LayoutRepository(tree, repository), sample, tag)
    await tree.close()
