"""What a run on a phone costs beside the measurement: seconds around it, and the host's processor while it is on.

    python benchmarks/phone_run.py [--seconds 30]

The phone is one in a box (tests/doubles/phone); it needs root, Debian's adbd and the static runner. The host's share
is melt's own processor time, from two runs of different length, so that its start counts in neither.
"""

import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from benchmarks.common import arguments, machine
from melt.models.gguf.synth import synthesise
from melt.models.shapes.zoo import find_shape, scaled_down
from melt.spec.events import Hello, Iteration
from melt.store.store import Run, Store
from tests.doubles.phone.box import PhoneBox

IDLE_S = 1.0


def main() -> None:
    """Prints both costs."""
    parser = arguments(__doc__, seconds=6)
    parser.add_argument("--seconds", type=int, default=30)
    args = parser.parse_args()
    print(machine())
    with TemporaryDirectory() as name, PhoneBox("pixel-8", Path(name) / "phone", variant="unplugged") as phone:
        folder = Path(name)
        model = folder / "tiny.gguf"
        synthesise(scaled_down(find_shape("smollm2-135m")), "Q8_0", model)
        host, port = phone.address.split(":")
        profile = folder / "phone.yaml"
        address = {"host": host, "port": int(port), "connector": "direct"}
        profile.write_text(yaml.safe_dump({"name": "phone", "driver": "adb", "address": address}))
        measure(profile, model, folder / "warm", 2)
        short, long = (measure(profile, model, folder / str(s), s) for s in (args.seconds // 3, args.seconds))
    share = (long[1] - short[1]) / (long[2] - short[2])
    print(f"around a run of {long[2]:.1f} s: {long[0]:.2f} s beside its {IDLE_S:.0f} s of idle baseline")
    print(f"the host while the run is on: {share:.2%} of one core")


def measure(profile: Path, model: Path, results: Path, seconds: int) -> tuple[float, float, float]:
    """Seconds of the session around the runner and its idle baseline, melt's processor time, seconds of the runner."""
    words = [sys.executable, "-m", "melt", "run", "--device", str(profile)]
    words += ["--model", str(model), "--context", "512", "--gen", "256", "--sessions", "1", "--threads", "1"]
    words += ["--set", "workload=sustained", "--set", f"sustained_s={seconds}", "--set", f"idle_s={IDLE_S}"]
    words += ["--results", str(results), "--no-report"]
    before = os.times()
    subprocess.run(words, check=True, capture_output=True)
    after = os.times()
    cpu_s = (after.children_user + after.children_system) - (before.children_user + before.children_system)
    run = Store(results).runs()[0][0]
    return session_s(run) - runner_s(run) - IDLE_S, cpu_s, runner_s(run)


def session_s(run: Run) -> float:
    """From the session's begin to its end."""
    begin, end = (datetime.fromisoformat(t) for t in (run.manifest.started_at, run.manifest.ended_at))
    return (end - begin).total_seconds()


def runner_s(run: Run) -> float:
    """From the runner's greeting to its last token."""
    events = list(run.events())
    hello = next(e for e in events if isinstance(e, Hello))
    assert hello.clock is not None
    last = [e for e in events if isinstance(e, Iteration)][-1]
    return (last.token_t_ns[-1] - hello.clock.t_ns) / 1e9


if __name__ == "__main__":
    main()
