"""Every command that the README and the docs show is run, as shown; what measures is made short by options after it."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from melt.drivers.profiles import read_profile
from melt.spec.plan import Plan, load_plan
from tests.conftest import KEPT_BUILDS
from tests.doubles.adb_server import own_adb_server
from tests.doubles.board.box import BoardBox
from tests.doubles.iphone.phone import IPhone
from tests.doubles.phone.box import PhoneBox
from tests.doubles.sshd import make_key
from tests.drivers.iphone import melts_app
from tests.support.store_factory import write_store
from tests.telemetry.replay import ina3221

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
SHORT = ["--context", "32", "--gen", "4", "--sessions", "1", "--iterations", "1", "--warmups", "0", "--threads", "1"]
SHORT += ["--set", "idle_s=0.2", "--set", "extra_time={share: 0}"]
# What is shown of devices is no matter of the model's size; README.md's commands take these as they are.
STAND_INS = {"pypi:smollm2-135m": "transformer", "synth:mamba-130m@Q4_0": "ssm", "synth:mamba-130m@Q4_1": "ssm"}
CORE_W = {0: 2.0, 1: 5.0, 2: 8.0}  # a board's power for a busy core, by power mode
pytestmark = pytest.mark.slow


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for path in DOCS:
        found += [(path.name, text) for kind, text in BLOCK.findall(path.read_text()) if kind == language]
    return found


def commands() -> list[tuple[str, str]]:
    lines = [(doc, line.split("#")[0].strip()) for doc, text in blocks("sh") for line in text.splitlines()]
    return [(doc, line) for doc, line in lines if line]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like a checkout after `make demo`, and a cache that outlives one command."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "plans").symlink_to(ROOT / "plans")
    write_store(folder / "results" / "demo")
    return folder


def run(
    workplace: Path, argv: list[str], more: Mapping[str, str] = MappingProxyType({})
) -> "subprocess.CompletedProcess[str]":
    builds = argv[:3] == ["melt", "runner", "build"]  # minutes of compiling, once
    environment = os.environ | {
        "MELT_CACHE": str(KEPT_BUILDS if builds else workplace / "cache"),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        **more,
    }
    return subprocess.run(
        argv, capture_output=True, text=True, cwd=workplace, env=environment, timeout=600, check=False
    )


@pytest.fixture(scope="module")
def attached_phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which an adb server has one phone attached."""
    if os.geteuid() != 0:
        pytest.skip("a phone in a box needs root")
    folder = tmp_path_factory.mktemp("attached")
    with PhoneBox("pixel-8", folder / "phone", variant="unplugged") as phone, own_adb_server(folder / "home") as port:
        subprocess.run(["adb", "-P", str(port), "connect", phone.address], check=True, capture_output=True)
        yield {"ADB_SERVER_SOCKET": f"tcp:127.0.0.1:{port}", "MELT_CACHE": str(KEPT_BUILDS)}


@pytest.fixture(scope="module")
def attached_iphone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which usbmuxd has one iPhone, with melt's app on it."""
    folder = tmp_path_factory.mktemp("iphone")
    with IPhone(folder / "phone") as phone:
        phone.install(melts_app())
        yield {"USBMUXD_SOCKET_ADDRESS": phone.address, "HOME": str(folder / "home")}


@pytest.fixture(scope="module")
def known_board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which the profile that docs/jetson.md shows leads to a host that lets us in."""
    if os.geteuid() != 0:
        pytest.skip("a board in a box needs root")
    folder = tmp_path_factory.mktemp("known")
    [shown] = [text for doc, text in blocks("yaml") if doc == "jetson.md"]
    ssh = folder / "home" / ".ssh"
    ssh.mkdir(parents=True)
    (folder / "profiles").mkdir()
    (folder / "profiles" / "my-board.yaml").write_text(shown.replace(".cache/melt ", f"{folder}/work "))
    with BoardBox(folder / "board", "jetson-orin-nano", [ina3221("1-0040", "hwmon1", 1, 5160)], 4.0, CORE_W) as board:
        board.authorised.write_text(make_key(ssh / "id_ed25519"))
        (ssh / "config").write_text(
            f"Host my-board\n  HostName 127.0.0.1\n  Port {board.port}\n"
            f"  IdentityFile {ssh}/id_ed25519\n  UserKnownHostsFile {ssh}/known_hosts\n"
        )
        yield {"HOME": str(folder / "home"), "MELT_PROFILES": str(folder / "profiles"), "MELT_CACHE": str(KEPT_BUILDS)}


def melt_commands() -> list[object]:
    """Those of melt; what compiles for minutes is tried by the long tests."""
    long = pytest.mark.long(part="conformance")
    return [
        pytest.param(doc, line, marks=[long] if "build on-device" in line else [])
        for doc, line in commands()
        if line.startswith("melt ")
    ]


@pytest.mark.parametrize(("doc", "line"), melt_commands())
def test_a_command_shown_works(
    workplace: Path, doc: str, line: str, request: pytest.FixtureRequest, tiny_models: dict[str, Path]
) -> None:
    devices = {"android.md": "attached_phone", "ios.md": "attached_iphone", "jetson.md": "known_board"}
    attached = request.getfixturevalue(devices[doc]) if doc in devices else {}
    argv = shlex.split(line)
    if attached:
        argv = [str(tiny_models[STAND_INS[word]]) if word in STAND_INS else word for word in argv]
    if argv[1] == "run" and "--dry-run" not in argv:
        results = ["--results", "results/short"]
        argv += [*SHORT, *results]
    done = run(workplace, argv, attached)
    assert done.returncode == 0, done.stderr


def test_every_other_command_shown_is_known() -> None:
    others = {line for _, line in commands() if not line.startswith("melt ")}
    assert others == {"make demo", "make test", "make test-long", "make test-long PART=fuzz", ". .venv/bin/activate"}
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^demo:", makefile, re.M)
    assert re.search(r"^test:", makefile, re.M)
    assert re.search(r"^test-long:", makefile, re.M)
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("make test")


@pytest.mark.parametrize(("doc", "text"), blocks("python"))
def test_python_shown_works(workplace: Path, doc: str, text: str) -> None:
    short = text.replace("context=(128, 512)", "context=(32,), gen=4, sessions=1, iterations=1")
    assert short != text
    done = run(workplace, [sys.executable, "-W", "error", "-c", short])
    assert done.returncode == 0, done.stderr
    assert "ttft_s_lo" in done.stdout


def test_the_profile_shown_is_a_profile(workplace: Path) -> None:
    [text] = [text for doc, text in blocks("yaml") if doc == "devices.md"]
    folder = workplace / "own-profiles"
    folder.mkdir()
    (folder / "lab-server.yaml").write_text(text)
    code = "import melt; p = melt.load_profile('lab-server'); assert p.threads == 4 and p.thermal.start_below_c == 50"
    environment = os.environ | {"MELT_PROFILES": str(folder)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_the_profile_of_an_iphone_shown_is_a_profile(tmp_path: Path) -> None:
    [text] = [text for doc, text in blocks("yaml") if doc == "ios.md"]
    (tmp_path / "lab-iphone-1.yaml").write_text(text)
    assert read_profile(tmp_path / "lab-iphone-1.yaml").address["udid"] == "00008130-001A2B3C4D5E6F70"


def test_the_plan_shown_is_a_plan(tmp_path: Path) -> None:
    [text] = [text for doc, text in blocks("yaml") if doc == "plans.md"]
    (tmp_path / "phones.yaml").write_text(text)
    cells = load_plan(tmp_path / "phones.yaml").cells()
    assert [(c.model[:5], c.prompt_tokens) for c in cells] == [
        *(("pypi:", n) for n in (128, 512)),
        *(("synth", n) for n in (128, 512, 2048, 8192)),
    ]


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


def test_the_plans_table_has_every_key_and_no_other() -> None:
    text = (ROOT / "docs" / "plans.md").read_text()
    keys = {key for cell in re.findall(r"^\| (`[^|]+?) \|", text, re.M) for key in re.findall(r"`(\w+)`", cell)}
    assert keys == set(Plan.model_fields)
