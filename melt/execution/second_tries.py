"""How much time may go to measuring disturbed units again."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from melt.spec.plan import ExtraTime
from melt.store.store import Run


def seconds_of(run: Run) -> float:
    """How long a run took by the host's clock."""
    started, ended = (datetime.fromisoformat(t) for t in (run.manifest.started_at, run.manifest.ended_at))
    return max(0.0, (ended - started).total_seconds())


class SecondTries:
    """The time that a plan has spent on what was asked, and on what was measured again."""

    def __init__(self, rules: ExtraTime) -> None:
        self._rules = rules
        self._own_s = 0.0
        self._extra_s = 0.0

    @contextmanager
    def clocked(self, again: bool) -> Iterator[None]:
        """Counts the time within as the plan's own, or as that of second tries."""
        began = time.monotonic()
        try:
            yield
        finally:
            took_s = time.monotonic() - began
            if again:
                self._extra_s += took_s
            else:
                self._own_s += took_s

    def allow(self, expected_s: float) -> bool:
        """Whether one more that should take so long still fits."""
        room_s = self._rules.share * self._own_s
        if self._rules.limit_s is not None:
            room_s = min(room_s, self._rules.limit_s)
        return self._extra_s + expected_s <= room_s
