"""Plug-ins that are simple, lack a package or are broken: each is told as what it is, and stops nothing else."""

from pathlib import Path

import pytest

from melt.doctor.host import check_host
from melt.drivers import ask_drivers, connect, driver_names, enrol_device
from melt.errors import DeviceError
from melt.spec.profile import DeviceProfile

PLUGINS = {
    "simple": "def connect(profile):\n    return f'{profile.name} at {profile.address[\"anywhere\"]}'\n",
    "needy": (
        "from melt.drivers.plugin import DriverPlugin\n"
        "class Needy(DriverPlugin):\n"
        "    install = 'pip install no-such-package'\n"
        "    def connect(self, profile):\n        import no_such_package\n"
        "    def checks(self):\n        import no_such_package\n"
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
    "needy": "needy_driver:Needy",
    "broken": "broken_driver:Gone",
    "failing": "failing_driver:Failing",
    "raising": "raising_driver:Raising",
    "unmade": "unmade_driver:Unmade",
    "keyless": "keyless_driver:Keyless",
    "number": "keyless_driver:number",
}


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
    device: object = connect(DeviceProfile(name="desk", driver="simple", address={"anywhere": "home"}))
    assert device == "desk at home"


def test_a_package_that_is_missing_is_told_with_how_to_get_it() -> None:
    with pytest.raises(DeviceError) as e:
        connect(DeviceProfile(name="desk", driver="needy"))
    assert e.value.message == "desk: driver 'needy' needs a package that is not installed: no_such_package"
    assert e.value.hint == "pip install no-such-package"


def test_a_plug_in_that_cannot_be_loaded_is_told_and_the_others_are_there() -> None:
    with pytest.raises(DeviceError, match="desk: driver 'broken' cannot be loaded: it is of another melt"):
        connect(DeviceProfile(name="desk", driver="broken"))
    answers = ask_drivers(lambda driver: driver.is_host)
    assert answers["local"] is True
    assert isinstance(answers["broken"], DeviceError)
    assert set(answers) == set(driver_names()) >= {"adb", "ios", "local", "ssh", *ENTRIES}


@pytest.mark.parametrize(
    ("driver", "said"),
    [
        ("raising", r"desk: driver 'raising' fails: KeyError\('no cable'\)"),
        ("unmade", "desk: driver 'unmade' cannot be loaded: no bus"),
        ("keyless", "desk: driver 'keyless' cannot be loaded: its Address is no melt.drivers.plugin.Address"),
        ("number", "desk: driver 'number' cannot be loaded: 42 is neither"),
    ],
)
def test_whatever_a_driver_raises_is_told_as_an_error_of_the_device(driver: str, said: str) -> None:
    with pytest.raises(DeviceError, match=said):
        connect(DeviceProfile(name="desk", driver=driver))


def test_the_doctor_names_those_that_cannot_be_used() -> None:
    checks = {check.name: check for check in check_host()}
    assert checks["driver needy"].fix == "pip install no-such-package. Only devices with driver: needy need it."
    assert "cannot be loaded" in checks["driver broken"].found
    assert "driver 'failing' fails: ZeroDivisionError" in checks["driver failing"].found
    assert "driver 'raising' fails: TypeError" in checks["driver raising"].found
    assert {checks[f"driver {name}"].state for name in ENTRIES.keys() - {"simple"}} == {"warning"}


def test_a_device_without_keys_has_nothing_to_enrol() -> None:
    with pytest.raises(DeviceError, match="desk: devices with driver: local have no keys to enrol"):
        enrol_device(DeviceProfile(name="desk", driver="local"), lambda _line: None)
