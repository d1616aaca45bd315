"""Keep container registries in step: an asyncio sync engine for OCI registries.

::

    from pathlib import Path
    import anyio
    from syncer import Surroundings, load_spec, run_spec

    async def main() -> None:
        here = Surroundings.of_process()
        report = await run_spec(load_spec(Path("syncer.yaml"), here.environ), surroundings=here)
        print(report.status)

    anyio.run(main)

Names are loaded when they are first used: ``import syncer`` costs a few milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncer.lazy import lazy_names

if TYPE_CHECKING:
    from syncer.app.running import plan_spec, run_spec
    from syncer.app.surroundings import Surroundings
    from syncer.errors import SyncerError
    from syncer.events import Event, Observer
    from syncer.plan.document import Plan
    from syncer.spec import Spec, load_spec
    from syncer.telemetry.report import Report

__version__ = "0.1.0"

__all__ = (
    "Event",
    "Observer",
    "Plan",
    "Report",
    "Spec",
    "Surroundings",
    "SyncerError",
    "__version__",
    "load_spec",
    "plan_spec",
    "run_spec",
)

_HOMES = {
    "Event": "syncer.events",
    "Observer": "syncer.events",
    "Plan": "syncer.plan.document",
    "Report": "syncer.telemetry.report",
    "Spec": "syncer.spec",
    "Surroundings": "syncer.app.surroundings",
    "SyncerError": "syncer.errors",
    "load_spec": "syncer.spec",
    "plan_spec": "syncer.app.running",
    "run_spec": "syncer.app.running",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
