"""Power rails recorded by the phone's own Perfetto, beside the sampler: adb's shell may not read them otherwise."""

import contextlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from melt.drivers.adb import sync
from melt.drivers.adb.remote import AdbRemote
from melt.drivers.base import Recording
from melt.drivers.remote.base import quoted
from melt.drivers.remote.process import RemoteProcess, run_command
from melt.drivers.remote.recording import refusal_of
from melt.errors import DeviceError, TransientDeviceError
from melt.telemetry.kinds.power_rails import POLL_MS, PREFIX, Rail, read_rails

_FOLDER = "/data/misc/perfetto-traces"  # where alone Perfetto may write
_LOOK_MS = 700
_LONGEST_MS = 6 * 3600 * 1000  # it ends by itself, should nobody be there to end it
_END_S = 10.0
MAX_TRACE_BYTES = 2**28


class RailRecording:
    """Perfetto at work, from its start on."""

    def __init__(self, remote: AdbRemote, name: str = "melt.pftrace", duration_ms: int = _LONGEST_MS) -> None:
        self._remote = remote
        self._path = f"{_FOLDER}/{name}"
        run_command(remote, f"rm -f {quoted(self._path)}")
        self.process = RemoteProcess(remote, f"exec perfetto --txt -c - -o {quoted(self._path)}")
        self.process.tell(_config(duration_ms))
        self.process.end_of_input()  # it reads its configuration to the end

    def kill(self) -> None:
        """Ends it without its trace."""
        self.process.kill()

    def stop(self) -> bytes:
        """Ends it where it has not ended by itself, and brings the trace.

        Raises:
            DeviceError: Perfetto refuses; says in its own words why.
        """
        with contextlib.suppress(TimeoutError):
            self.process.wait(0.0)
            return self._bring()
        run_command(self._remote, f"kill -TERM {self.process.pid}")
        return self.wait(_END_S)

    def wait(self, timeout_s: float) -> bytes:
        """The trace, once it has ended by itself."""
        try:
            self.process.wait(timeout_s)
        except TimeoutError as e:
            self.process.kill()
            raise DeviceError(f"{self._remote.name}: Perfetto does not end", "Reboot the phone.") from e
        return self._bring()

    def _bring(self) -> bytes:
        try:
            status = self.process.wait(0.0)
            if not status.ok:
                said = self.process.stderr().strip().splitlines()[-1:] or [str(status)]
                raise DeviceError(f"{self._remote.name}: Perfetto: {said[0][:200]}")
            size = sync.size_bytes(self._remote.connection, self._path)
            if size is None or size > MAX_TRACE_BYTES:
                raise DeviceError(f"{self._remote.name}: Perfetto left no trace that can be read")
            with tempfile.TemporaryFile() as trace:
                sync.receive(self._remote.connection, self._path, trace)
                trace.seek(0)
                return trace.read()
        finally:
            self.process.kill()
            with contextlib.suppress(TransientDeviceError):
                run_command(self._remote, f"rm -f {quoted(self._path)}")


class RecordingWithRails:
    """The sampler and Perfetto at once, as one recording."""

    def __init__(self, sampler: Recording, rails: RailRecording) -> None:
        self._sampler = sampler
        self._rails = rails

    def follow(self, pid: int) -> None:
        """From now on also reads the probes that name a process."""
        self._sampler.follow(pid)

    def heard(self) -> Sequence[str]:
        """What the sampler has told since this was asked last."""
        return self._sampler.heard()

    def stop(self, destination: Path) -> str:
        """Ends both; what went wrong with either, in words. Raises ConnectionLostError."""
        try:
            problem = self._sampler.stop(destination)
            of_rails = refusal_of(lambda: append_rails(self._rails.stop(), destination))
            return problem or of_rails
        finally:
            self._rails.kill()


def find_rails(remote: AdbRemote) -> tuple[list[Rail], str]:
    """The rails of which the phone gives samples, and where it gives none the reason."""
    if run_command(remote, "command -v perfetto").code != 0:
        return [], "the phone has no Perfetto (before Android 9)"
    try:
        rails, samples = read_rails(RailRecording(remote, "melt-look.pftrace", _LOOK_MS).wait(_LOOK_MS / 1000 + _END_S))
    except TransientDeviceError:
        raise
    except DeviceError as e:
        return [], e.message.removeprefix(f"{remote.name}: ")
    alive = {s.index for s in samples}
    return [r for r in rails if r.index in alive], "" if alive else "the phone's Perfetto gives no power rails"


def append_rails(trace: bytes, telemetry: Path) -> None:
    """Adds the samples to the sampler's lines, raw as it would have written them."""
    rails, samples = read_rails(trace)
    names = {r.index: r.name for r in rails}
    with telemetry.open("a", encoding="utf-8") as out:
        for s in samples:
            row = {"t_ns": s.t_ns, "t_end_ns": s.t_ns, "probe": f"{PREFIX}{names.get(s.index, s.index)}"}
            out.write(json.dumps({**row, "raw": str(s.energy_uws)}, separators=(",", ":")) + "\n")


def _config(duration_ms: int) -> str:
    """Perfetto's configuration as text, on one line."""
    lines: Sequence[str] = (
        "buffers { size_kb: 4096 fill_policy: RING_BUFFER }",
        f"duration_ms: {duration_ms}",
        "write_into_file: true file_write_period_ms: 1000 flush_period_ms: 1000",
        'data_sources { config { name: "android.power" android_power_config {',
        f"battery_poll_ms: {POLL_MS} collect_power_rails: true }} }} }}",
    )
    return " ".join(lines)
