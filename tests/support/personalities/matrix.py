"""The matrix: every personality as source and as target, through a first sync, a no-op, a changed tag, a stop.

A cell runs whole syncs through the engine, and checks what arrived, what it cost beside the budget
of reference 5.5, and every invariant of reference 6.4 that can be seen from outside.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import anyio

from syncer.events import RunStatus
from syncer.oci.referrers import cosign_tags, fallback_tag
from tests.support import images
from tests.support.faults.syncing import synced
from tests.support.personalities import clouds, products, public
from tests.support.personalities.internet import Internet, Trap
from tests.support.personalities.registry import Personality
from tests.support.personalities.store import sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from syncer.telemetry.report import Report
    from tests.support.images import Sample

PERSONALITIES: tuple[type[Personality], ...] = (
    Personality,
    clouds.Ecr,
    clouds.EcrPublic,
    clouds.Gar,
    clouds.Gcr,
    clouds.Acr,
    clouds.Ocir,
    clouds.DigitalOcean,
    clouds.Cloudflare,
    public.DockerHub,
    public.Ghcr,
    public.Kubernetes,
    public.Chainguard,
    products.Distribution,
    products.Zot,
    products.Quay,
    products.Harbor,
    products.GitLab,
    products.Artifactory,
    products.Nexus,
    products.WithoutHead,
)
TARGETS = ("mirror/app", "mirror/other")


class Role(StrEnum):
    """Which side of the sync the personality is on."""

    SOURCE = "source"
    TARGET = "target"


class Scenario(StrEnum):
    """What is synced."""

    FIRST = "first sync"
    NO_OP = "no-op"
    CHANGED = "changed tag"
    INTERRUPTED = "interrupted"


#: What is played on one pair of registries, one run after the other; each scenario is a cell of the matrix.
COURSES = ((Scenario.FIRST, Scenario.NO_OP, Scenario.CHANGED), (Scenario.INTERRUPTED,))
_REFUSED = (Scenario.FIRST,)


class _Partner(Personality):
    """The registry by the book that is on the other side."""

    host = "partner.example"


class Corpus:
    """Two repositories: images, an index with attestations, one digest under two tags, an empty layer, signatures."""

    def __init__(self) -> None:
        self.shared = images.random_bytes(1500, "shared")
        self.single = images.image(seed="single", shared=[self.shared])
        self.multi = images.index(attestations=True, seed="multi", shared=[self.shared])
        self.hollow = images.image(seed="hollow", layers=1, shared=[b""], size=6000)
        self.docker = images.docker_image(seed="docker")
        self.signature = images.artifact(subject=self.single.manifest, seed="signature")
        self.cosign = images.artifact(seed="cosign")
        self.cosign_tag = cosign_tags(self.multi.digest)[0]
        self.app: dict[str, Sample] = {
            "single": self.single,
            "same": self.single,
            "multi": self.multi,
            "hollow": self.hollow,
            "docker": self.docker,
        }
        self.other: dict[str, Sample] = {"only": images.image(seed="other", layers=1, shared=[self.shared])}
        self.changed = images.image(seed="changed", layers=1, shared=[self.shared])

    def keep(self, registry: Personality, app: str, other: str) -> None:
        """Put everything into two repositories of ``registry``."""
        repository = registry.repository(app)
        for tag, sample in {**self.app, self.cosign_tag: self.cosign}.items():
            repository.keep(sample, tag)
        repository.keep(self.signature)
        if not registry.has_referrers:
            repository.list_under_tag(self.single.manifest, self.signature.manifest)
        for tag, sample in self.other.items():
            registry.repository(other).keep(sample, tag)

    def blobs(self, samples: Iterable[Sample]) -> set[str]:
        """The digests of the blobs of ``samples``."""
        return {str(digest) for sample in samples for digest in sample.blobs}


@dataclass(kw_only=True)
class Outcome:
    """What a cell came to."""

    personality: str
    role: Role
    scenario: Scenario
    counts: Counter[str] = field(default_factory=Counter)
    budget: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def over(self) -> dict[str, str]:
        """The kinds of which there were more than the budget has, as ``count > budget``."""
        return {
            kind: f"{count} > {self.budget[kind]}" for kind, count in self.counts.items() if count > self.budget[kind]
        }

    @property
    def is_red(self) -> bool:
        """Whether something is not as it should be."""
        return bool(self.problems or self.over)

    @property
    def spent(self) -> int:
        """All requests to the personality."""
        return self.counts.total()

    @property
    def allowed(self) -> int:
        """The whole budget."""
        return self.budget.total()


def budget(corpus: Corpus, registry: Personality, partner: Personality, role: Role, scenario: Scenario) -> Counter[str]:
    """Return the most requests of each kind that a cell may cost on the personality's side (reference 5.5).

    Beyond the table there: a tag list for each repository (one for the target, where it saves asking for
    each tag), what looking for referrers takes, and one challenge for each repository before the first token.
    """
    first, no_op = _first(corpus, registry, partner, role), _no_op(corpus, registry, partner, role)
    allowed = {
        Scenario.FIRST: first,
        Scenario.NO_OP: no_op,
        Scenario.CHANGED: no_op + _changed(registry, role),
        # The rest of a first sync, and what was finished is looked at.
        Scenario.INTERRUPTED: first + no_op,
    }[scenario]
    # What is redirected costs one more each: the answer that redirects counts as a hop, what it leads to as itself.
    if registry.storage_host:
        allowed["storage"] += allowed.pop("blob-get", 0)
    allowed["hop"] += allowed.total() if registry.redirects_all else allowed["storage"]
    if registry.token_host or registry.login.password or registry.redirects_all:
        allowed["challenge"] += 2
    # Scope sets: two repositories, and for a target one more for the mount between them.
    if registry.token_host or registry.redirects_all:
        allowed["token"] += 2 if role is Role.SOURCE else 3
    extra = Counter(registry.surcharge(role, scenario))
    allowed["token"] += extra.pop("token again", 0)
    return allowed + extra


def _first(corpus: Corpus, registry: Personality, partner: Personality, role: Role) -> Counter[str]:
    app, other = corpus.app.values(), corpus.other.values()
    tops = len(corpus.app) + len(corpus.other)
    children = len(corpus.multi.children)
    companions = 2
    here = corpus.blobs([*app, corpus.signature, corpus.cosign])
    there = corpus.blobs(other)
    source = registry if role is Role.SOURCE else partner
    if role is Role.SOURCE:
        allowed = Counter({"tags": 2, "manifest-get": tops + children + companions, "blob-get": len(here | there)})
        if source.has_referrers:
            # A second tag of one digest looks for itself, and at the signature it finds.
            allowed["referrers"] = tops + children + companions + 1
        else:
            # The API is tried once; then the one list under a tag that there is, for each of its two tags.
            allowed += Counter({"referrers": 1, "manifest-get": 2})
        return allowed
    mounted = len(here & there) if registry.mounts else 0
    posts = len(here) + len(there)
    signed = 3
    allowed = Counter(
        {
            "tags": 1,
            "manifest-head": len(corpus.other),
            "post": posts,
            "session-put": 0 if registry.is_known_for_single_post else posts - mounted,
            "manifest-put": tops + children + companions + signed,
        }
    )
    if not registry.has_referrers:
        allowed += Counter({"manifest-get": 1, "manifest-put": 1})
    return allowed


def _no_op(corpus: Corpus, registry: Personality, partner: Personality, role: Role) -> Counter[str]:
    tops = len(corpus.app) + len(corpus.other)
    source = registry if role is Role.SOURCE else partner
    if registry.lists_digests:
        # The target of the repository with a single tag is asked for that, which is no more than a list.
        return Counter({"tags": 2} if role is Role.SOURCE else {"tags": 1, "manifest-head": 1})
    if role is Role.TARGET:
        return Counter({"tags": 1, "manifest-head": tops + 1})
    # Besides the tags: cosign's, and the list of referrers under its tag where there is no API.
    allowed = Counter({"tags": 2, "manifest-head": tops + 1})
    if not source.has_referrers:
        allowed += Counter({"manifest-head": 1, "manifest-get": 1, "referrers": 1})
    return allowed


def _changed(registry: Personality, role: Role) -> Counter[str]:
    """One new manifest with a config and a layer that are new, and a layer that is known."""
    if role is Role.SOURCE:
        return Counter({"manifest-get": 1, "blob-get": 2, "referrers": 1})
    puts = 0 if registry.is_known_for_single_post else 2
    return Counter({"post": 2, "session-put": puts, "manifest-put": 1})


def courses() -> list[tuple[type[Personality], Role, tuple[Scenario, ...]]]:
    """Return what is to be played of the whole matrix; a registry that takes nothing shows how it refuses."""
    return [
        (personality, role, course)
        for personality in PERSONALITIES
        for role in Role
        for course in ((_REFUSED,) if role is Role.TARGET and personality.is_pull_only else COURSES)
    ]


class Pair:
    """One personality in one role, with a partner by the book and an internet around them."""

    def __init__(self, personality: type[Personality], role: Role, base: Path) -> None:
        self.internet = Internet()
        self.corpus = Corpus()
        self.registry = personality(self.internet)
        self.partner: Personality = _Partner(self.internet)
        self.role = role
        self.base = base
        is_source = role is Role.SOURCE
        self.source: Personality = self.registry if is_source else self.partner
        self.target: Personality = self.partner if is_source else self.registry
        self.names = self.source.repositories
        self.corpus.keep(self.source, *self.names)

    # ------------------------------------------------------------------ running

    def spec(self, targets: tuple[str, ...] = TARGETS, *, create: str = "") -> str:
        """Return the spec of the sync; ``create`` is the key of the target registry."""

        def place(registry: Personality, create: str = "") -> str:
            login = registry.login
            secret = f", credentials: {{username: '{login.user}', password: '{login.password}'}}"
            hook = f", create: {create}" if create else ""
            # In place of the rates that Syncer keeps to by a registry's name, which take real time.
            limits = "limits: {requests_per_second: 100000}"
            reach = f"host: '{registry.address}', plain_http: true, {limits}"
            return f"{{{reach}{secret if login.password else ''}{hook}}}"

        entries = [
            f"  - {{name: e{at}, from: source/{name}, to: target/{there}}}"
            for at, (name, there) in enumerate(zip(self.names, targets, strict=True))
        ]
        places = [f"  source: {place(self.source)}", f"  target: {place(self.target, create)}"]
        return "\n".join(["version: 1", "state: ./state.db", "registries:", *places, "sync:", *entries])

    async def sync(
        self, stop: anyio.Event | None = None, *, targets: tuple[str, ...] = TARGETS, create: str = ""
    ) -> Report:
        """Run once."""
        observers = (self.internet.trap,) if self.internet.trap else ()
        text = self.spec(targets, create=create)
        return await synced(self.internet, text, self.base, *observers, stop=stop)

    async def play(self, course: Sequence[Scenario]) -> list[Outcome]:
        """Play the scenarios of one course from the start, one after the other, and return what came of each."""
        async with self.internet.running():
            return [await self._play(scenario) for scenario in course]

    async def _play(self, scenario: Scenario) -> Outcome:
        outcome = Outcome(personality=self.registry.title, role=self.role, scenario=scenario)
        if self.role is Role.TARGET and self.registry.is_pull_only:
            await self._refused(outcome)
            return outcome
        if scenario is Scenario.INTERRUPTED:
            await self._interrupt(outcome)
        elif scenario is Scenario.CHANGED:
            self.source.repository(self.names[0]).keep(self.corpus.changed, "single")
            self.corpus.app["single"] = self.corpus.changed
        since, tokens = len(self.internet.seen), self._token_count()
        self._expect_done(await self.sync(), outcome)
        self._compare(outcome)
        self._count(outcome, since, tokens)
        return outcome

    async def _interrupt(self, outcome: Outcome) -> None:
        """Start a run and stop it in the middle of a blob; what was committed before must never be sent again."""
        trap = self.internet.trap = Trap("blob" if self.role is Role.SOURCE else "commit", 5)
        with anyio.fail_after(20):
            report = await self.sync(stop=trap.is_sprung)
        trap.release()
        self.internet.trap = None
        if report.status is not RunStatus.INTERRUPTED:
            outcome.problems.append(f"the stopped run says it is {report.status}")
        if self.target.sessions:
            outcome.problems.append(f"I8: uploads left open by a stop: {list(self.target.sessions)}")

    async def _refused(self, outcome: Outcome) -> None:
        """A registry that takes nothing says so: each tag fails with a typed error, and nothing is tried for ever."""
        report = await self.sync()
        outcome.counts = self.internet.counts(*self.registry.sites)
        posts = 2 * sum(len(self.corpus.blobs(samples.values())) for samples in (self.corpus.app, self.corpus.other))
        outcome.budget = Counter({"post": posts, "tags": 2, "manifest-head": 6, "hop": 9, "challenge": 4, "token": 4})
        if not report.failures:
            outcome.problems.append("nothing was told of as failed")
        outcome.problems += self.internet.violations

    def _token_count(self) -> int:
        return len(self.registry.tokens.asked) if self.registry.tokens else 0

    # ------------------------------------------------------------------ judging

    def _expect_done(self, report: Report, outcome: Outcome) -> None:
        if report.status is not RunStatus.DONE:
            outcome.problems.append(f"the run is {report.status}")
        outcome.problems += [f"failed: {failure}" for failure in report.failures]

    def _compare(self, outcome: Outcome) -> None:
        """Everything is there, bit by bit, and nothing is left over."""
        problems = outcome.problems
        app, other = (self.target.repository(name) for name in TARGETS)
        expected = {**self.corpus.app, self.corpus.cosign_tag: self.corpus.cosign}
        for held, samples in ((app, expected), (other, self.corpus.other)):
            for tag, sample in samples.items():
                if held.tags.get(tag) != sample.digest:
                    problems.append(f"{tag} is {held.tags.get(tag)} and not {sample.digest}")
                elif dict(held.below(str(sample.digest))) != _bytes_of(sample):
                    problems.append(f"{tag} arrived with other bytes, or not whole")
            problems += [f"{digest} is not its bytes" for digest, data in held.blobs.items() if sha256(data) != digest]
        signature = str(self.corpus.signature.digest)
        if signature not in app.manifests or app.hole(signature):
            problems.append("the signature did not arrive")
        elif not self.target.has_referrers:
            listed = app.manifests.get(app.tags.get(fallback_tag(self.corpus.single.digest), ""))
            entries = listed.document["manifests"] if listed else []
            if [entry["digest"] for entry in entries] != [signature]:
                problems.append("the signature is not listed under the subject's tag")
        if self.target.sessions:
            problems.append(f"I8: uploads left open: {list(self.target.sessions)}")
        problems += self.internet.violations
        leaked = self.internet.secrets_in((self.base / "state.db").read_bytes())
        problems += [f"a secret is in the state file: {secret}" for secret in leaked]

    def _count(self, outcome: Outcome, since: int, tokens: int) -> None:
        outcome.counts = self.internet.counts(*self.registry.sites, since=since)
        outcome.budget = budget(self.corpus, self.registry, self.partner, self.role, outcome.scenario)
        if self.registry.tokens is not None:
            again = Counter(self.registry.surcharge(self.role, outcome.scenario))["token again"]
            sets = Counter(self.registry.tokens.asked[tokens:])
            if sets.total() > len(sets) + again:
                outcome.problems.append(f"one scope set was asked for more than once: {_readable(sets)}")
        if outcome.scenario is Scenario.INTERRUPTED:
            outcome.problems += self._sent_twice()

    def _sent_twice(self) -> list[str]:
        """Return the blobs that were committed by the stopped run and sent once more."""
        committed: Counter[str] = Counter()
        for seen in self.internet.seen:
            if seen.site == self.target.host and seen.method in ("PUT", "POST") and seen.status == 201:
                place, _, digest = seen.target.partition("digest=")
                if digest:
                    committed[f"{place.partition('/blobs/')[0]} {digest}"] += 1
        return [f"{what} was sent {count} times" for what, count in committed.items() if count > 1]


def _bytes_of(sample: Sample) -> dict[str, bytes]:
    blobs = {str(digest): data for digest, data in sample.blobs.items()}
    return {**blobs, **{str(manifest.digest): manifest.raw for manifest in sample.manifests}}


def _readable(sets: Mapping[frozenset[str], int]) -> list[tuple[int, list[str]]]:
    return [(count, sorted(scopes)) for scopes, count in sets.items()]
