"""How registries want to be asked is remembered from one run to the next, and no secret with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncer.server import AuthMode
from syncer.server.passwords import encode_password
from tests.support import images
from tests.support.world import embedded, fill, run

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "canary-password"


async def test_the_second_run_is_never_refused(tmp_path: Path) -> None:
    """The first run meets a challenge at the registry; the second shows a token from its first request on."""
    passwords = tmp_path / "htpasswd"
    passwords.write_text(f"robot:{encode_password(PASSWORD)}\n")
    async with (
        embedded(tmp_path / "source") as source,
        embedded(tmp_path / "target", auth=AuthMode.TOKEN, htpasswd=passwords) as target,
    ):
        await fill(source.host, "team/app", {"v1": images.image()})
        spec = "\n".join(
            [
                "version: 1",
                "state: ./state.db",
                "registries:",
                f"  source: {{host: '{source.host}', plain_http: true}}",
                f"  target: {{host: '{target.host}', plain_http: true,",
                f"           credentials: {{username: robot, password: {PASSWORD}}}}}",
                "sync:",
                "  - {from: source/team/app, to: target/team/app}",
            ]
        )
        first = await run(spec, tmp_path)
        refused = [record for record in target.requests if record.status == 401]
        target.requests.clear()
        second = await run(spec, tmp_path)
    assert not first.failures
    assert refused
    assert not second.failures
    assert [record.status for record in target.requests if record.status == 401] == []
    assert PASSWORD.encode() not in (tmp_path / "state.db").read_bytes()
