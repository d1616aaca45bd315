"""The scripted registry itself: it answers by its table, breaks where it is told to, and fails what does not fit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import anyio
import pytest

from syncer.errors import RegistryError
from syncer.oci import media_types as mt
from tests.support import images
from tests.support.registry_script import Expect, Fault, Reply, Script, reply
from tests.support.scripted import connected
from tests.support.transfer import read_blob

if TYPE_CHECKING:
    from syncer.oci import Manifest

SAMPLE = images.image(layers=1, size=5000, seed="scripted")
LAYER = SAMPLE.descriptors()[1]
TARGET = "/v2/app/manifests/1"
BLOB = f"/v2/app/blobs/{LAYER.digest}"
GOOD = reply(body=SAMPLE.manifest.raw, Content_Type=mt.OCI_MANIFEST)


async def fetch(script: Script) -> Manifest:
    """Fetch the manifest from a script."""
    async with script.served() as served, connected(served.address) as one:
        return await one.client.repository("app").fetch_manifest("1")


@pytest.mark.parametrize("fault", [Fault.CUT_AT_ONCE, Fault.CUT_BEFORE_ANSWER, Fault.CUT_HEADERS, Fault.CUT_BODY])
async def test_a_broken_exchange_is_repeated(fault: Fault) -> None:
    """Wherever a GET breaks off, it is asked again, once, and the second answer counts."""
    script = Script(Expect("GET", TARGET, GOOD, fault=fault), Expect("GET", TARGET, GOOD))
    assert (await fetch(script)).raw == SAMPLE.manifest.raw
    assert script.lines == [f"GET {TARGET}"] * 2


async def test_an_answer_in_small_pieces_is_whole() -> None:
    """A body that comes in many packets is read to its end."""
    answer = Reply(body=SAMPLE.manifest.raw, headers={"Content-Type": mt.OCI_MANIFEST}, pieces=20)
    assert (await fetch(Script(Expect("GET", TARGET, answer)))).raw == SAMPLE.manifest.raw


async def test_a_download_goes_on_where_it_broke() -> None:
    """A blob cut at byte 3000 is asked for again from there, and from nowhere else."""
    data = SAMPLE.blobs[LAYER.digest]
    rest = reply(206, data[3000:], Content_Range=f"bytes 3000-{len(data) - 1}/{len(data)}")
    script = Script(
        Expect("GET", BLOB, reply(body=data), fault=Fault.CUT_BODY, at=3000, headers={"Range": None}),
        Expect("GET", BLOB, rest, headers={"Range": "bytes=3000-"}),
        ordered=True,
    )
    async with script.served() as served, connected(served.address) as one:
        assert await read_blob(one.client.repository("app"), LAYER) == data


async def test_an_answer_waits_for_its_event() -> None:
    """A reply may be held back until the test lets it go."""
    event = anyio.Event()
    answer = Reply(body=SAMPLE.manifest.raw, headers={"Content-Type": mt.OCI_MANIFEST}, after=event)
    script = Script(Expect("GET", TARGET, answer))
    async with script.served() as served, connected(served.address) as one, anyio.create_task_group() as group:
        group.start_soon(one.client.repository("app").fetch_manifest, "1")
        await anyio.sleep(0.01)
        assert script.lines == [f"GET {TARGET}"]
        event.set()


async def test_a_row_that_is_not_used_fails() -> None:
    """A request that was expected and never came fails the test, which says so."""
    script = Script(Expect("GET", TARGET, GOOD), Expect("HEAD", re.compile("/v2/.*")))
    with pytest.raises(AssertionError, match="never came: HEAD"):
        await fetch(script)


async def test_a_request_that_is_not_in_the_script_fails() -> None:
    """A request that nobody expected fails the test, whatever the client makes of its answer."""
    script = Script()
    with pytest.raises(RegistryError, match="418"):
        await fetch(script)
    with pytest.raises(AssertionError, match=f"not expected: GET {TARGET}"):
        script.check()


async def test_the_order_of_the_table_may_count() -> None:
    """In an ordered script the second row does not answer before the first."""
    script = Script(Expect("HEAD", TARGET), Expect("GET", TARGET, GOOD), ordered=True)
    with pytest.raises(RegistryError, match="418"):
        await fetch(script)
    assert script.problems == [f"not expected: GET {TARGET}"]
