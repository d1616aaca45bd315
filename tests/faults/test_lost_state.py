"""A run whose state is lost finds out what is there, and writes none of it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from syncer.events import RunStatus
from syncer.oci.referrers import fallback_tag
from tests.support import images
from tests.support.faults.model import Model
from tests.support.faults.syncing import synced_between
from tests.support.faults.virtual_time import virtually
from tests.support.personalities.internet import Internet

if TYPE_CHECKING:
    from pathlib import Path

    from syncer.telemetry.report import Report

ENTRY = "name: e, from: source/app, to: target/app"
WRITING = ("POST", "PUT", "PATCH", "DELETE")


class World:
    """A source that lists referrers under a tag, and a target that does or does not."""

    def __init__(self, base: Path, *, api: bool) -> None:
        self.internet = Internet()
        self.source = Model(self.internet, "source.example", referrers=False)
        self.target = Model(self.internet, "target.example", referrers=api)
        self._base = base
        self._runs = 0
        self.image = images.image(layers=1)
        self.signature = images.artifact(seed="signature", subject=self.image.manifest)
        self.source.keep("app", self.image, "v1")

    def sign(self) -> None:
        """Attach a signature, and one to that, once the image has been copied."""
        subject = self.image.manifest
        for one in (self.signature, images.artifact(seed="of a signature", subject=self.signature.manifest)):
            self.source.keep("app", one)
            self.source.repository("app").list_under_tag(subject, one.manifest)
            subject = one.manifest

    def run(self) -> Report:
        """Run with a state that knows nothing."""
        self._runs += 1
        base = self._base / str(self._runs)
        base.mkdir()
        sites = {"source": self.source, "target": self.target}
        report = virtually(synced_between(self.internet, sites, [ENTRY], base))
        assert report.status is RunStatus.DONE, report.failures
        assert not self.internet.violations
        return report

    def written(self, since: int) -> list[str]:
        """Return what the target was told to change since so many requests."""
        return [str(seen) for seen in self.internet.seen[since:] if str(seen).split()[1] in WRITING]


@pytest.mark.parametrize("api", [True, False])
def test_signatures_that_are_there_are_not_sent_again(tmp_path: Path, *, api: bool) -> None:
    """What was attached after the copy, and what refers to that, is asked for by the target's lists."""
    world = World(tmp_path, api=api)
    world.run()
    world.sign()
    world.run()
    before = len(world.internet.seen)
    report = world.run()
    assert world.written(before) == []
    assert report.totals.referrers == 0


def test_a_signature_that_is_there_and_not_listed_is_listed(tmp_path: Path) -> None:
    """A run that was killed between the signature and the list is made good, although its state is lost."""
    world = World(tmp_path, api=False)
    world.run()
    world.sign()
    world.run()
    held = world.target.repository("app")
    tag = fallback_tag(world.image.digest)
    held.untag(tag)
    world.run()
    assert held.tags[tag]


@pytest.mark.parametrize("api", [True, False])
def test_a_signature_that_is_listed_and_gone_is_brought(tmp_path: Path, *, api: bool) -> None:
    """A garbage collector that took the signature and left the list is made good."""
    world = World(tmp_path, api=api)
    world.run()
    world.sign()
    world.run()
    held = world.target.repository("app")
    held.manifests.pop(str(world.signature.digest))
    world.run()
    assert str(world.signature.digest) in held.manifests
