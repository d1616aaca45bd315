"""Attacks on silence: secrets in messages, logs, representations and the arguments of programs (S12)."""

from __future__ import annotations

import io
import json
from functools import partial
from typing import TYPE_CHECKING

from anyio import to_thread

from syncer import events
from syncer.errors import ConnectionFailed, CredentialsError, Denied, ProtocolViolation, SyncerError
from syncer.registry import client as client_module
from syncer.registry import failures
from syncer.registry.auth import token_service, tokens
from syncer.registry.credentials import helper_program
from syncer.registry.credentials.helper_program import Helpers
from syncer.registry.credentials.values import Basic
from syncer.registry.network import translation, urls
from syncer.telemetry import logs, redaction
from tests.security.origins import BLOB, USER, known
from tests.security.stage import Heard, Outcome, Row, reply, rewritten, said, wire
from tests.support.scripted import connected
from tests.support.transfer import read_blob

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.security.stage import Answer

SIGNATURE = "X-Amz-Signature=canary-signature"
_HELPER = """#!/bin/sh
tr '\\0' ' ' < /proc/$$/cmdline > {folder}/arguments
cat > {folder}/request
echo 'canary-from-helper'
exit {status}
"""


def told(error: SyncerError | None) -> str:
    """Return everything that an error says of itself, whether it is shown, logged or stored."""
    if error is None:
        return ""
    return " ".join([str(error), repr(error), error.hint, str(vars(error))])


def leaked(error: SyncerError | None) -> Outcome:
    """Return the outcome of an attack that wants a canary in an error."""
    text = told(error)
    return Outcome(loot=text if "canary" in text else "", error=error if "canary" not in text else None)


async def signed_url(_tmp_path: Path) -> Outcome:
    """Redirect to a signed URL that the storage refuses."""
    async with (
        wire(lambda _: reply(403, b"<Error/>")) as storage,
        wire(lambda _: reply(307, Location=f"{storage.url}/x?{SIGNATURE}")) as home,
        connected(home.address) as it,
    ):
        return leaked(await said(read_blob(it.client.repository("app"), BLOB), SyncerError))


async def signed_url_of_nobody(_tmp_path: Path) -> Outcome:
    """Redirect to a signed URL where nobody listens."""
    async with wire(lambda _: b"") as gone:
        address = gone.address
    async with (
        wire(lambda _: reply(307, Location=f"http://{address}/x?{SIGNATURE}")) as home,
        connected(home.address) as it,
    ):
        return leaked(await said(read_blob(it.client.repository("app"), BLOB), SyncerError))


async def user_name_in_location(_tmp_path: Path) -> Outcome:
    """Redirect to a URL with a user name and a password."""
    async with (
        wire(lambda _: reply(307, Location="http://u:canary-password@127.0.0.1/x")) as home,
        connected(home.address) as it,
    ):
        return leaked(await said(read_blob(it.client.repository("app"), BLOB), SyncerError))


async def echo(_tmp_path: Path) -> Outcome:
    """Repeat the token that came with a request in the words of the refusal."""

    def answer(heard: Heard) -> Answer:
        if heard.path == "/token":
            return reply(200, b'{"token": "canary-token-0123456789abcdef"}')
        if heard.authorization:
            said_so = {"code": "DENIED", "message": f"not with {heard.authorization}"}
            return reply(403, json.dumps({"errors": [said_so]}).encode())
        realm = f"http://{heard.headers['Host']}/token"
        return reply(401, WWW_Authenticate=f'Bearer realm="{realm}",service="s"')

    async with wire(answer) as home, known(home.address) as client:
        return leaked(await said(client.repository("app").fetch_manifest("1"), SyncerError))


async def token_body(_tmp_path: Path) -> Outcome:
    """Give a token out under a name that is not known."""

    def answer(heard: Heard) -> Answer:
        if heard.path == "/token":
            return reply(200, b'{"id_token": "canary-token"}')
        realm = f"http://{heard.headers['Host']}/token"
        return reply(401, WWW_Authenticate=f'Bearer realm="{realm}",service="s"')

    async with wire(answer) as home, known(home.address) as client:
        return leaked(await said(client.repository("app").resolve("1"), SyncerError))


async def _helper(tmp_path: Path, status: int) -> Helpers:
    program = tmp_path / "docker-credential-keeper"

    def make() -> None:
        program.write_text(_HELPER.format(folder=tmp_path, status=status))
        program.chmod(0o755)

    await to_thread.run_sync(make)
    return Helpers({"PATH": f"{tmp_path}:/usr/bin:/bin"})


async def helper_output(tmp_path: Path) -> Outcome:
    """Let a credential helper fail with a secret in its words."""
    helpers = await _helper(tmp_path, 1)
    error = await said(helpers.get("keeper", "registry.test"), SyncerError)
    return leaked(error)


async def helper_arguments(tmp_path: Path) -> Outcome:
    """Look at the arguments of a credential helper that is given a password, as anyone on the machine can."""
    helpers = await _helper(tmp_path, 0)
    error = await said(helpers.store("keeper", "registry.test", USER), SyncerError)
    arguments = await to_thread.run_sync((tmp_path / "arguments").read_text)
    request = await to_thread.run_sync((tmp_path / "request").read_text)
    assert "canary-password" in request or "canary-password" in arguments
    return Outcome(loot=arguments if "canary-password" in arguments else "", error=error)


async def representation(_tmp_path: Path) -> Outcome:
    """Show a credential, as a debugger or a log line with values does."""
    shown = f"{USER} {USER!r} {[USER]}"
    return Outcome(loot=shown if "canary" in shown else "")


async def warning(_tmp_path: Path) -> Outcome:
    """Repeat a token in a Warning header, which is passed on to people."""
    text = "bad request: token=canary-token-0123456789"
    stream = io.StringIO()
    for is_json in (True, False):
        observer = logs.LogObserver(partial(logs.configure_logging, json=is_json, stream=stream))
        async with wire(lambda _: reply(404, Warning=f'299 - "{text}"')) as home, connected(home.address) as it:
            await said(it.client.repository("app").resolve("1"), SyncerError)
            for notice in it.recorder.of(events.Notice):
                observer.notify(notice)
    assert "sync.notice" in stream.getvalue()
    return Outcome(loot=stream.getvalue() if "canary" in stream.getvalue() else "")


def _pass_the_request_as_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    rewritten(
        monkeypatch, Helpers, "_run", "run_program([program, verb],", "run_program([program, verb, request.decode()],"
    )


def _repeat_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    rewritten(monkeypatch, token_service, "parse_token", "answered without a token", "answered {body!r}")
    monkeypatch.setattr(tokens, "parse_token", token_service.parse_token)


ROWS = [
    Row(
        name="S12-signed-url",
        threat="the refusal of a signed URL repeats the signature",
        defence="syncer.registry.network.urls.redact",
        attack=signed_url,
        switch_off=lambda patch: patch.setattr(client_module, "redact", str),
        refusal=Denied,
    ),
    Row(
        name="S12-unreachable-url",
        threat="the failure to reach a signed URL repeats the signature",
        defence="syncer.registry.network.urls.redact",
        attack=signed_url_of_nobody,
        switch_off=lambda patch: patch.setattr(translation, "redact", str),
        refusal=ConnectionFailed,
    ),
    Row(
        name="S12-user-name",
        threat="the refusal of a URL with a password in it repeats the password",
        defence="syncer.registry.network.urls.redact",
        attack=user_name_in_location,
        switch_off=lambda patch: patch.setattr(urls, "redact", str),
        refusal=ProtocolViolation,
    ),
    Row(
        name="S12-echo",
        threat="a registry repeats the token in its refusal, and the report keeps it",
        defence="syncer.registry.failures.without_credentials",
        attack=echo,
        switch_off=lambda patch: patch.setattr(failures, "without_credentials", str),
        refusal=Denied,
    ),
    Row(
        name="S12-token-body",
        threat="a complaint about the token service's answer repeats it",
        defence="syncer.registry.auth.token_service.parse_token",
        attack=token_body,
        switch_off=_repeat_the_answer,
        refusal=ProtocolViolation,
    ),
    Row(
        name="S12-helper-output",
        threat="what a failing credential helper printed is repeated",
        defence="syncer.registry.credentials.helper_program._read_answer",
        attack=helper_output,
        switch_off=lambda patch: rewritten(
            patch,
            helper_program,
            "_read_answer",
            'raise _failed(name, "get", status)',
            "raise CredentialsError(output.decode())",
        ),
        refusal=CredentialsError,
    ),
    Row(
        name="S12-arguments",
        threat="a password is among the arguments of a program, where everyone sees it",
        defence="syncer.registry.credentials.helper_program.Helpers._run",
        attack=helper_arguments,
        switch_off=_pass_the_request_as_argument,
    ),
    Row(
        name="S12-repr",
        threat="a credential shows its secret when it is printed",
        defence="syncer.registry.credentials.values.Basic.__repr__",
        attack=representation,
        switch_off=lambda patch: patch.setattr(Basic, "__repr__", lambda self: f"{self.username}:{self.password}"),
    ),
    Row(
        name="S12-log",
        threat="a registry's words bring a token into the log",
        defence="syncer.telemetry.redaction.redact_event",
        attack=warning,
        switch_off=lambda patch: patch.setattr(redaction, "redact_event", lambda _logger, _method, fields: fields),
    ),
]
