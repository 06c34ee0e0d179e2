"""What recording telemetry costs: decode speed with the sampler running against without it, interleaved.

python benchmarks/telemetry_cost.py [--rounds 15]
"""

import random
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import Speeds, arguments, local_device, machine, ratio_line, run_melt
from melt.drivers.base import ToRecord
from melt.drivers.runner import runner_path
from melt.models.refs import resolve
from melt.spec.cell import Cell

REF = "pypi:smollm2-135m"


def main() -> None:
    """Prints the ratio with over without, for prefill and decode."""
    parser = arguments(__doc__, rounds=1)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    print(machine())
    cell = Cell(device="local", model=REF, prompt_tokens=512, gen_tokens=256, threads=2, iterations=3)
    model = resolve(REF)
    speeds: dict[bool, list[Speeds]] = {True: [], False: []}
    shuffler = random.Random(0)
    with local_device() as driver, TemporaryDirectory() as folder:
        asked = ToRecord("cost", driver.discover().probes, sampler=[sys.executable, str(runner_path()), "sample"])
        for _ in range(args.rounds):
            turns = [True, False]
            shuffler.shuffle(turns)
            for recorded in turns:
                recording = driver.record(asked) if recorded else None
                speed = run_melt(driver, model, cell)
                if recording is not None:
                    recording.stop(Path(folder) / "telemetry.jsonl")
                speeds[recorded].append(speed)
    on, off = speeds[True], speeds[False]
    prefills = [[s.prefill_tok_per_s for s in side] for side in (on, off)]
    decodes = [[s.decode_tok_per_s for s in side] for side in (on, off)]
    print(ratio_line("prefill: telemetry on / off", prefills[0], prefills[1]))
    print(ratio_line("decode: telemetry on / off", decodes[0], decodes[1]))


if __name__ == "__main__":
    main()
