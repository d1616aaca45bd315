"""What is remembered of a registry's authentication, and what follows from it."""

from __future__ import annotations

import base64
import json
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.errors import ProtocolViolation
from syncer.registry.auth.challenge import Challenge, parse_challenges
from syncer.registry.auth.memory import AuthMemory, Demand, widened
from syncer.registry.auth.scopes import Scope, merge_scopes, parse_scopes
from syncer.registry.auth.token_service import TokenRequest, parse_token, refresh_time
from syncer.registry.credentials.values import Anonymous, Basic, IdentityToken, RegistryToken
from syncer.registry.network.urls import Origin

HOME = Origin("https", "reg.io", 443)
PULL = (Scope.repository("a/b", "pull"),)
PUSH = (Scope.repository("a/b", "pull", "push"),)
USER = Basic(username="u", password="canary")
BEARER = parse_challenges(['Bearer realm="https://auth.io/token?x=1",service="reg.io",scope="repository:a/b:pull"'])
BASIC = [Challenge(scheme="basic", parameters={"realm": "r"})]


def request_of(memory: AuthMemory, scopes: tuple[Scope, ...] = PULL, *, now: float = 0.0) -> TokenRequest:
    """Return the token that the memory wants fetched."""
    fetch = memory.attach(scopes, USER, now).fetch
    assert fetch is not None
    return fetch


def test_scopes_are_written_as_the_token_spec_says() -> None:
    """Actions come in the customary order."""
    assert str(Scope.repository("a/b", "push", "pull")) == "repository:a/b:pull,push"


def test_scopes_with_ports_and_several_in_one_value() -> None:
    """A name may hold colons, and one value several scopes (Harbor)."""
    found = parse_scopes("repository:host:5000/a:pull,push  repository:b:pull nonsense")
    assert [str(scope) for scope in found] == ["repository:host:5000/a:pull,push", "repository:b:pull"]


def test_own_scope_stays_first() -> None:
    """The push scope is first in every request, and each resource comes once."""
    merged = merge_scopes([*PUSH, Scope.repository("c", "pull")], [Scope.repository("a/b", "delete")])
    assert [str(scope) for scope in merged] == ["repository:a/b:pull,push,delete", "repository:c:pull"]


def test_nothing_is_sent_before_it_is_asked_for() -> None:
    """Without a challenge a request carries nothing, whatever is known."""
    attachment = AuthMemory(HOME).attach(PULL, USER, 0.0)
    assert (attachment.header, attachment.fetch) == ("", None)


def test_registry_token_is_sent_as_it_is() -> None:
    """A registry token goes out from the first request."""
    assert AuthMemory(HOME).attach(PULL, RegistryToken(token="t"), 0.0).header == "Bearer t"


def test_basic_after_its_challenge() -> None:
    """Basic credentials go out once they were asked for, in UTF-8, and are not tried twice."""
    memory = AuthMemory(HOME)
    user = Basic(username="u", password="pä:ss")
    assert memory.learn(PULL, BASIC, "")
    header = memory.attach(PULL, user, 0.0).header
    assert base64.b64decode(header.removeprefix("Basic ")).decode() == "u:pä:ss"
    assert not memory.learn(PULL, BASIC, header)


def test_bearer_is_preferred_to_basic() -> None:
    """Of several challenges the one that sends a token is taken."""
    memory = AuthMemory(HOME)
    memory.learn(PULL, [*BASIC, *BEARER], "")
    assert request_of(memory).realm == "https://auth.io/token?x=1"


def test_token_request_for_a_user() -> None:
    """A user's token is fetched by GET with Basic, one scope parameter each, the realm's own query kept."""
    memory = AuthMemory(HOME)
    memory.learn(PUSH, BEARER, "")
    request = request_of(memory, (*PUSH, Scope.repository("c", "pull")))
    assert request.method == "GET"
    assert request.authorization.startswith("Basic ")
    assert parse_qs(request.url.raw_query_string) == {
        "x": ["1"],
        "service": ["reg.io"],
        "scope": ["repository:a/b:pull,push", "repository:c:pull"],
    }
    assert request.form is None


def test_token_request_for_an_identity_token() -> None:
    """An identity token is exchanged by POST, and appears in the body only."""
    memory = AuthMemory(HOME)
    memory.learn(PULL, BEARER, "")
    request = memory.attach(PULL, IdentityToken(token="canary"), 0.0).fetch
    assert request is not None
    assert (request.method, request.authorization) == ("POST", "")
    form = parse_qs((request.form or b"").decode())
    assert form["grant_type"] == ["refresh_token"]
    assert form["refresh_token"] == ["canary"]
    assert form["scope"] == ["repository:a/b:pull"]
    assert "canary" not in str(request.url)


def test_anonymous_asks_without_credentials() -> None:
    """Without credentials the token is asked for all the same: public repositories want one."""
    memory = AuthMemory(HOME)
    memory.learn(PULL, BEARER, "")
    request = memory.attach(PULL, Anonymous(), 0.0).fetch
    assert request is not None
    assert request.authorization == ""


def test_next_request_carries_a_token_at_once() -> None:
    """After one challenge, another repository of the host goes to the realm first."""
    memory = AuthMemory(HOME)
    memory.learn(PULL, BEARER, "")
    request = request_of(memory, (Scope.repository("other", "pull"),))
    assert [str(scope) for scope in request.scopes] == ["repository:other:pull"]


def test_token_serves_narrower_requests() -> None:
    """A token for more is used for less, and never for another user."""
    memory = AuthMemory(HOME)
    memory.learn(PUSH, BEARER, "")
    token = parse_token(request_of(memory, PUSH), b'{"token": "t1"}', 0.0)
    memory.keep(token, 0.0)
    assert memory.attach(PULL, USER, 1.0).header == "Bearer t1"
    assert memory.attach(PULL, Anonymous(), 1.0).fetch is not None


def test_token_is_replaced_before_it_expires() -> None:
    """A token of 300 s is good for 270 of them."""
    memory = AuthMemory(HOME)
    memory.learn(PULL, BEARER, "")
    memory.keep(parse_token(request_of(memory), b'{"access_token": "t1", "expires_in": 300}', 0.0), 0.0)
    assert memory.attach(PULL, USER, 269.0).header == "Bearer t1"
    assert memory.attach(PULL, USER, 270.0).fetch is not None


def test_refused_token_is_dropped_once() -> None:
    """A 401 drops the token that was used; a token that somebody else fetched meanwhile stays."""
    memory = AuthMemory(HOME)
    memory.learn(PULL, BEARER, "")
    memory.keep(parse_token(request_of(memory), b'{"token": "t1"}', 0.0), 0.0)
    assert memory.learn(PULL, BEARER, "Bearer t1")
    memory.keep(parse_token(request_of(memory), b'{"token": "t2"}', 0.0), 0.0)
    assert memory.learn(PULL, BEARER, "Bearer t1")
    assert memory.attach(PULL, USER, 1.0).header == "Bearer t2"


def test_basic_challenge_for_an_expired_token() -> None:
    """Harbor answers Basic when a token was refused; the realm is remembered."""
    memory = AuthMemory(HOME)
    memory.learn(PULL, BEARER, "")
    assert memory.learn(PULL, BASIC, "Bearer t1")
    assert request_of(memory).realm == "https://auth.io/token?x=1"


def test_scopes_that_a_registry_names_are_added() -> None:
    """What the challenge names and we would not ask for is asked for from then on."""
    memory = AuthMemory(HOME)
    memory.learn(PULL, parse_challenges(['Bearer realm="https://auth.io/t",scope="repository:proj/a/b:pull"']), "")
    assert [str(s) for s in request_of(memory).scopes] == ["repository:a/b:pull", "repository:proj/a/b:pull"]


@pytest.mark.parametrize("realm", ["http://auth.io/token", "ftp://x/", "https://u:p@auth.io/", "nowhere"])
def test_realms_that_get_no_credentials(realm: str) -> None:
    """A realm without TLS, or one that is no plain URL, is refused before anything is sent."""
    with pytest.raises(ProtocolViolation):
        AuthMemory(HOME).learn(PULL, parse_challenges([f'Bearer realm="{realm}"']), "")


@pytest.mark.parametrize(
    ("expires_in", "expected"),
    [
        (300, 270.0),
        (60, 50.0),
        (30, 25.0),
        (6, 5.0),
        (1.2, 1.0),
        (1e-12, 5 / 6),
        (None, 50.0),
        (0, 50.0),
        (-5, 50.0),
        ("60", 50.0),
        ("300", 270.0),
        ("9" * 400, 77_760.0),
        ("soon", 50.0),
        ("٣٠٠", 50.0),
        (True, 50.0),
        (10**400, 77_760.0),
        (float("inf"), 77_760.0),
        (float("nan"), 50.0),
    ],
)
def test_refresh_times(expires_in: object, expected: float) -> None:
    """A tenth or 10 s before the end, a sixth of a short life; nonsense counts as 60 s, and over a day as a day."""
    assert expected == pytest.approx(refresh_time(0.0, expires_in))


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode()))
def test_any_token_answer_is_a_token_or_a_violation(body: bytes) -> None:
    """An answer without a token is the registry's fault, whatever it is."""
    request = TokenRequest(realm="https://auth.io/t", service="", scopes=PULL, credential=USER)
    with pytest.raises(ProtocolViolation):
        parse_token(request, body, 0.0)


@pytest.mark.parametrize("body", [b'{"token": ""}', b'{"token": "", "access_token": ""}', b'{"token": "\\ud800"}'])
def test_tokens_that_are_none(body: bytes) -> None:
    """An empty token, or one that cannot stand in a header, is no token."""
    request = TokenRequest(realm="https://auth.io/t", service="", scopes=PULL, credential=USER)
    with pytest.raises(ProtocolViolation):
        parse_token(request, body, 0.0)


def test_challenges_in_any_bytes_give_a_request_or_a_violation() -> None:
    """A service or scope outside ASCII is dropped, and never keeps a token request from being written."""
    for values in ('service="\udcff"', 'scope="repository:\udcff:pull"', 'service="\udcff",scope="\udc80:\udc81:*"'):
        memory = AuthMemory(HOME)
        memory.learn(PULL, parse_challenges([f'Bearer realm="https://auth.io/t",{values}']), "")
        for credential in (USER, Anonymous(), IdentityToken(token="canary")):
            request = memory.attach(PULL, credential, 0.0).fetch
            assert request is not None
            assert str(request.url).isascii()
            assert (request.form or b"").isascii()


def test_passwords_that_are_no_unicode() -> None:
    """A password that came as bytes from the environment is shown as these bytes."""
    memory = AuthMemory(HOME)
    memory.learn(PULL, BASIC, "")
    header = memory.attach(PULL, Basic(username="u", password="p\udcff"), 0.0).header
    assert base64.b64decode(header.removeprefix("Basic ")) == b"u:p\xff"


def test_secrets_do_not_show() -> None:
    """Neither a token nor a password is in any repr."""
    memory = AuthMemory(HOME)
    memory.learn(PULL, BEARER, "")
    request = request_of(memory)
    token = parse_token(request, b'{"token": "canary"}', 0.0)
    memory.keep(token, 0.0)
    assert "canary" not in f"{request!r}{token!r}{memory.attach(PULL, USER, 0.0)!r}"


def test_longest_prefix_is_asked_for() -> None:
    """A repository that is not known yet is asked for as its nearest relative was, and else as the latest was."""
    memory = AuthMemory(HOME)
    for name in ("one/x/a", "two/b"):
        realm = f"https://auth.io/{name.partition('/')[0]}"
        memory.learn((Scope.repository(name, "pull"),), parse_challenges([f'Bearer realm="{realm}"']), "")
    realms = {
        name: request_of(memory, (Scope.repository(name, "pull"),)).realm.rpartition("/")[2]
        for name in ("one/x/b", "one/y", "two/c/d", "three/e", "onetwo", "one")
    }
    expected = {"one/x/b": "one", "one/y": "one", "two/c/d": "two", "three/e": "two", "onetwo": "two", "one": "one"}
    assert expected == realms


def test_what_is_learned_is_short_and_safe() -> None:
    """A later run is told each realm once, at the shortest prefix it holds for; what is not safe is not believed."""
    memory = AuthMemory(HOME)
    for name in ("a/b/c", "a/d", "e"):
        memory.learn((Scope.repository(name, "pull"),), BEARER, "")
    assert memory.learned() == (Demand(prefix="", realm="https://auth.io/token?x=1", service="reg.io"),)
    assert AuthMemory(HOME, learned=memory.learned()).learned() == memory.learned()
    unsafe = [Demand(realm=realm) for realm in ("http://auth.io/t", "ftp://x/", "https://u:p@auth.io/", "nowhere")]
    assert AuthMemory(HOME, learned=unsafe).learned() == ()


def test_one_scope_where_only_one_is_heeded() -> None:
    """A service that heeds one scope is asked for the first alone, whatever else is wanted or named."""
    memory = AuthMemory(HOME, most_scopes=1)
    memory.learn(PUSH, parse_challenges(['Bearer realm="https://auth.io/t",scope="repository:other:pull"']), "")
    request = request_of(memory, (*PUSH, Scope.repository("c", "pull")))
    assert [str(scope) for scope in request.scopes] == ["repository:a/b:pull,push"]


def test_token_that_cannot_have_more_is_kept() -> None:
    """A refusal that names what the service gives to nobody costs neither another token nor the one at hand."""
    memory = AuthMemory(HOME, most_scopes=1)
    memory.learn(PUSH, BEARER, "")
    memory.keep(parse_token(request_of(memory, PUSH), b'{"token": "t1"}', 0.0), 0.0)
    named = 'Bearer realm="https://auth.io/token?x=1",service="reg.io",scope="repository:a/b:push repository:c:pull"'
    assert not memory.learn((*PUSH, Scope.repository("c", "pull")), parse_challenges([named]), "Bearer t1")
    assert memory.attach(PUSH, USER, 1.0).header == "Bearer t1"


def test_insufficient_scope_of_what_was_asked_for_is_final() -> None:
    """A token that was asked for all that is named, and got less, is not asked for again."""
    memory = AuthMemory(HOME)
    memory.learn(PUSH, BEARER, "")
    memory.keep(parse_token(request_of(memory, PUSH), b'{"token": "t1"}', 0.0), 0.0)
    named = 'Bearer realm="https://auth.io/token?x=1",service="reg.io",scope="repository:a/b:push",error='
    for error, status in (("insufficient_scope", 401), ("insufficient_scope", 403), ("denied", 403)):
        assert not memory.learn(PUSH, parse_challenges([f'{named}"{error}"']), "Bearer t1", status=status)
    assert memory.attach(PUSH, USER, 1.0).header == "Bearer t1"
    assert memory.learn(PUSH, parse_challenges([f'{named}"invalid_token"']), "Bearer t1")
    assert memory.attach(PUSH, USER, 1.0).fetch is not None


def test_more_actions_are_for_the_request_that_needs_them() -> None:
    """What a deletion needs besides is not asked for by the pushes that follow (Quay gives nothing then)."""
    memory = AuthMemory(HOME)
    challenge = parse_challenges(['Bearer realm="https://auth.io/t",scope="repository:a/b:delete"'])
    memory.learn(PUSH, challenge, "")
    assert [str(scope) for scope in widened(PUSH, challenge)] == ["repository:a/b:pull,push,delete"]
    assert [str(scope) for scope in request_of(memory, PUSH).scopes] == ["repository:a/b:pull,push"]


def test_oldest_sources_leave_first() -> None:
    """A token names ten repositories at most: those that blobs were mounted from last."""
    memory = AuthMemory(HOME)
    memory.learn(PUSH, BEARER, "")
    asked = []
    for number in range(30):
        asked.append(request_of(memory, (*PUSH, Scope.repository(f"s{number}", "pull"))))
        memory.keep(parse_token(asked[-1], f'{{"token": "t{number}"}}'.encode(), 0.0), 0.0)
    assert [scope.name for scope in asked[-1].scopes] == ["a/b", *(f"s{number}" for number in range(21, 30))]


_NAMES = st.sampled_from(["a", "a/b", "c"])
_SETS = st.lists(st.tuples(_NAMES, st.sampled_from(["pull", "pull,push", "*"])), min_size=1, max_size=3)


@pytest.mark.untraced
@given(st.lists(st.tuples(_SETS, st.sampled_from(["", "insufficient_scope", "invalid_token"]), st.booleans())))
def test_memory_never_asks_in_circles(steps: list[tuple[list[tuple[str, str]], str, bool]]) -> None:
    """Whatever is refused for whatever reason: a token that was kept answers what it was fetched for."""
    memory = AuthMemory(HOME)
    for number, (wanted, error, is_taken) in enumerate(steps):
        scopes = merge_scopes([Scope.repository(name, *actions.split(",")) for name, actions in wanted], ())
        named = " ".join(map(str, scopes))
        attachment = memory.attach(scopes, USER, 0.0)
        if attachment.fetch is not None:
            memory.keep(parse_token(attachment.fetch, f'{{"token": "t{number}"}}'.encode(), 0.0), 0.0)
            attachment = memory.attach(scopes, USER, 0.0)
            assert attachment.header == f"Bearer t{number}"
        if is_taken:
            memory.accepted(scopes, attachment.header)
        else:
            challenge = f'Bearer realm="https://auth.io/t",scope="{named}",error="{error}"'
            memory.learn(scopes, parse_challenges([challenge]), attachment.header)
