"""What tests of boards share: Jetsons and a Raspberry Pi in boxes, with their rails."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.doubles.board.box import BoardBox
from tests.doubles.board.network import Place
from tests.doubles.sshd import Sshd
from tests.drivers.conftest import enrol_all, ssh_profile_of
from tests.telemetry.replay import Sensor, ina3221, load_tree

VDD_IN = ina3221("1-0040", "hwmon1", 1, 5160)  # of an Orin Nano, the whole module
AGX_ORIN = [
    ina3221("1-0040", "hwmon3", n, mv, share) for n, mv, share in ((1, 19928, 0.5), (2, 19928, 0.2), (3, 5008, 0.3))
]
XAVIER_NX = ina3221("7-0040", "hwmon4", 1, 5120)
THOR = Sensor("/sys/class/hwmon/hwmon4/power1_input", lambda w, _j: w * 1e6)
OLD_XAVIER = Sensor("/sys/bus/i2c/drivers/ina3221x/7-0040/iio:device0/in_power0_input", lambda w, _j: w * 1e3)
IDLE_W = 4.0
Box = Callable[..., BoardBox]


@pytest.fixture
def box(tmp_path: Path, home: Path) -> Iterator[Box]:
    """Makes boards that draw 4 W at rest, and by their power mode more for each busy core."""
    with ExitStack() as ending:

        def make(
            device: str = "jetson-orin-nano",
            sensors: list[Sensor] | None = None,
            changes: Mapping[str, Any] | None = None,
            place: Place | None = None,
            core_w: Mapping[int, float] | None = None,
        ) -> BoardBox:
            by_mode = core_w or {0: 2.0, 1: 5.0, 2: 8.0}
            folder = tmp_path / f"{device}{len(list(tmp_path.iterdir()))}"
            board = ending.enter_context(
                BoardBox(folder, device, [VDD_IN] if sensors is None else sensors, IDLE_W, by_mode, changes, place)
            )
            board.authorised.write_text((home / ".ssh" / "id_ed25519.pub").read_text())
            return board

        yield make


@pytest.fixture
def nano(box: Box) -> BoardBox:
    """An Orin Nano in mode 1, 25W, whose chip has a new figure every 20 ms: ten of them are in the shortest phase."""
    board = box(changes={f"{VDD_IN.path.rsplit('/', 1)[0]}/update_interval": "20\n"})
    enrol_all(ssh_profile_of(board))
    return board


def a_profile(board: Sshd, path: Path, **more: object) -> str:
    """Its file; the board's sensors are read every 20 ms."""
    profile = ssh_profile_of(board, name=path.stem, sensors={"period_ms": 20}, **more)
    path.write_text(yaml.safe_dump(profile.model_dump(mode="json", exclude_defaults=True)))
    return str(path)


DENIED = {p: {"error": "EACCES"} for p in load_tree("jetson-orin-nano") if "ina3221/" in p and p.endswith("_input")}
BOARDS: dict[str, dict[str, Any]] = {
    "agx-orin": {"device": "jetson-agx-orin", "sensors": AGX_ORIN},
    "xavier-nx": {"device": "jetson-xavier-nx", "sensors": [XAVIER_NX], "core_w": {7: 5.0}},
    "xavier-nx-jetpack4": {"device": "jetson-xavier-nx/tree-jetpack4", "sensors": [OLD_XAVIER], "core_w": {2: 5.0}},
    "thor": {"device": "jetson-thor", "sensors": [THOR]},
    "tegrastats": {"changes": DENIED},
    "raspberry-pi-5": {"device": "raspberry-pi-5", "sensors": []},
}
