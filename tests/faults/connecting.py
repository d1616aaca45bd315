"""Faults before there is an exchange: names, connections, TLS; in whole runs, as the cells of the matrix."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from syncer.events import RunStatus
from tests.faults.matrix import CONVERGES, SOURCE, TARGET, Outcome, Played, ends, outcome_of
from tests.support import images
from tests.support.authority import Authority
from tests.support.faults import connections
from tests.support.faults.connections import BlackHole, Cut, Refused, Slices, Spoils, Way
from tests.support.faults.exchanges import LOCATION_DOWNGRADED
from tests.support.faults.injection import Injector
from tests.support.faults.model import Model
from tests.support.faults.syncing import spec_of, synced
from tests.support.faults.virtual_time import virtually
from tests.support.personalities.history import Step
from tests.support.personalities.internet import Internet

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from pathlib import Path

#: More look-ups than any run makes.
_ALWAYS = 10_000
ENTRY = "name: e, from: source/app, to: target/app"
FAILS = ends("ConnectionFailed")


@dataclass(frozen=True, kw_only=True)
class Connecting:
    """One case.

    Attributes:
        step: ``dns``, ``connect`` or ``tls``.
        unknown: how many look-ups of each name fail.
        addresses: of names, before the one that works.
        spoils: what happens to connections to the target, by number.
        every: what happens to all of them.
        hosts: that the certificate is for; none for plain HTTP.
        is_trusted: the authority is known.
        is_plain: the server speaks no TLS where it is expected.
        is_downgraded: an upload is to go on without TLS.
    """

    title: str
    step: str
    outcome: Outcome = CONVERGES
    unknown: Mapping[str, int] = field(default_factory=dict)
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    spoils: Mapping[int, connections.Spoil] = field(default_factory=dict)
    every: connections.Spoil | None = None
    hosts: tuple[str, ...] = ()
    is_trusted: bool = True
    is_plain: bool = False
    is_downgraded: bool = False

    def play(self, base: Path) -> Played:
        """Run once as the case says."""
        # Keys are made here: that takes longer than a callback of the loop may.
        authority = Authority(base) if self.hosts else None
        context = authority.server(*self.hosts) if authority else None
        other = Authority(base, "other") if authority and not self.is_trusted else authority
        return virtually(self._play(base, context, other.ca if other else None))

    async def _play(self, base: Path, context: ssl.SSLContext | None, ca: Path | None) -> Played:
        internet = Internet()
        internet.unknown_names.update(self.unknown)
        internet.addresses.update(self.addresses)
        is_by_name = not (self.spoils or self.every or self.hosts)
        source = Model(internet, SOURCE if is_by_name else "127.0.0.2", storage=is_by_name)
        target = Model(internet, TARGET if is_by_name else "127.0.0.1")
        source.keep("app", images.image(seed="connecting", layers=1), "v1")
        if self.is_downgraded:
            Injector(internet).at(Step.POST, LOCATION_DOWNGRADED, times=None)
        spoils = Spoils(lambda number: self.spoils.get(number, self.every))
        async with internet.running(None if self.is_plain else context), AsyncExitStack() as stack:
            address = target.address
            if not is_by_name:
                proxy = await stack.enter_async_context(connections.spoiling(target.address, spoils))
                address = proxy.address
            text = spec_of({"source": source, "target": target}, ENTRY).replace(target.address, address)
            if ca is not None:
                text = text.replace("plain_http: true", f"tls: {{ca: '{ca}'}}")
            report = await synced(internet, text, base)
            played = Played(outcome=outcome_of(report), problems=list(internet.violations))
            played.expect(self.outcome)
            if report.status is RunStatus.DONE and target.repository("app").tags != source.repository("app").tags:
                played.problems.append("the tag did not arrive")
        return played


HERE = ("127.0.0.1", "127.0.0.2")
STORAGE = f"storage.{SOURCE}"
_dns, _connect = partial(Connecting, step="dns"), partial(Connecting, step="connect")
_tls = partial(Connecting, step="tls", hosts=HERE)
_UNTRUSTED = ends("CertificateError")
CONNECTING = (
    _dns(title="no such name, once", unknown={TARGET: 1}),
    _dns(title="no such name, always", unknown={TARGET: _ALWAYS}, outcome=FAILS),
    _dns(title="no such name for the storage, once", unknown={STORAGE: 1}),
    _dns(title="no such name for the storage, always", unknown={STORAGE: _ALWAYS}, outcome=FAILS),
    _connect(title="an address where nobody listens before one that answers", addresses={TARGET: ("127.0.0.9",)}),
    _connect(title="reset when connected, once", spoils={1: Refused()}),
    _connect(title="reset when connected, three times", spoils=dict.fromkeys(range(1, 4), Refused())),
    _connect(title="reset when connected, always", every=Refused(), outcome=FAILS),
    _connect(title="a black hole behind a connection", spoils={1: BlackHole(0), 2: BlackHole(0)}),
    _connect(title="black holes behind all connections", every=BlackHole(0), outcome=ends("Timeout")),
    _connect(
        title="each connection cut after 400 bytes of answers", spoils={number: Cut(400) for number in range(1, 5)}
    ),
    _connect(
        title="connections cut after 700 bytes of requests",
        spoils={number: Cut(700, Way.UP) for number in range(1, 4)},
    ),
    _connect(title="every byte in a packet of its own", every=Slices(1)),
    _tls(title="TLS that works"),
    _tls(title="an authority that is not known", is_trusted=False, outcome=_UNTRUSTED),
    _tls(title="a certificate for another host", hosts=("127.0.0.2",), outcome=_UNTRUSTED),
    _tls(title="the handshake is cut, once", spoils={1: Cut(100), 2: Cut(1, Way.UP)}),
    _tls(title="the handshake is cut, always", every=Cut(100), outcome=FAILS),
    _tls(title="the handshake is never answered", every=BlackHole(0), outcome=ends("Timeout")),
    _tls(title="plain HTTP where TLS is expected", is_plain=True, outcome=_UNTRUSTED),
    _tls(title="an upload that is to go on without TLS", is_downgraded=True, outcome=ends("ProtocolViolation")),
)
