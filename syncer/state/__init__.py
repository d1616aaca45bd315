"""State: what is remembered between runs. Lose the file, and only time is lost."""

from syncer.state.records import RepositorySummary, RunRecord
from syncer.state.store import StateStore

__all__ = ["RepositorySummary", "RunRecord", "StateStore"]
