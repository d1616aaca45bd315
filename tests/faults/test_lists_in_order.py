"""Lists of referrers under tags: what arrives is the list that the source has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from syncer.events import RunStatus
from syncer.oci import Digest, media_types
from syncer.oci.referrers import fallback_tag, referrers_index
from tests.support import images
from tests.support.faults import exchanges
from tests.support.faults.injection import Injector
from tests.support.faults.model import Model
from tests.support.faults.syncing import synced_between
from tests.support.faults.virtual_time import virtually
from tests.support.personalities.history import Step
from tests.support.personalities.internet import Internet
from tests.support.personalities.store import Stored

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("late", range(4))
def test_it_is_the_same_list_whichever_referrer_comes_last(late: int, tmp_path: Path) -> None:
    """One of four referrers is held up: the list at the target has the digest of the source's all the same."""
    internet = Internet()
    source = Model(internet, "source.example", referrers=False)
    target = Model(internet, "target.example", referrers=False)
    image = images.image(layers=1)
    referrers = [images.artifact(seed=seed, subject=image.manifest) for seed in range(4)]
    source.keep("app", image, "v1")
    for one in referrers:
        source.keep("app", one)
    raw = referrers_index([one.manifest.referrer_descriptor for one in referrers])
    listed = Stored.of(raw, media_types.OCI_INDEX)
    tag, digest = fallback_tag(image.digest), str(Digest.of(raw))
    source.repository("app").hold_manifest(digest, listed)
    source.repository("app").point(tag, digest)
    held_up = str(referrers[late].digest)
    Injector(internet).at(
        Step.MANIFEST_PUT_DIGEST, exchanges.INTERNAL, times=2, when=lambda seen: seen.reference == held_up
    )
    entry = "name: e, from: source/app, to: target/app"
    report = virtually(synced_between(internet, {"source": source, "target": target}, [entry], tmp_path))
    assert report.status is RunStatus.DONE
    assert target.repository("app").tags[tag] == digest
    assert not internet.violations
