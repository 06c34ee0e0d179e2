"""melt's push to a board against OpenSSH's `sftp put`, to the same server, interleaved: at 0 and at 10 ms.

    python benchmarks/push_to_board.py [--size-mib 954] [--rounds 3]

sftp's time includes its connecting, which melt's transfer does not: melt connects once a plan. A whole push of melt's
also flushes the file to the disk and checks its hash there; what does the same by hand stands beside it: `put -f` and
`ssh sha256sum`. A push of what is there already ends the lines.
"""

import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.common import MIB, a_file, arguments, machine
from benchmarks.link import slow_link
from melt.drivers.base import DeviceFile
from melt.drivers.remote.files import RemoteFiles
from melt.drivers.remote.process import run_command
from melt.drivers.ssh.connect import enrol, open_way, unknown_keys
from melt.drivers.ssh.remote import SshRemote
from melt.spec.profile import DeviceProfile
from tests.doubles.sshd import Sshd, make_key


def main() -> None:
    """Prints a line a way of pushing and link."""
    parser = arguments(__doc__, size_mib=8, rounds=1)
    parser.add_argument("--size-mib", type=int, default=954)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(machine())
    with TemporaryDirectory() as name, Sshd(Path(name) / "board") as board:
        home = Path(name) / "home"
        ssh = home / ".ssh"
        ssh.mkdir(parents=True)
        board.authorised.write_text(make_key(ssh / "id_ed25519"))
        (ssh / "config").write_text(f"IdentityFile {ssh}/id_ed25519\nUserKnownHostsFile {ssh}/known_hosts\n")
        os.environ["HOME"] = str(home)
        file = a_file(Path(name), args.size_mib * MIB)
        compare("0 ms", board.port, board, file, args.rounds)
        with slow_link(("127.0.0.1", board.port), 1e9, 0.010) as port:
            compare("10 ms", port, board, file, args.rounds)


def compare(link: str, port: int, board: Sshd, file: DeviceFile, rounds: int) -> None:
    """Both ways, in random order within a round."""
    profile = DeviceProfile(name="board", driver="ssh", address={"host": "127.0.0.1", "port": port})
    for key in unknown_keys(profile):
        enrol(key)
    remote = SshRemote(open_way(profile), "board")
    took: dict[str, list[float]] = {}
    shuffler = random.Random(0)
    for _ in range(rounds):
        ways: list[Callable[[], dict[str, float]]] = [
            lambda: {"sftp put": by_sftp(port, board, file)},
            lambda: {"sftp put -f, ssh sha256sum": by_sftp_with_check(port, board, file)},
            lambda: by_melt(remote, board, file),
        ]
        shuffler.shuffle(ways)
        for way in ways:
            parts = way()
            for part, seconds in parts.items():
                took.setdefault(part, []).append(seconds)
    remote.close()
    ours = {way: median(times) for way, times in took.items()}
    print(f"{file.size_bytes / 1e6:.0f} MB, {link}")
    for name, seconds in ours.items():
        ratios = "".join(
            f"  {ours[peer] / seconds:.3f} of {peer}" for peer in ours if peer.startswith("sftp") and "melt" in name
        )
        if name.endswith("there already"):
            print(f"  {name:28} {seconds:6.3f} s")
        else:
            print(f"  {name:28} {file.size_bytes / seconds / 1e6:6.0f} MB/s{ratios}", flush=True)


def by_sftp(port: int, board: Sshd, file: DeviceFile, flags: str = "") -> float:
    """Seconds of OpenSSH's own client."""
    target = board.folder / "put"
    batch = f'put {flags} "{file.path}" "{target}"\n'
    began = time.perf_counter()
    subprocess.run(
        ["sftp", "-q", "-F", config(), "-P", str(port), "-b", "-", "127.0.0.1"],
        input=batch,
        text=True,
        check=True,
        capture_output=True,
    )
    took = time.perf_counter() - began
    assert target.stat().st_size == file.size_bytes
    if not flags:
        target.unlink()
    return took


def by_sftp_with_check(port: int, board: Sshd, file: DeviceFile) -> float:
    """Seconds of it with the file on the disk and its hash read there, by OpenSSH's clients."""
    took_s = by_sftp(port, board, file, "-f")
    target = board.folder / "put"
    began = time.perf_counter()
    command = ["ssh", "-F", config(), "-p", str(port), "127.0.0.1", f"sha256sum {target}"]
    done = subprocess.run(command, text=True, check=True, capture_output=True)
    took_s += time.perf_counter() - began
    assert done.stdout.startswith(file.sha256)
    target.unlink()
    return took_s


def config() -> str:
    """The clients' configuration."""
    return str(Path(os.environ["HOME"]) / ".ssh" / "config")


def by_melt(remote: SshRemote, board: Sshd, file: DeviceFile) -> dict[str, float]:
    """Seconds of the transfer alone, of the whole with its check, and of a push of what is there."""
    target, work = str(board.folder / "sent"), str(board.folder / "work")
    began = time.perf_counter()
    with file.path.open("rb") as content:
        remote.send(content, target, 0o644)
    transfer_s = time.perf_counter() - began
    Path(target).unlink()
    files = RemoteFiles(remote, work)
    files.prepare()
    began = time.perf_counter()
    assert files.push(file).pushed
    whole_s = time.perf_counter() - began
    began = time.perf_counter()
    assert not files.push(file).pushed
    again_s = time.perf_counter() - began
    run_command(remote, f"rm -rf {work}")
    return {"melt: transfer": transfer_s, "melt: with the check": whole_s, "melt: there already": again_s}


if __name__ == "__main__":
    main()
