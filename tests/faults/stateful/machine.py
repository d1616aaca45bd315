"""Lets hypothesis choose the world and the steps."""

from __future__ import annotations

from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.faults.stateful.fatal import KINDS, Fatal
from tests.faults.stateful.graphs import LAYERS, Image, Index
from tests.faults.stateful.passing import ALL
from tests.faults.stateful.scenario import Move, Scenario, Tally, Violated

repositories = st.sampled_from(Scenario.REPOSITORIES)
#: More than a run asks for one by one, rather than listing them.
tags = st.sampled_from(["v1", "v2", "v3", "v4", "v5", "v6", "latest"])
seeds = st.integers(0, 10_000)
pictures = st.builds(
    Image,
    seed=st.integers(0, 4),
    layers=st.lists(st.sampled_from(range(len(LAYERS))), max_size=3, unique=True).map(tuple),
    docker=st.booleans(),
)
graphs = st.recursive(
    pictures,
    lambda inner: st.builds(Index, of=st.lists(inner, min_size=1, max_size=3).map(tuple), seed=st.integers(0, 2)),
    max_leaves=4,
)
faults = st.one_of(st.just(()), st.sampled_from(list(ALL)).map(lambda name: (name,)))
pushes = st.dictionaries(tags, graphs, min_size=1, max_size=6)
#: More would be too much: six failures in the course of one upload are the end of it.
rates = st.sampled_from([0.02, 0.05, 0.1])
sites: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "tokens": st.just(value=True),
        "storage": st.just(value=True),
        "referrers": st.just(value=False),
        "mounts": st.just(value=False),
        "single_post": st.just(value=True),
        "patches_only": st.just(value=True),
        "page_size": st.sampled_from([1, 2]),
    },
)


def search(examples: int, *, seed: int | None = None, steps: int = 10, is_patient: bool = False) -> Tally:
    """Let hypothesis look for violations in so many scenarios, and count what happened in them.

    Args:
        examples: how many scenarios.
        seed: another one, other scenarios; None for the same as ever.
        steps: how many a scenario has at most.
        is_patient: violations are collected in :attr:`Worlds.violations`, and neither raised nor made shorter.

    Raises:
        Violated: the shortest script that shows something wrong. Hypothesis may call it flaky: the order in which
            sockets and threads become ready is not in its hands.
    """
    Worlds.tally = Tally()
    Worlds.violations = []
    Worlds.is_patient = is_patient
    how = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=seed is None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    worlds = Worlds if seed is None else seeded(seed)(Worlds)
    try:
        run_state_machine_as_test(worlds, settings=how)
    except Exception:
        if Worlds.violations and not is_patient:
            raise min(Worlds.violations, key=lambda violated: len(violated.script)) from None
        raise
    return Worlds.tally


class Worlds(RuleBasedStateMachine):
    """Anything may happen, in any order; each run is judged when it is over, and at the end all converges."""

    tally: ClassVar[Tally] = Tally()
    #: What was found wrong, also on the way to a shorter example.
    violations: ClassVar[list[Violated]] = []
    #: A violation ends its scenario, and the others go on.
    is_patient: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.scenario: Scenario
        self._is_violated = False

    @initialize(read=sites, written=sites, is_glob=st.booleans(), is_sole=st.booleans(), images=pushes)
    def world(
        self,
        read: dict[str, Any],
        written: dict[str, Any],
        images: dict[str, Image | Index],
        *,
        is_glob: bool,
        is_sole: bool,
    ) -> None:
        """Set up the registries, and the first images."""
        self.scenario = Scenario(source=read, target=written, is_glob=is_glob, is_sole=is_sole, tally=self.tally)
        self.scenario.push(Scenario.REPOSITORIES[0], images)

    @rule(repository=repositories, images=pushes)
    def push(self, repository: str, images: dict[str, Image | Index]) -> None:
        """Somebody pushes images."""
        self.scenario.push(repository, images)

    @rule(repository=repositories, tag=tags)
    def untag(self, repository: str, tag: str) -> None:
        """Somebody deletes a tag."""
        self.scenario.untag(repository, tag)

    @rule(
        repository=repositories,
        tag=tags,
        seed=st.integers(0, 3),
        part=st.integers(0, 3),
        cosign=st.sampled_from(["", "", "sig"]),
    )
    def attach(self, repository: str, tag: str, seed: int, part: int, cosign: str) -> None:
        """Somebody signs an image, or a part of it, or its signature."""
        self.scenario.attach(repository, tag, seed, part=part, cosign=cosign)

    @rule(repository=repositories, tag=tags, keeps_blobs=st.booleans())
    def collect(self, repository: str, tag: str, *, keeps_blobs: bool) -> None:
        """The target loses a tag, and what it held alone."""
        self.scenario.collect(repository, tag, keeps_blobs=keeps_blobs)

    @rule(is_sole=st.booleans())
    def trust(self, *, is_sole: bool) -> None:
        """Somebody changes the spec."""
        self.scenario.trust(is_sole=is_sole)

    @rule()
    def lose_state(self) -> None:
        """The state file is gone."""
        self.scenario.lose_state()

    @rule(seed=seeds, rate=rates, kinds=faults, recheck=st.booleans())
    def run_through_faults(self, seed: int, rate: float, kinds: tuple[str, ...], *, recheck: bool) -> None:
        """A run meets what it has to survive."""
        self._run(seed=seed, rate=rate, kinds=kinds, recheck=recheck)

    @rule(
        fatal=st.builds(
            Fatal, kind=st.sampled_from(list(KINDS)), repository=repositories, tag=tags, number=st.integers(0, 9)
        ),
        recheck=st.booleans(),
    )
    def run_into_disaster(self, fatal: Fatal, *, recheck: bool) -> None:
        """A run meets what nobody survives."""
        self._run(fatal=fatal, recheck=recheck)

    @rule(seed=seeds, rate=rates, stop=st.integers(0, 40))
    def run_and_stop(self, seed: int, rate: float, stop: int) -> None:
        """A run is stopped in the middle."""
        self._run(seed=seed, rate=rate, stop=stop)

    @rule(seed=seeds, rate=rates, drain=st.integers(0, 40))
    def run_and_drain(self, seed: int, rate: float, drain: int) -> None:
        """A run is drained in the middle."""
        self._run(seed=seed, rate=rate, drain=drain)

    @rule(
        move=st.builds(Move, after=st.integers(0, 20), repository=repositories, tag=tags, graph=graphs),
        seed=seeds,
        rate=rates,
    )
    def run_and_move(self, move: Move, seed: int, rate: float) -> None:
        """A tag moves under the eyes of a run."""
        self._run(seed=seed, rate=rate, move=move)

    @rule()
    def run(self) -> None:
        """A run meets nothing."""
        self._run()

    def _run(self, **how: Any) -> None:
        if self._is_violated:
            return
        try:
            self.scenario.run(**how)
        except Violated as violated:
            self._is_violated = True
            self.violations.append(violated)
            if not self.is_patient:
                raise

    def teardown(self) -> None:
        """When all trouble is over a run converges, and one more changes nothing."""
        try:
            self._run()
            self._run()
        finally:
            self.scenario.close()
