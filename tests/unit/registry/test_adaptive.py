"""A window that finds its size: against a simulated registry, whose best size is known."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

import pytest

from syncer.registry.traffic.adaptive import START, AdaptiveSize

pytestmark = pytest.mark.untraced


@dataclass
class Simulation:
    """A registry that takes ``base`` seconds for each of ``capacity`` requests a second, asked all that is allowed.

    ``spread`` is by how much its answers differ by nature: the deviation of their logarithms.
    """

    base: float
    capacity: float
    ceiling: int = 256
    spread: float = 0.1
    now: float = 0.0
    sizes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.window = AdaptiveSize(self.ceiling)
        self._chance = random.Random(1)  # noqa: S311 - the same answers every time
        self._under_way: list[tuple[float, float]] = []
        self._free = 0.0

    def run(self, seconds: float) -> float:
        """Go on for ``seconds``; return the answers per second."""
        began = self.now
        self.sizes = []
        while self.now < began + seconds:
            while len(self._under_way) < self.window.size:
                self._free = max(self._free, self.now) + 1 / self.capacity
                takes = self.base * self._chance.lognormvariate(0, self.spread)
                heapq.heappush(self._under_way, (max(self._free, self.now) + takes, self.now))
            self.now, asked = heapq.heappop(self._under_way)
            self.window.answered("manifest", self.now - asked, in_flight=len(self._under_way) + 1, now=self.now)
            self.sizes.append(self.window.size)
        return len(self.sizes) / (self.now - began)


@pytest.mark.parametrize("spread", [0.1, 0.5, 1.0], ids=["even", "uneven", "wild"])
@pytest.mark.parametrize(
    ("base", "capacity"),
    [
        pytest.param(0.001, 1000, id="loopback"),
        pytest.param(0.01, 1000, id="same-building"),
        pytest.param(0.05, 800, id="50-ms"),
        pytest.param(0.2, 800, id="200-ms"),
        pytest.param(0.2, 100, id="200-ms-slow-registry"),
        pytest.param(0.05, 50, id="slow-registry"),
    ],
)
def test_nearly_all_of_the_capacity_is_used(base: float, capacity: float, spread: float) -> None:
    """Without any setting, at least nine tenths of what the registry can do is asked of it, in the long run too."""
    simulation = Simulation(base=base, capacity=capacity, spread=spread)
    # What is asked at most when answers take half as long again on average, as the wildest here do.
    most = min(capacity, simulation.ceiling / base / (1.65 if spread == 1.0 else 1.15))
    simulation.run(2)
    assert simulation.run(30) >= 0.9 * most
    simulation.run(60)
    assert simulation.run(30) >= 0.9 * most


@pytest.mark.parametrize("spread", [0.1, 0.5])
def test_a_near_registry_gets_few_and_a_far_one_many(spread: float) -> None:
    """The size follows the round trip, and stays there: what would only queue is not asked, after minutes either."""
    near = Simulation(base=0.001, capacity=1000, spread=spread)
    far = Simulation(base=0.05, capacity=800, spread=spread)
    for simulation, least, most in ((near, 8, 20), (far, 60, 128)):
        simulation.run(10)
        for _ in range(3):
            simulation.run(40)
            assert least <= simulation.window.size <= most


def test_the_start_is_quick() -> None:
    """At 200 ms, from 8 at once to 200 takes no more than six round trips; the first eight are no more than that."""
    simulation = Simulation(base=0.2, capacity=2000)
    assert simulation.window.size == START == 8
    simulation.run(1.2)
    assert simulation.window.size >= 200


def test_a_ceiling_holds() -> None:
    """What the spec allows is never exceeded, however much there is to gain."""
    simulation = Simulation(base=0.2, capacity=5000, ceiling=20)
    simulation.run(20)
    assert max(simulation.sizes) == 20
    simulation.window.ceiling = 5
    simulation.run(20)
    assert max(simulation.sizes) == 5


def test_looking_is_rare_and_short() -> None:
    """The window is kept small, to see what answers take without a queue, in no more than one answer of thirty."""
    simulation = Simulation(base=0.05, capacity=800)
    simulation.run(20)
    usual = simulation.window.size
    simulation.run(120)
    looking = [size for size in simulation.sizes if size < usual / 2]
    assert looking
    assert len(looking) <= len(simulation.sizes) / 30


def test_overload_halves_once() -> None:
    """A hundred answers of one overload halve the size once; the next overload halves it again, down to one."""
    window = AdaptiveSize(256, start=64)
    for _ in range(100):
        window.overloaded(10.0)
    assert window.size == 32
    window.overloaded(11.0)
    assert window.size == 16
    for second in range(12, 20):
        window.overloaded(float(second))
    assert window.size == 1


def test_what_was_too_much_is_not_soon_asked_again() -> None:
    """After overload the size comes back over twenty seconds, however quick the answers are."""
    simulation = Simulation(base=0.05, capacity=5000, ceiling=100)
    simulation.run(5)
    simulation.window.overloaded(simulation.now)
    assert simulation.window.size == 50
    simulation.run(2)
    assert 50 <= max(simulation.sizes) <= 56
    simulation.run(8)
    assert 60 <= max(simulation.sizes) <= 76
    simulation.run(15)
    assert max(simulation.sizes) == 100


def test_a_throttled_start_recovers() -> None:
    """From one request at a time the size grows again, when all is well."""
    simulation = Simulation(base=0.05, capacity=800)
    for second in range(8):
        simulation.window.overloaded(float(second))
    assert simulation.window.size == 1
    simulation.now = 30.0
    simulation.run(10)
    assert simulation.window.size >= 40


def test_who_asks_little_learns_nothing() -> None:
    """A window that was not used is not judged: quick answers to a lone request say nothing of a hundred."""
    window = AdaptiveSize(256)
    for moment in range(1000):
        window.answered("manifest", 0.01, in_flight=1, now=float(moment))
    assert window.size == 8


def test_kinds_are_compared_with_their_like() -> None:
    """An upload takes longer than a HEAD by nature, which is no reason to ask less."""
    window = AdaptiveSize(64)
    for moment in range(90):
        for kind, seconds in (("head", 0.01), ("put", 0.5)):
            window.answered(kind, seconds, in_flight=window.size, now=moment / 10)
    assert window.size == 64


def test_a_way_that_became_longer_is_not_slowness() -> None:
    """After some minutes a new round trip is what answers are compared with, and the size recovers."""
    simulation = Simulation(base=0.01, capacity=1000, ceiling=100)
    simulation.run(30)
    simulation.base = 0.1
    simulation.run(150)
    assert simulation.run(30) >= 0.9 * 100 / 0.1 / 1.15


def test_a_fixed_size_stays() -> None:
    """A window that begins with its ceiling is made smaller by overload, and by nothing else."""
    window = AdaptiveSize(64, start=64)
    for moment in range(20_000):
        window.answered("head", 0.01 if moment < 100 else 5.0, in_flight=64, now=moment / 100)
        assert window.size == 64
    window.overloaded(200.0)
    assert window.size == 32
