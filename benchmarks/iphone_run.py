"""What this computer spends while a run is on at an iPhone: seconds of its processor a second of the run.

    python -m benchmarks.iphone_run [--gen 4000] [--ios 17]

The simulated iPhone and the runner are processes of their own, so that melt's alone is counted: following the app's
events, and taking its telemetry at the default period; from iOS 17 on also the process that has the tunnel.
"""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import arguments, machine
from melt.execution.plan import run
from melt.execution.progress import Watcher
from melt.models.gguf.synth import synthesise
from melt.models.shapes.zoo import find_shape, scaled_down
from melt.spec.events import Event, Iteration, ModelLoaded, UnknownLine
from melt.spec.plan import Plan
from melt.toolchain.build import build
from melt.toolchain.targets import find_target
from tests.doubles.iphone.__main__ import MODELS

APP = "org.example.melt-runner"
WORKER = b"melt.drivers.ios.pymd3.worker"


class Spent(Watcher):
    """The processor's and the wall's time from the model's loading to each iteration's end."""

    def __init__(self) -> None:
        self.loaded = self.last = (0.0, 0.0)

    def event(self, event: Event | UnknownLine) -> None:
        """Takes the times."""
        now = (time.process_time() + _workers_s(), time.perf_counter())
        if isinstance(event, ModelLoaded):
            self.loaded = now
        if isinstance(event, Iteration):
            self.last = now


def _workers_s() -> float:
    """The processor's time of the processes that have tunnels."""
    total_s = 0.0
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and WORKER in (folder / "cmdline").read_bytes().split(b"\0"):
                after_name = (folder / "stat").read_text().rsplit(")", 1)[1].split()
                if int(after_name[1]) == os.getpid():
                    total_s += (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")
    return total_s


def main() -> None:
    """Prints one line."""
    parser = arguments(__doc__, gen=200)
    parser.add_argument("--gen", type=int, default=4000)
    parser.add_argument("--ios", choices=MODELS, default="16")
    args = parser.parse_args()
    print(machine())
    program = build(find_target("host"), lambda _done, _total: None)
    with TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "tiny.gguf"
        synthesise(scaled_down(find_shape("smollm2-135m")), "Q8_0", model)
        profile = folder / "iphone-of-ours.yaml"
        profile.write_text("name: iphone-of-ours\ndriver: ios\n")
        words = [sys.executable, "-m", "tests.doubles.iphone", "--ios", args.ios]
        words += [str(folder / "phone"), APP, str(program)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as phone:
            assert phone.stdout is not None
            assert phone.stdin is not None
            os.environ |= {"HOME": name, "MELT_CACHE": name, "USBMUXD_SOCKET_ADDRESS": phone.stdout.readline().strip()}
            spent = Spent()
            few = {"context": (64,), "gen": (args.gen,), "sessions": 1, "iterations": 1, "warmups": 0, "threads": (1,)}
            plan = Plan.model_validate({"devices": (str(profile),), "models": (str(model),), "idle_s": 0.5, **few})
            outcome = run(plan, folder / "results", spent)
            phone.stdin.close()
    assert outcome.complete, outcome.made[-1].manifest.error
    cpu_s, wall_s = spent.last[0] - spent.loaded[0], spent.last[1] - spent.loaded[1]
    print(f"iOS {args.ios}: {cpu_s:.2f} s of a processor in {wall_s:.1f} s of a run: {cpu_s / wall_s:.2%} of one core")


if __name__ == "__main__":
    main()
