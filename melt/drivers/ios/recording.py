"""Telemetry of an iPhone, stamped by its own clock. See ``melt.drivers.base.Recording``.

Instruments' samples carry the phone's stamps. The battery's are taken when the answer comes, between a time of the
host before and after, and told in the phone's clock by a reading of both. What the app samples of itself is in a file
of its own, which is brought once at the end.
"""

import contextlib
import json
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from melt.drivers.base import ToRecord
from melt.drivers.ios.process import OWN_SAMPLES, file_of
from melt.drivers.ios.pymd3.container import Container
from melt.drivers.ios.pymd3.instruments import Instruments, MachTime, Row
from melt.drivers.ios.pymd3.phone import Phone
from melt.errors import MeltError
from melt.telemetry.ios import as_text, battery_text, own_samples, sample_line
from melt.telemetry.kinds.ios_app import APP, GPU, OWN_MEMORY, SYSTEM
from melt.telemetry.kinds.ios_battery import BATTERY
from melt.telemetry.source import Probe

_MAX_OWN_BYTES = 16 * 2**20
_MOST_TOLD = 1000
_READ_S = 5.0  # where the phone hangs, others wait for it already


class PhoneRecording:
    """From its making until it is stopped; what comes is written in the library's thread, line by line."""

    def __init__(
        self,
        phone: Phone,
        container: Container,
        instruments: Instruments,
        asked: ToRecord,
    ) -> None:
        self._phone, self._container, self._pid = phone, container, 0
        self._own = file_of(asked.run_id, OWN_SAMPLES)
        self._mach, self._ahead_ns = _clocks(instruments)
        self._file = tempfile.NamedTemporaryFile("w", prefix="melt-telemetry-", delete=False)  # noqa: SIM115
        wanted = {p.name: p for p in asked.probes}
        self._brings_own = OWN_MEMORY in wanted
        self._tasks: list[Future[None]] = []
        self._tell, self._told = asked.tell, deque[str](maxlen=_MOST_TOLD)
        try:
            self._start(instruments, wanted)
        except BaseException:
            self._end()
            Path(self._file.name).unlink()
            raise

    def _start(self, instruments: Instruments, wanted: Mapping[str, Probe]) -> None:
        if APP in wanted or SYSTEM in wanted:
            period_ms = min(p.period_ms for n, p in wanted.items() if n in (APP, SYSTEM))
            self._tasks.append(instruments.sample(period_ms, self._take))
        if GPU in wanted:
            self._tasks.append(instruments.sample_gpu(self._take_gpu))
        if BATTERY in wanted:
            self._tasks.append(self._phone.sample_battery(wanted[BATTERY].period_ms / 1000, self._take_battery))

    def follow(self, pid: int) -> None:
        """From now on also keeps what is sampled of this process."""
        self._pid = pid

    def heard(self) -> list[str]:
        """The lines of the probes that were to tell, that have come since this was asked last."""
        lines: list[str] = []
        with contextlib.suppress(IndexError):  # a thread of the library's adds to them
            while True:
                lines.append(self._told.popleft())
        return lines

    def stop(self, destination: Path) -> str:
        """Ends the recording, and moves what it has to a file.

        Returns:
            What ended it before, in words; empty where nothing did.
        """
        problems = [str(e) for t in self._tasks if t.done() and not t.cancelled() and (e := t.exception())]
        self._end()
        try:
            self._add_own(Path(self._file.name))
        except MeltError as e:
            problems.append(e.message)
        shutil.move(self._file.name, destination)
        return f"the iPhone's samples ended early: {problems[0] or 'no reason given'}" if problems else ""

    def _end(self) -> None:
        for task in self._tasks:
            self._phone.end(task)
        self._file.close()

    def _add_own(self, path: Path) -> None:
        """Adds what the app sampled of itself, all by time."""
        if not self._pid or not self._brings_own:
            return
        own = own_samples(self._container.read(self._own, 0, _MAX_OWN_BYTES, _READ_S).decode(errors="replace"))
        self._container.remove(self._own, _READ_S)
        lines = [(json.loads(line)["t_ns"], line) for line in path.read_text(encoding="utf-8").splitlines()]
        path.write_text("".join(f"{line}\n" for _, line in sorted([*lines, *own])), encoding="utf-8")

    def _take(self, row: Row) -> None:
        start, end = row.get("StartMachAbsTime"), row.get("EndMachAbsTime")
        if not isinstance(start, int) or not isinstance(end, int):
            return
        start_ns, end_ns = self._stamp(start), self._stamp(end)
        usage = row.get("SystemCPUUsage")
        if isinstance(usage, dict):
            self._write(SYSTEM, start_ns, end_ns, as_text({**usage, "CPUCount": row.get("CPUCount", 0)}))
        processes = row.get("Processes")
        if isinstance(processes, dict):
            own = next((p for p in processes.values() if p.get("pid") == self._pid), None)
            if self._pid and own is not None:
                self._write(APP, start_ns, end_ns, as_text(own))

    def _stamp(self, ticks: int) -> int:
        return round(ticks * self._mach.ns_per_tick) + self._mach.slept_ns

    def _take_gpu(self, row: Row) -> None:
        now_ns = self._now_ns()
        self._write(GPU, now_ns, now_ns, as_text(row))

    def _take_battery(self, battery: Mapping[str, Any], took_s: float) -> None:
        now_ns = self._now_ns()
        self._write(BATTERY, now_ns - int(took_s * 1e9), now_ns, battery_text(battery))

    def _now_ns(self) -> int:
        return time.monotonic_ns() + self._ahead_ns

    def _write(self, probe: str, t_ns: int, t_end_ns: int, raw: str) -> None:
        line = sample_line(t_ns, t_end_ns, probe, raw)
        self._file.write(line + "\n")
        if probe in self._tell:
            self._told.append(line)


def _clocks(instruments: Instruments) -> tuple[MachTime, int]:
    """The phone's clock, and how much further it is than this host's monotonic one, by the quickest of some answers."""
    best: tuple[int, MachTime, int] | None = None
    for _ in range(5):
        before = time.monotonic_ns()
        mach = instruments.mach_time()
        took = time.monotonic_ns() - before
        if best is None or took < best[0]:
            best = took, mach, mach.continuous_ns - before - took // 2
    assert best is not None
    return best[1], best[2]


def watch_battery(phone: Phone, limit_s: float) -> float | None:
    """How often the gauge has a new figure, seconds: the time between two that were seen to come; None where fewer
    came within the limit."""
    seen: list[float] = []
    last: Mapping[str, Any] | None = None
    deadline = time.monotonic() + limit_s
    while len(seen) < 2 and time.monotonic() < deadline:
        try:
            now = phone.battery()
        except MeltError:
            return None
        key = {k: now.get(k) for k in ("UpdateTime", "InstantAmperage", "Voltage")}
        if last is not None and key != last:
            seen.append(time.monotonic())
        last = key
        time.sleep(0.2)
    return round(seen[1] - seen[0], 1) if len(seen) == 2 else None
