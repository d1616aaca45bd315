"""What single registries answer that no other does, in whole syncs: immutable tags, missing projects, quotas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncer.events import RunStatus, TagOutcome
from tests.support import images
from tests.support.personalities.clouds import Cloudflare, Ecr
from tests.support.personalities.matrix import TARGETS, Pair, Role
from tests.support.personalities.products import Harbor, Quay
from tests.support.personalities.public import Chainguard, DockerHub, Kubernetes
from tests.support.personalities.sites import Login

if TYPE_CHECKING:
    from pathlib import Path

ONLY = "only"


async def test_an_immutable_tag_that_is_right_is_in_sync(tmp_path: Path) -> None:
    """ECR refuses a PUT of an immutable tag even with its own digest; there is none, and nothing fails."""
    cell = Pair(Ecr, Role.TARGET, tmp_path)
    cell.target.repository("mirror/fixed").keep(cell.corpus.other[ONLY], ONLY)
    async with cell.internet.running():
        report = await cell.sync(targets=("mirror/app", "mirror/fixed"))
    assert not report.failures
    assert not [seen for seen in cell.internet.seen if seen.method == "PUT" and "fixed" in seen.target]


async def test_an_immutable_tag_that_moved_at_the_source_is_told(tmp_path: Path) -> None:
    """The tag fails by its own name, stays what it was, and is tried once."""
    cell = Pair(Ecr, Role.TARGET, tmp_path)
    held = images.image(seed="held")
    cell.target.repository("mirror/fixed").keep(held, ONLY)
    async with cell.internet.running():
        report = await cell.sync(targets=("mirror/app", "mirror/fixed"))
    assert [(failure.tag, failure.error) for failure in report.failures] == [(ONLY, "ImmutableTag")]
    assert cell.target.repository("mirror/fixed").tags == {ONLY: held.digest}
    puts = [seen for seen in cell.internet.seen if seen.target == f"/v2/mirror/fixed/manifests/{ONLY}"]
    assert [seen.method for seen in puts].count("PUT") == 1


async def test_a_repository_that_must_be_made_first(tmp_path: Path) -> None:
    """Where ECR has no repository, the failure says what to do, and the rest of the run is complete."""
    cell = Pair(Ecr, Role.TARGET, tmp_path)
    async with cell.internet.running():
        report = await cell.sync(targets=("mirror/app", "nobody/made-it"))
    assert [failure.tag for failure in report.failures] == [ONLY]
    assert "create: ecr" in report.failures[0].hint
    assert sorted(cell.target.repository("mirror/app").tags) == sorted([*cell.corpus.app, cell.corpus.cosign_tag])
    assert not cell.internet.violations


async def test_harbor_gets_its_projects_made(tmp_path: Path) -> None:
    """With ``create: harbor`` two repositories of a project that is missing arrive, and it is made once."""
    cell = Pair(Harbor, Role.TARGET, tmp_path)
    async with cell.internet.running():
        report = await cell.sync(targets=("fresh/app", "fresh/other"), create="harbor")
    assert not report.failures
    assert isinstance(cell.registry, Harbor)
    assert "fresh" in cell.registry.projects
    assert [seen.target for seen in cell.internet.seen].count("/api/v2.0/projects") == 1
    assert cell.target.repository("fresh/other").tags == {ONLY: cell.corpus.other[ONLY].digest}
    assert not cell.internet.violations


async def test_harbors_immutable_tags_are_told(tmp_path: Path) -> None:
    """412 is an immutable tag, not a failure to be tried again."""
    cell = Pair(Harbor, Role.TARGET, tmp_path)
    assert isinstance(cell.registry, Harbor)
    cell.registry.immutable.add(ONLY)
    cell.target.repository(TARGETS[1]).keep(images.image(seed="held"), ONLY)
    async with cell.internet.running():
        report = await cell.sync()
    assert [(failure.tag, failure.error) for failure in report.failures] == [(ONLY, "ImmutableTag")]


async def test_a_run_with_nothing_to_do_costs_no_pull(tmp_path: Path) -> None:
    """The Docker Hub counts GETs of manifests: a second run makes none, and the first one for each manifest."""
    cell = Pair(DockerHub, Role.SOURCE, tmp_path)
    assert isinstance(cell.registry, DockerHub)
    async with cell.internet.running():
        await cell.sync()
        # What is once listed under a subject's tag is read once more.
        await cell.sync()
        before = cell.registry.pulls
        assert (await cell.sync()).status is RunStatus.DONE
    assert cell.registry.pulls == before


async def test_a_quota_that_is_used_up_defers_the_rest(tmp_path: Path) -> None:
    """With five pulls left, no more than those are made; the rest is deferred, and comes when there are more."""
    cell = Pair(DockerHub, Role.SOURCE, tmp_path)
    assert isinstance(cell.registry, DockerHub)
    cell.registry.quota = 5
    async with cell.internet.running():
        report = await cell.sync()
        assert report.deferrals
        assert not report.failures
        assert report.totals.tags[TagOutcome.DEFERRED]
        refused = [seen for seen in cell.internet.seen if seen.status == 429]
        assert len(refused) <= 1
        cell.registry.quota = 1000
        report = await cell.sync()
        assert not report.deferrals
        assert report.status is RunStatus.DONE
    assert cell.target.repository(TARGETS[0]).tags["multi"] == cell.corpus.multi.digest
    assert not cell.internet.violations


async def test_credentials_of_the_front_stay_with_the_front(tmp_path: Path) -> None:
    """Who has a password for registry.k8s.io shows it there only: the backend and the storage never see it."""

    class Guarded(Kubernetes):
        login = Login(user="jane", password="canary-front-password")

    cell = Pair(Guarded, Role.SOURCE, tmp_path)
    async with cell.internet.running():
        report = await cell.sync()
    assert not report.failures
    assert not cell.internet.violations


async def test_a_registry_that_takes_nothing_is_soon_left_alone(tmp_path: Path) -> None:
    """A push that is denied for a repository is not tried for each of its blobs; each tag says why it failed."""
    cell = Pair(Chainguard, Role.TARGET, tmp_path)
    async with cell.internet.running():
        report = await cell.sync()
    assert {failure.error for failure in report.failures} == {"Denied"}
    assert len(report.failures) == len(cell.corpus.app) + len(cell.corpus.other)
    assert not cell.target.repository(TARGETS[0]).manifests


async def test_no_body_is_over_a_limit_that_was_met(tmp_path: Path) -> None:
    """Behind Cloudflare one PUT is refused with a page of HTML; what follows keeps within what was learned."""
    cell = Pair(Cloudflare, Role.TARGET, tmp_path)
    async with cell.internet.running():
        report = await cell.sync()
    assert not report.failures
    over = [seen for seen in cell.internet.seen if int(seen.headers.get("Content-Length") or 0) > Cloudflare.LIMIT]
    assert [seen.status for seen in over] == [413]


async def test_short_pages_of_tags_are_all_read(tmp_path: Path) -> None:
    """Quay gives tags in short pages with a token of its own in the Link; each page is asked for once."""
    cell = Pair(Quay, Role.SOURCE, tmp_path)
    async with cell.internet.running():
        assert not (await cell.sync()).failures
    pages = [seen.target for seen in cell.internet.seen if seen.site == cell.registry.host and seen.kind == "tags"]
    asked = [page for page in pages if page.startswith(f"/v2/{cell.names[0]}/") and page]
    assert [page for page in asked if "next_page" in page] == [f"/v2/{cell.names[0]}/tags/list?n=4&next_page=4"]
