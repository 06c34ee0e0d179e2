"""Reads the probes of a spec once a period and writes their raw text, stamped, as JSON lines.

Spec: ``{out, period_ms, root, watch_stdin_ms, probes: [{name, read | exec | stream, period_ms, lines, tell}]}``: a
file, a program run each time for its output, or one that goes on and whose every line is a sample. What a probe that is
to ``tell`` says goes to stdout too, every few seconds. On stdin a line ``pid N``
starts the probes whose path holds ``{pid}``; the end of stdin ends the sampler, and so does its silence for
``watch_stdin_ms``; an empty line breaks it.
"""

import contextlib
import json
import os
import select
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import clock
from inventory import errno_name
from probes import ExecProbe, FileProbe, Probe, ProbeError, Spec, StreamProbe

RETRY_NS = 5_000_000_000  # how long a probe that failed is left alone
FLUSH_NS = 500_000_000
TELL_NS = 5_000_000_000  # so seldom that the device does not notice
TOLD_BYTES = 65_536
STREAM_END_S = 1.0
# What needs no escape in JSON: printable ASCII but the quote and the backslash.
_PLAIN = bytes(b for b in range(0x20, 0x7F) if b not in b'"\\')


class Writer:
    """The output file; samples are gathered and written a few times a second."""

    def __init__(self, path: str) -> None:
        self.file = Path(path).open("a", encoding="utf-8")  # noqa: SIM115
        self.lock = threading.Lock()
        self.pending: list[str] = []
        self.flushed_ns = clock.now_ns()

    def sample(self, probe: Probe) -> None:
        """Reads one probe and keeps what it said, or once why it said nothing."""
        started = clock.now_ns()
        if started < probe.retry_at_ns:
            return
        try:
            raw = probe.read()
        except (OSError, ProbeError, ValueError) as e:
            self.failed(probe, started, e)
            return
        self.keep(probe, started, clock.now_ns(), raw)

    def keep(self, probe: Probe, started: int, ended: int, raw: bytes) -> None:
        """Keeps what a probe said."""
        text = f'"{raw.decode()}"' if not raw.translate(None, _PLAIN) else json.dumps(raw.decode("utf-8", "replace"))
        line = f'{{"t_ns":{started},"t_end_ns":{ended}{probe.head}{text}}}\n'
        probe.failing = False
        with self.lock:
            self.pending.append(line)
        if probe.tells and started >= probe.tell_at_ns:
            probe.tell_at_ns = started + TELL_NS
            tell(line)

    def failed(self, probe: Probe, started: int, error: Exception) -> None:
        """Keeps why it said nothing, once, and leaves it alone for a while."""
        probe.close()
        probe.retry_at_ns = started + RETRY_NS
        if probe.failing:
            return
        probe.failing = True
        name = getattr(error, "error", None) or (errno_name(error) if isinstance(error, OSError) else "EINVAL")
        note = {"t_ns": started, "probe": probe.name, "error": name, "message": str(error)}
        with self.lock:
            self.pending.append(json.dumps(note, separators=(",", ":")) + "\n")

    def flush(self, now_ns: int | None = None) -> None:
        """Writes what is pending; with a time given, only when the last write is long enough ago."""
        if now_ns is not None and now_ns - self.flushed_ns < FLUSH_NS:
            return
        with self.lock:
            lines, self.pending = self.pending, []
        self.file.write("".join(lines))
        self.file.flush()
        self.flushed_ns = now_ns or clock.now_ns()

    def close(self) -> None:
        """Writes the rest."""
        self.flush()
        self.file.close()


def tell(line: str) -> None:
    """Writes a line to stdout, which never waits: nobody may be reading, and what has no room is not told."""
    told = line.encode()
    if len(told) <= TOLD_BYTES:
        with contextlib.suppress(OSError):
            os.write(sys.stdout.fileno(), told)


class Schedule:
    """Probes by period: one deadline in each, so that there is no drift; missed ones are not made up for."""

    def __init__(self, start_ns: int) -> None:
        self.start_ns = start_ns
        self.probes: dict[int, list[Probe]] = {}  # by period
        self.deadline: dict[int, int] = {}

    def add(self, probe: Probe, period_ns: int, now_ns: int) -> None:
        """Takes a probe up from its period's next deadline on."""
        self.deadline.setdefault(period_ns, _deadline_after(self.start_ns, period_ns, now_ns - 1))
        self.probes.setdefault(period_ns, []).append(probe)

    def due(self, now_ns: int) -> list[Probe]:
        """The probes whose deadline has come, each once; moves their deadlines on."""
        due: list[Probe] = []
        for period_ns, deadline_ns in self.deadline.items():
            if deadline_ns <= now_ns:
                due += self.probes[period_ns]
                self.deadline[period_ns] = _deadline_after(self.start_ns, period_ns, now_ns)
        return due

    def next_ns(self) -> int | None:
        """The next deadline."""
        return min(self.deadline.values(), default=None)


def _deadline_after(start_ns: int, period_ns: int, now_ns: int) -> int:
    k = (now_ns - start_ns) // period_ns
    due_ns = _deadline_in(start_ns, period_ns, k)
    return due_ns if due_ns > now_ns else _deadline_in(start_ns, period_ns, k + 1)


def _deadline_in(start_ns: int, period_ns: int, k: int) -> int:
    return start_ns + k * period_ns + (((_moment_in_period(k) >> 16) * period_ns) >> 16)


def _moment_in_period(k: int) -> int:
    """When within period k a probe is read, as a fraction of 2^32: mixed as xxHash ends, so that it keeps step with
    nothing that the device does. 0 of the first period."""
    k = k * 2654435761 & 0xFFFFFFFF
    k = (k ^ (k >> 15)) * 2246822519 & 0xFFFFFFFF
    k = (k ^ (k >> 13)) * 3266489917 & 0xFFFFFFFF
    return k ^ (k >> 16)


def run(spec: Spec, stdin: TextIO) -> int:
    """Samples until stdin ends; returns the exit status."""
    root, period_ms = spec.get("root") or "", int(spec.get("period_ms") or 100)
    probes = [{**p, "period_ms": int(p.get("period_ms") or period_ms)} for p in spec["probes"]]
    writer = Writer(spec["out"])
    if any(p.get("tell") for p in probes):
        os.set_blocking(sys.stdout.fileno(), False)
    schedule = Schedule(clock.now_ns())
    of_process = [p for p in probes if "{pid}" in (p.get("read") or "")]
    for p in probes:
        if p.get("read") and p not in of_process:
            # The first time at once: a short run has a sample of every probe.
            schedule.add(FileProbe(p, root + p["read"]), p["period_ms"] * 1_000_000, schedule.start_ns)
    _come_first()
    ended = threading.Event()
    streams = [StreamProbe(p) for p in probes if p.get("stream")]
    threads = [threading.Thread(target=_run_exec, args=(ExecProbe(p), writer, ended)) for p in probes if p.get("exec")]
    # What such a program has started may hold its output open, and is not waited for.
    threads += [threading.Thread(target=_run_stream, args=(s, writer, ended), daemon=True) for s in streams]
    for thread in threads:
        thread.start()
    try:
        _loop(schedule, writer, stdin.fileno(), of_process, (spec.get("watch_stdin_ms") or 0) * 1_000_000)
    except OSError as e:
        print(f"sampler: {e}", file=sys.stderr, flush=True)
        return 1
    finally:
        ended.set()
        for stream in streams:
            stream.kill()
        for thread in threads:
            thread.join(STREAM_END_S if thread.daemon else None)
        with contextlib.suppress(OSError):
            writer.close()
    return 0


def _come_first() -> None:
    """Where it is allowed to: the runner keeps all cores busy, and a sample has its time."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))


def _loop(schedule: Schedule, writer: Writer, stdin_fd: int, of_process: Sequence[Spec], watch_ns: int) -> None:
    command, heard_ns = b"", clock.now_ns()
    while True:
        due_ns, now_ns = schedule.next_ns(), clock.now_ns()
        wait_s = 0.5 if due_ns is None else max(0, due_ns - now_ns) / 1e9
        if select.select([stdin_fd], [], [], wait_s)[0]:
            got = os.read(stdin_fd, 4096)
            if not got:
                return
            heard_ns = clock.now_ns()
            *lines, command = (command + got).split(b"\n")
            for line in filter(None, lines):  # an empty line only says that the host is there
                _obey(line, schedule, of_process)
            continue
        if watch_ns and clock.now_ns() - heard_ns > watch_ns:
            return  # the host is gone, and the link has not told
        for probe in schedule.due(clock.now_ns()):
            writer.sample(probe)
        writer.flush(clock.now_ns())


def _obey(line: bytes, schedule: Schedule, of_process: Sequence[Spec]) -> None:
    words = line.split()
    if len(words) != 2 or words[0] != b"pid" or not words[1].isdigit():
        print(f"sampler: not understood: {line[:80]!r}", file=sys.stderr, flush=True)
        return
    for p in of_process:
        # Never under the root: the process is this machine's own, whatever tree the rest is read from.
        path = p["read"].replace("{pid}", words[1].decode())
        schedule.add(FileProbe(p, path), p["period_ms"] * 1_000_000, clock.now_ns())


def _run_exec(probe: ExecProbe, writer: Writer, ended: threading.Event) -> None:
    start_ns = clock.now_ns()
    while not ended.is_set():
        writer.sample(probe)
        now_ns = clock.now_ns()
        ended.wait((_deadline_after(start_ns, probe.period_ns, now_ns) - now_ns) / 1e9)


def _run_stream(probe: StreamProbe, writer: Writer, ended: threading.Event) -> None:
    while not ended.is_set():
        try:
            probe.start()
            while not ended.is_set():
                raw = probe.read()
                now_ns = clock.now_ns()
                writer.keep(probe, now_ns, now_ns, raw)
        except (OSError, ProbeError) as e:
            if not ended.is_set():
                writer.failed(probe, clock.now_ns(), e)
        ended.wait(RETRY_NS / 1e9)
    probe.close()


def main(argv: Sequence[str]) -> int:
    """Reads the spec's file and runs it."""
    spec = json.loads(Path(argv[1]).read_text(encoding="utf-8"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    return run(spec, sys.stdin)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
