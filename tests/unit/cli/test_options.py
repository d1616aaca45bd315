"""Options that stand for several."""

from __future__ import annotations

import inspect

import pytest

from syncer.cli import copy as copy_command
from syncer.cli.options import ReachOptions
from syncer.cli.serve import parse_address
from syncer.errors import InvalidReference, UsageError


def test_a_compound_parameter_is_unfolded() -> None:
    """Typer sees single options, and the two sides of a copy do not get in each other's way."""
    names = set(inspect.signature(copy_command.copy).parameters)
    assert {"src_plain_http", "src_ca", "src_insecure", "dest_plain_http", "dest_key", "output", "quiet"} <= names
    assert not {"voice", "source_reach", "target_reach"} & names


def test_reach_options_become_the_reach_of_the_app() -> None:
    """Every field arrives."""
    reach = ReachOptions(plain_http=False, ca="a", cert="b", key="c").reach()
    assert (reach.plain_http, reach.ca, reach.cert, reach.key, reach.insecure) == (False, "a", "b", "c", False)
    assert ReachOptions(insecure=True).reach().insecure


def test_hosts_to_trust_are_checked() -> None:
    """Hosts come with commas between, and what is none is a usage error before anything is asked."""
    assert ReachOptions(trusted_hosts="A.example,*.b.example:8443").reach().trusted_hosts == (
        "a.example",
        "*.b.example:8443",
    )
    with pytest.raises(InvalidReference):
        ReachOptions(trusted_hosts="http://a").reach()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:5000", ("127.0.0.1", 5000)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:5000", ("::1", 5000)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
    ],
)
def test_addresses_to_listen_on(text: str, expected: tuple[str, int]) -> None:
    """Host and port, with brackets around an IPv6 address."""
    assert parse_address(text) == expected


@pytest.mark.parametrize("text", ["5000", ":5000", "a:", "a:b", "a:65536", "::1:5000", "", "[]:1", "a:-1", "a:٣"])
def test_what_is_no_address(text: str) -> None:
    """Everything else is refused with an example."""
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert "127.0.0.1:5000" in caught.value.hint
