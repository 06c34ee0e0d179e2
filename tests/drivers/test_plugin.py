"""Plug-ins that are simple, lack a package or are broken: each is told as what it is, and stops nothing else."""

from contextlib import closing
from pathlib import Path

import pytest

from melt.doctor.device import check_device
from melt.doctor.host import check_host
from melt.drivers import ask_drivers, connect, driver_names, enrol_device
from melt.drivers.base import ShellDriver
from melt.errors import DeviceError
from melt.spec.profile import DeviceProfile
from tests.support.packages import melt_with

PLUGINS = {
    "simple": (
        "from melt.drivers.local.plugin import LocalPlugin\n"
        "def connect(profile):\n    return LocalPlugin().connect(profile)\n"
        "def junk(profile):\n    return 'a device'\n"
        "def ends(profile):\n    raise SystemExit(0)\n"
    ),
    "needy": (
        "from melt.drivers.plugin import DriverPlugin\n"
        "class Needy(DriverPlugin):\n"
        "    install = 'pip install no-such-package'\n"
        "    def connect(self, profile):\n        import no_such_package\n"
        "    def checks(self):\n        import no_such_package\n"
    ),
    "picky": (
        "from pydantic import field_validator\n"
        "from melt.drivers.plugin import Address, DriverPlugin\n"
        "from melt.drivers.local.plugin import LocalPlugin\n"
        "class Picky(DriverPlugin):\n"
        "    class Address(Address):\n"
        "        port: str = ''\n"
        "        @field_validator('port')\n"
        "        @classmethod\n"
        "        def known(cls, value):\n            return {}[value]\n"
        "    def connect(self, profile):\n        return None\n"
        "class OddDevice:\n"
        "    def __init__(self, device):\n        self.device = device\n"
        "    def __getattr__(self, name):\n        return getattr(self.device, name)\n"
        "    def facts(self):\n        return {'platform': 5}\n"
        "    def free_bytes(self):\n        raise SystemExit('full')\n"
        "    def launch(self, argv, job, env=None):\n        return None\n"
        "    def shell(self, script):\n        return self.device.shell(script)\n"
        "    def pull(self, path, destination):\n        raise PermissionError(13, 'not here')\n"
        "class Odd(LocalPlugin):\n"
        "    def connect(self, profile):\n        return OddDevice(super().connect(profile))\n"
        "    def attached(self):\n        return ['a cable']\n"
    ),
    "broken": "raise ValueError('it is of another melt')\n",
    "failing": (
        "from melt.drivers.plugin import DriverPlugin\n"
        "class Failing(DriverPlugin):\n"
        "    def connect(self, profile):\n        return None\n"
        "    def checks(self):\n        return 1 / 0\n"
    ),
    "raising": (
        "from melt.drivers.plugin import DriverPlugin\n"
        "class Raising(DriverPlugin):\n"
        "    def connect(self, profile):\n        raise KeyError('no cable')\n"
        "    def checks(self):\n        return None\n"
    ),
    "unmade": (
        "from melt.drivers.plugin import DriverPlugin\n"
        "class Unmade(DriverPlugin):\n"
        "    def __init__(self):\n        raise OSError('no bus')\n"
        "    def connect(self, profile):\n        return None\n"
    ),
    "keyless": (
        "from melt.drivers.plugin import DriverPlugin\n"
        "class Keyless(DriverPlugin):\n"
        "    Address = dict\n"
        "    def connect(self, profile):\n        return None\n"
        "number = 42\n"
    ),
}
ENTRIES = {
    "simple": "simple_driver:connect",
    "junk": "simple_driver:junk",
    "ends": "simple_driver:ends",
    "picky": "picky_driver:Picky",
    "odd": "picky_driver:Odd",
    "needy": "needy_driver:Needy",
    "broken": "broken_driver:Gone",
    "failing": "failing_driver:Failing",
    "raising": "raising_driver:Raising",
    "unmade": "unmade_driver:Unmade",
    "keyless": "keyless_driver:Keyless",
    "number": "keyless_driver:number",
}
FAULTY = ENTRIES.keys() - {"simple", "junk", "ends", "picky", "odd"}  # whose checks are


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with these plug-ins, as pip would have left it."""
    about = tmp_path / "site" / "some_drivers-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: some-drivers\nVersion: 1.0\n")
    lines = "".join(f"{name} = {target}\n" for name, target in ENTRIES.items())
    (about / "entry_points.txt").write_text(f"[melt.drivers]\n{lines}")
    for name, source in PLUGINS.items():
        (tmp_path / "site" / f"{name}_driver.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path / "site")


def test_a_function_is_driver_enough() -> None:
    with closing(connect(DeviceProfile(name="desk", driver="simple", address={"anywhere": "home"}))) as device:
        assert device.facts().platform == "linux"


def test_a_package_that_is_missing_is_told_with_how_to_get_it() -> None:
    with pytest.raises(DeviceError) as e:
        connect(DeviceProfile(name="desk", driver="needy"))
    assert (
        e.value.message
        == "desk: driver 'needy' (some-drivers 1.0) needs a package that is not installed: no_such_package"
    )
    assert e.value.hint == "pip install no-such-package"


def test_a_plug_in_that_cannot_be_loaded_is_told_and_the_others_are_there() -> None:
    with pytest.raises(
        DeviceError, match=r"desk: driver 'broken' \(.*\) cannot be loaded: ValueError: it is of another melt"
    ):
        connect(DeviceProfile(name="desk", driver="broken"))
    answers = ask_drivers(lambda driver: driver.is_host)
    assert answers["local"] is True
    assert isinstance(answers["broken"], DeviceError)
    assert set(answers) == set(driver_names()) >= {"adb", "ios", "local", "ssh", *ENTRIES}


@pytest.mark.parametrize(
    ("driver", "said"),
    [
        ("raising", r"desk: driver 'raising' \(some-drivers 1.0\) fails in connect: KeyError: 'no cable'"),
        ("junk", r"desk: driver 'junk' .* a str is no melt.drivers.base.Driver: it has no facts"),
        ("ends", r"desk: driver 'ends' \(some-drivers 1.0\) fails in connect: SystemExit: 0"),
        ("unmade", r"desk: driver 'unmade' \(some-drivers 1.0\) cannot be loaded: \w+Error: no bus"),
        (
            "keyless",
            r"desk: driver 'keyless' \(some-drivers 1.0\) cannot be loaded: TypeError: its Address is no melt.drivers",
        ),
        ("number", r"desk: driver 'number' \(some-drivers 1.0\) cannot be loaded: \w+Error: 42 is neither"),
    ],
)
def test_whatever_a_driver_raises_is_told_as_an_error_of_the_device(driver: str, said: str) -> None:
    with pytest.raises(DeviceError, match=said):
        connect(DeviceProfile(name="desk", driver=driver))


def test_what_a_device_raises_or_gives_wrong_is_told_too(tmp_path: Path) -> None:
    with closing(connect(DeviceProfile(name="desk", driver="odd"))) as device:
        assert isinstance(device, ShellDriver)
        for call, said in (
            (device.facts, "fails in facts: TypeError: it is a dict"),
            (device.free_bytes, "fails in free_bytes: SystemExit: full"),
            (lambda: device.launch((), {}), "fails in launch: TypeError: a NoneType is no melt.drivers.base.Process"),
        ):
            with pytest.raises(DeviceError, match=rf"desk: driver 'odd' \(some-drivers 1.0\) {said}"):
                call()
        with pytest.raises(PermissionError):  # as its role says
            device.pull("/x", tmp_path / "x")
        process = device.shell("sleep 1; echo hello")
        with pytest.raises(TimeoutError):
            process.next_line(0.05)
        assert process.next_line(20.0) == "hello"
        process.kill()


def test_a_device_that_fails_is_no_traceback(tmp_path: Path) -> None:
    for device, code, said in (
        ("picky", 3, "driver 'picky' (some-drivers 1.0) fails in Address: KeyError: 'a'"),
        ("ends", 0, "driver 'ends' (some-drivers 1.0) fails in connect: SystemExit: 0"),
    ):
        profile = tmp_path / f"{device}.yaml"
        profile.write_text(f"name: {device}\ndriver: {device}\naddress: {{port: a}}\n")
        done = melt_with(tmp_path / "site", "devices", "show", str(profile))
        assert said in " ".join((done.stdout + done.stderr).split())
        assert (done.returncode, "Traceback" in done.stderr) == (code, False)


def test_the_doctor_tells_of_a_device_that_fails(tmp_path: Path) -> None:
    (tmp_path / "desk.yaml").write_text("name: desk\ndriver: odd\n")
    [check] = check_device(str(tmp_path / "desk.yaml"))
    assert check.state == "problem"
    assert "fails in facts: TypeError" in check.found


def test_the_doctor_names_those_that_cannot_be_used() -> None:
    checks = {check.name: check for check in check_host()}
    assert checks["driver needy"].fix == "pip install no-such-package. Only devices with driver: needy need it."
    assert "cannot be loaded" in checks["driver broken"].found
    assert "driver 'failing' (some-drivers 1.0) fails in checks: ZeroDivisionError" in checks["driver failing"].found
    assert (
        "driver 'raising' (some-drivers 1.0) fails in checks: TypeError: it is a NoneType"
        in checks["driver raising"].found
    )
    assert {checks[f"driver {name}"].state for name in FAULTY} == {"warning"}


def test_a_device_without_keys_has_nothing_to_enrol() -> None:
    with pytest.raises(DeviceError, match="desk: devices with driver: local have no keys to enrol"):
        enrol_device(DeviceProfile(name="desk", driver="local"), lambda _line: None)
