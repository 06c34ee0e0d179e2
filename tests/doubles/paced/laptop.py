"""A laptop's energy counter that follows the paced runners which a test has started."""

import os
import threading
from pathlib import Path

from tests.doubles.phone.load import History, boot_ns, seeming_cores
from tests.telemetry.replay import Replay, load_tree, rapl

LAPTOP = "laptop-xps15-9560"
_LOOK_S = 0.002


class Laptop(Replay):
    """A recorded laptop's tree in an empty folder, from entering to leaving; ``sensors.root`` of a profile names it.

    Args:
        folder: for the tree.
        idle_w: what it draws with nothing running.
        core_w: what each core adds that a paced runner, started by this process or by what it started, seems to use.
    """

    def __init__(self, folder: Path, idle_w: float = 4.0, core_w: float = 5.0) -> None:
        tree = load_tree(LAPTOP)
        range_uj = int(tree["/sys/class/powercap/intel-rapl:0/max_energy_range_uj"])
        self._idle_w, self._core_w = idle_w, core_w
        self._history = History(boot_ns(), idle_w)
        self._looking = threading.Thread(target=self._look, daemon=True)
        package = rapl("intel-rapl:0", range_uj - 20_000_000, range_uj, share=0.9)
        dram = rapl("intel-rapl:0:2", 9_135_044_067, range_uj, share=0.1)
        super().__init__(folder, tree, self._at, [package, dram])

    def __enter__(self) -> "Laptop":
        self._looking.start()
        return super().__enter__()

    def true_energy_j(self, t0_ns: int, t1_ns: int) -> float:
        """What it drew between two stamps of the boot clock."""
        return self._history.integral(t1_ns) - self._history.integral(t0_ns)

    def _at(self, t_s: float) -> float:
        return self._history.at(self.start_ns + round(t_s * 1e9))

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_S):
            cores = sum(map(seeming_cores, _descendants(os.getpid())))
            self._history.add(boot_ns(), self._idle_w + self._core_w * cores)


def _descendants(pid: int) -> list[int]:
    """The processes that one has started, and theirs."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            own = [int(child) for child in children.read_text().split()]
        except OSError:  # its thread has ended
            continue
        for child in own:
            found += [child, *_descendants(child)]
    return found
