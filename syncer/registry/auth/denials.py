"""What a registry has denied for good, so that it is not asked two hundred times.

A right is one on a repository, for one action. One denial is not taken for the whole repository:
Artifactory denies what is not there, and a policy may forbid a single image.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from syncer.errors import Denied, StatusError, SyncerError, Unauthorized
from syncer.events import RequestKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from syncer.registry.call import Call

_E = TypeVar("_E", bound=SyncerError)

#: Different requests of one kind that must have been denied, with none allowed, before the rest is not sent.
_ENOUGH = 3
#: Seconds that the refusal of a fresh token holds: rights are given while a daemon runs.
_REFUSAL_HOLDS = 30.0
_READING = frozenset({"GET", "HEAD"})
_ACTIONS = {"GET": "pull", "POST": "push", "PATCH": "push", "PUT": "push", "DELETE": "delete"}


@dataclass(slots=True, eq=False)
class _Denial:
    """The latest error for one right, the requests that met one, and until when it holds (None: for good)."""

    error: StatusError
    urls: set[str] = field(default_factory=set)
    until: float | None = None
    is_certain: bool = False


class Denials:
    """The rights that one registry does not give; ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._denied: dict[tuple[str, str], _Denial] = {}

    def check(self, call: Call) -> None:
        """Refuse a call whose right is known to be missing.

        Raises:
            Denied, Unauthorized: what the registry said before.
        """
        key = _right(call) if self._denied else None
        if key is None or (denial := self._denied.get(key)) is None:
            return
        if denial.until is not None and denial.until <= self._clock():
            del self._denied[key]
        elif denial.is_certain or len(denial.urls) >= _ENOUGH:
            raise echo(denial.error)

    def note(self, call: Call, error: SyncerError) -> None:
        """Take note that ``call`` failed for good with ``error``."""
        key = _right(call) if _is_telling(call) else None
        if not key or not isinstance(error, Denied | Unauthorized) or error.status not in (401, 403):
            return
        denial = self._denied.setdefault(key, _Denial(error))
        denial.error = echo(error)
        denial.urls.add(str(call.url))
        # Neither a refused token nor a refused upload is about a single manifest.
        denial.is_certain = denial.is_certain or isinstance(error, Unauthorized) or call.method == "POST"
        denial.until = self._clock() + _REFUSAL_HOLDS if isinstance(error, Unauthorized) else None

    def clear(self, call: Call) -> None:
        """Forget what was denied for the repository of ``call``, which was allowed something.

        That something may be read says nothing of a right to write that is certainly missing.
        """
        if not self._denied or not call.names_repository:
            return
        name = call.scopes[0].name
        for key in [key for key in self._denied if key[0] == name]:
            if not (call.method in _READING and key[1] != "pull" and self._denied[key].is_certain):
                del self._denied[key]

    def clear_repository(self, name: str) -> None:
        """Forget what was denied for the repository ``name``, which was made only now."""
        for key in [key for key in self._denied if key[0] == name]:
            del self._denied[key]


def echo(error: _E) -> _E:
    """Return another error that says the same: one is raised in each task that it ends."""
    twin = type(error).__new__(type(error), *error.args)
    twin.__dict__.update(error.__dict__)
    return twin


def _right(call: Call) -> tuple[str, str] | None:
    """Return the repository and the action that a call takes; None for what may be allowed without it.

    A HEAD is a question whose answer "denied" means "unknown", and registries without the referrers API have
    been seen to deny it.
    """
    if call.kind is RequestKind.REFERRERS or not call.names_repository or call.method not in _ACTIONS:
        return None
    return call.scopes[0].name, _ACTIONS[call.method]


def _is_telling(call: Call) -> bool:
    """Tell whether a denial of ``call`` is one of its right: a mount may be denied as a mount, or for its source."""
    return len(call.scopes) == 1 and not (call.method == "POST" and "mount" in call.url.query)
