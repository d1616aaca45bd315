"""What a registry was seen to do: it beats what its name makes likely, and it does not hold for ever."""

from __future__ import annotations

import pytest

from syncer.registry.capabilities import LIFETIME, Capabilities, Capability
from syncer.registry.hosts import Traits, traits_of


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("capability", list(Capability))
def test_nothing_is_known_of_a_stranger(capability: Capability) -> None:
    """Nothing was observed, and nothing is assumed beyond the defaults."""
    known = Capabilities()
    assert known.observed(capability) is None
    assert known.offers(capability) is {Capability.SINGLE_POST: False, Capability.CHUNKS: True}.get(
        capability, False if capability is Capability.TAG_PAGE else None
    )


def test_a_guess_is_no_observation() -> None:
    """What the name makes likely is gone by, and does not count as seen."""
    known = Capabilities(traits=traits_of("quay.io"))
    assert known.offers(Capability.SINGLE_POST) is True
    assert known.observed(Capability.SINGLE_POST) is None
    assert Capabilities(traits=traits_of("gcr.io")).offers(Capability.TAG_PAGE) is True


@pytest.mark.parametrize("offered", [True, False])
def test_observed_beats_guessed(offered: bool) -> None:  # noqa: FBT001 - a parameter of pytest's
    """What was seen wins over the name, until it is too long ago; then the name counts again."""
    clock = Clock()
    known = Capabilities(traits=Traits(single_post=not offered), clock=clock)
    known.learn(Capability.SINGLE_POST, offered=offered)
    clock.now = LIFETIME - 1
    assert known.offers(Capability.SINGLE_POST) is offered
    assert known.observed(Capability.SINGLE_POST) is offered
    clock.now = LIFETIME
    assert known.offers(Capability.SINGLE_POST) is not offered
    assert known.observed(Capability.SINGLE_POST) is None


def test_an_observation_is_renewed() -> None:
    """Seeing it again lets it hold as long again."""
    clock = Clock()
    known = Capabilities(clock=clock)
    known.learn(Capability.MOUNT, offered=True)
    clock.now = LIFETIME / 2
    known.learn(Capability.MOUNT, offered=True)
    clock.now = LIFETIME * 1.4
    assert known.offers(Capability.MOUNT) is True


def test_a_contradiction_is_asked_anew() -> None:
    """What was contradicted is unknown, whatever it was; the latest answer counts."""
    known = Capabilities()
    known.learn(Capability.REFERRERS, offered=True)
    known.learn(Capability.REFERRERS, offered=False)
    assert known.offers(Capability.REFERRERS) is False
    known.forget(Capability.REFERRERS)
    known.forget(Capability.REFERRERS)
    assert known.offers(Capability.REFERRERS) is None


def test_a_refusal_for_one_repository_is_forgotten_too() -> None:
    """The referrers API refused for one repository says nothing of others, and nothing for ever."""
    clock = Clock()
    known = Capabilities(clock=clock)
    known.refuse_referrers("a")
    assert (known.refuses_referrers("a"), known.refuses_referrers("b")) == (True, False)
    assert known.offers(Capability.REFERRERS) is None
    clock.now = LIFETIME
    assert known.refuses_referrers("a") is False
