"""What tests of the phone in a box share: Google's own adb client, and one phone."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import KEPT_BUILDS
from tests.doubles.phone.box import PhoneBox

pytestmark = [pytest.mark.root, pytest.mark.doubles]
BATTERY = "/sys/class/power_supply/battery"


@dataclass(frozen=True)
class Adb:
    """Google's client with a server of its own."""

    port: int
    environment: dict[str, str]

    def __call__(self, *words: str, timeout_s: float = 30) -> "subprocess.CompletedProcess[str]":
        argv = ["adb", "-P", str(self.port), *words]
        return subprocess.run(
            argv, env=self.environment, capture_output=True, text=True, check=False, timeout=timeout_s
        )

    def shell(self, phone: PhoneBox, command: str, timeout_s: float = 30) -> "subprocess.CompletedProcess[str]":
        return self("-s", phone.address, "shell", command, timeout_s=timeout_s)

    def connect(self, phone: PhoneBox) -> None:
        self("disconnect", phone.address)  # the server may remember an earlier phone there, and be slow to try again
        said = self("connect", phone.address).stdout
        assert "connected to" in said, said
        self("-s", phone.address, "wait-for-device")


@pytest.fixture(scope="module")
def adb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adb]:
    home = tmp_path_factory.mktemp("adb")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    own = {"HOME": str(home), "TMPDIR": str(home), "ADB_LOCAL_TRANSPORT_MAX_PORT": "5553"}  # no emulators
    client = Adb(port, {**os.environ, **own})
    client("start-server")
    yield client
    client("kill-server")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small phone that has one of everything."""
    folder = tmp_path_factory.mktemp("recording")
    tree = {
        "uname:release": "6.1.0-android14-tiny",
        "/proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\n",
        "/proc/meminfo": "MemTotal: 7634564 kB\nMemAvailable: 2903112 kB\n",
        "/proc/stat": {"error": "EACCES"},
        f"{BATTERY}/status": "Discharging\n",
        f"{BATTERY}/current_now": "-212000\n",
        f"{BATTERY}/voltage_now": "4000000\n",
        f"{BATTERY}/charge_counter": "3100000\n",
        f"{BATTERY}/charge_full": {"error": "EACCES"},
        "/sys/class/thermal/thermal_zone0/type": "BIG\n",
        "/sys/class/thermal/thermal_zone0/temp": "41000\n",
        "/vendor/lib64/libOpenCL.so": "",
    }
    texts = {
        "tree.json": json.dumps(tree),
        "getprop.txt": "[ro.product.cpu.abi]: [arm64-v8a]\n[ro.product.model]: [Tiny One]\n",
        "dumpsys-battery.txt": "Current Battery Service state:\n  USB powered: false\n  Charge counter: 3100000\n"
        "  status: 3\n  level: 80\n  voltage: 4000\n  temperature: 251\n",
        "dumpsys-thermalservice.txt": "Thermal Status: 0\nCached temperatures:\n"
        "\tTemperature{mValue=41.0, mType=0, mName=BIG, mStatus=0}\nHAL Ready: true\nCurrent temperatures from HAL:\n"
        "\tTemperature{mValue=41.0, mType=0, mName=BIG, mStatus=0}\nCurrent cooling devices from HAL:\n",
        "dumpsys-gpu-gpumem.txt": "Memory snapshot for GPU 0:\nGlobal total: 1048576\n",
        "logcat-lmk.txt": "I lowmemorykiller: Kill 'x' (1), uid 2000, oom_score_adj 900\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def phone(recording: Path, tmp_path: Path, adb: Adb) -> Iterator[PhoneBox]:
    with PhoneBox(recording, tmp_path / "phone") as box:
        adb.connect(box)
        yield box


def runner(target: str) -> Path:
    built = sorted((KEPT_BUILDS / "runners").glob(f"melt-runner-{target}-*"), key=lambda file: file.stat().st_mtime)
    if not built:
        pytest.skip(f"no runner for {target}: `make runners` builds it")
    return built[-1]


def own_ns(phone: PhoneBox) -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) + phone.clock_ahead_ns


def links() -> str:
    return subprocess.run(["ip", "link"], capture_output=True, text=True, check=True).stdout
