"""SmolLM2 and a Mamba on a board in two power modes: tok/s and joules a token by mode, beside what the board drew.

    python benchmarks/board_run.py [--out FOLDER] [--context 512] [--gen 256]

The board is an Orin Nano in a box (tests/doubles/board); it needs root, OpenSSH's server and FUSE. Its processor is
this machine's, so the speeds are of this machine; the power follows how busy the runner keeps it, and its integral is
known. The command is the one that docs/jetson.md gives.
"""

import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import yaml

import melt
from benchmarks.common import arguments, machine
from melt.drivers.ssh.connect import enrol, unknown_keys
from melt.spec.events import Iteration
from melt.spec.profile import DeviceProfile
from melt.store.store import Store
from tests.doubles.board.box import BoardBox
from tests.doubles.sshd import make_key
from tests.telemetry.replay import ina3221

MODELS = ("pypi:smollm2-135m", "synth:mamba-130m@Q4_1")
IDLE_W, CORE_W = 4.0, {0: 2.0, 1: 5.0, 2: 8.0}  # by power mode


def main() -> None:
    """Prints a line a run."""
    parser = arguments(__doc__, context="64", gen="16")
    parser.add_argument("--out", type=Path, help="where results and report stay")
    parser.add_argument("--context", default="512")
    parser.add_argument("--gen", default="256")
    args = parser.parse_args()
    print(machine())
    with TemporaryDirectory() as name:
        home, out = Path(name) / "home", args.out or Path(name) / "out"
        ssh = home / ".ssh"
        ssh.mkdir(parents=True)
        key = make_key(ssh / "id_ed25519")
        (ssh / "config").write_text(f"IdentityFile {ssh}/id_ed25519\nUserKnownHostsFile {ssh}/known_hosts\n")
        os.environ["HOME"] = str(home)
        rail = ina3221("1-0040", "hwmon1", 1, 5160)
        with BoardBox(Path(name) / "nano", "jetson-orin-nano", [rail], IDLE_W, CORE_W) as board:
            board.authorised.write_text(key)
            address, work = {"host": "127.0.0.1", "port": board.port}, str(board.folder / "work")
            profile = DeviceProfile(name="nano", driver="ssh", address=address, work_folder=work, threads=1)
            for shown in unknown_keys(profile):
                enrol(shown)
            path = Path(name) / "nano.yaml"
            path.write_text(yaml.safe_dump(profile.model_dump(mode="json", exclude_defaults=True)))
            measure(path, out, args.context, args.gen)
            compare(out / "results", board)


def measure(profile: Path, out: Path, context: str, gen: str) -> None:
    """The command."""
    words = [sys.executable, "-m", "melt", "run", "--device", str(profile)]
    words += [w for model in MODELS for w in ("--model", model)]
    words += ["--runner", "native", "--power-mode", "15W", "--power-mode", "25W", "--context", context, "--gen", gen]
    words += ["--sessions", "1", "--iterations", "3"]
    words += ["--results", str(out / "results"), "--out", str(out / "report")]
    subprocess.run(words, check=True)


def compare(results: Path, board: BoardBox) -> None:
    """Every run's joules of decoding over what the board drew meanwhile."""
    runs = {run.manifest.run_id: run for run in Store(results).runs()[0]}
    for row in melt.load(results).runs.to_dict("records"):
        passes = [e for e in runs[row["run_id"]].events() if isinstance(e, Iteration) and not e.warmup]
        truth_j = median(board.true_energy_j(p.token_t_ns[0], p.token_t_ns[-1]) for p in passes)
        ratio = row["energy_decode_j"] / truth_j
        print(
            f"{row['model']:<24} {row['power_mode']:<4} {row['decode_tok_per_s']:6.1f} tok/s "
            f"{row['decode_j_per_token'] * 1e3:6.1f} mJ/token, {ratio:.4f} of the truth"
        )


if __name__ == "__main__":
    main()
