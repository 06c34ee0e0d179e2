"""How much time may go to what a plan does not ask for itself: disturbed units again, and cells near crossovers."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

from melt.spec.plan import ExtraTime
from melt.store.manifest import Manifest


def seconds_of(manifest: Manifest) -> float:
    """How long a run took by the host's clock."""
    started, ended = (datetime.fromisoformat(t) for t in (manifest.started_at, manifest.ended_at))
    return max(0.0, (ended - started).total_seconds())


class ExtraTimeBudget:
    """The time that a plan has spent on what it asks for, and on what is beyond that.

    ``add`` takes the runs that results hold already, so that a plan that goes on has no more than one in one go.
    """

    def __init__(self, rules: ExtraTime) -> None:
        self._rules = rules
        self._own_s = 0.0
        self._extra_s = 0.0

    def add(self, earlier: Iterable[Manifest]) -> None:
        """Counts runs of earlier."""
        for manifest in earlier:
            self._count(seconds_of(manifest), extra=manifest.attempt > 0 or manifest.adaptive)

    @contextmanager
    def clocked(self, extra: bool) -> Iterator[None]:
        """Counts the time within as the plan's own, or as extra."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._count(time.monotonic() - began, extra)

    def allow(self, expected_s: float) -> bool:
        """Whether what should take so long still fits."""
        room_s = self._rules.share * self._own_s
        if self._rules.limit_s is not None:
            room_s = min(room_s, self._rules.limit_s)
        return self._extra_s + expected_s <= room_s

    def _count(self, taken_s: float, extra: bool) -> None:
        if extra:
            self._extra_s += taken_s
        else:
            self._own_s += taken_s
