"""The lines of a program between its reading thread and whoever waits for them."""

import threading
import time

import pytest

from melt.drivers import output
from melt.drivers.output import Output


def test_who_waits_for_a_line_hears_of_the_end_of_a_program_that_was_killed() -> None:
    kept, heard = Output(), list[str | None]()
    waiting = threading.Thread(target=lambda: heard.append(kept.next_line(30)))
    waiting.start()
    kept.abandon()
    kept.put(None)
    waiting.join(5)
    assert heard == [None]


def test_a_flood_that_nobody_reads_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "MAX_WAITING_LINES", 3)
    kept = Output()

    def flood() -> None:
        for n in range(5):
            kept.put(str(n))
        kept.put(None)

    filling = threading.Thread(target=flood)
    filling.start()
    time.sleep(0.3)
    assert filling.is_alive()  # it waits for its reader
    kept.abandon()
    filling.join(5)
    assert not filling.is_alive()
    lines = [kept.next_line(1) for _ in range(3)]
    assert lines[-1] is None
