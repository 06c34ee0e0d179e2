"""An Android phone as a device: found, driven, put back as it was, and lost in every way."""

import json
import os
import re
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from melt.drivers import connect
from melt.drivers.adb.conditions import airplane_mode
from melt.drivers.adb.driver import AdbDriver
from melt.drivers.adb.server import AdbServer
from melt.drivers.base import DeviceFile, ToRecord
from melt.drivers.runner import program_file
from melt.errors import DeviceError, TransientDeviceError
from melt.spec.profile import DeviceProfile
from melt.toolchain.build import built
from melt.toolchain.targets import TARGETS
from tests.doubles.phone.box import PhoneBox
from tests.drivers.conftest import Connector, address_of, profile_of
from tests.drivers.test_adb_streams import MIB, a_file
from tests.support.cli import melt_here
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root

CONDITIONS = "/data/local/tmp/melt/conditions.json"


@pytest.fixture
def driver(phone: PhoneBox, connector: Connector) -> AdbDriver:
    opened = connect(profile_of(phone, connector))
    assert isinstance(opened, AdbDriver)
    return opened


def asked(phone: PhoneBox, *words: str) -> list[str]:
    """The command lines of stubs that were called with these first words."""
    return [" ".join(c) for c in phone.commands() if c[: len(words)] == words]


def test_its_facts_and_sensors_are_the_phones(driver: AdbDriver) -> None:
    facts, found = driver.facts(), driver.discover()
    assert (facts.platform, facts.product) == ("android", "Google Pixel 8")
    assert not facts.is_host
    assert {"battery:battery:power", "android:BIG", "process:rss"} <= {s.name for s in found.sources}
    assert any(a.name.startswith("thermal:") and "EACCES" in a.reason for a in found.absent)
    driver.close()


def test_its_clock_is_the_phones_and_not_the_hosts(phone: PhoneBox, driver: AdbDriver) -> None:
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    reading = driver.clock()
    after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    on_host = reading.device_ns - phone.clock_ahead_ns
    assert before - reading.bound_ns <= on_host <= after + reading.bound_ns
    assert reading.bound_ns < 50_000_000
    driver.close()


def test_probes_are_read_now_files_and_services_alike(driver: AdbDriver) -> None:
    found = driver.discover()
    read = driver.read(found.probes)
    assert "BIG" in read["dumpsys thermalservice"]
    assert float(read["battery:battery:voltage"]) > 3e6
    assert "process:rss" not in read
    driver.close()


def test_conditions_are_set_and_put_back(phone: PhoneBox, driver: AdbDriver) -> None:
    def setting(name: str) -> str:
        return driver.shell(f"settings get {name}").next_line(10) or ""

    assert setting("system screen_brightness") == "null"
    refused = driver.condition({"stay_awake": "on", "screen": "dim", "fixed_performance": "on"})
    assert refused == ()
    assert setting("system screen_brightness") == "1"
    assert setting("global stay_on_while_plugged_in") == "15"
    driver.restore()
    assert setting("system screen_brightness") == "null"
    assert setting("global stay_on_while_plugged_in") == "null"
    assert asked(phone, "cmd", "power")[-1].endswith("false")
    assert not (phone.root / CONDITIONS[1:]).exists()
    driver.close()


def test_what_was_found_first_is_put_back_whoever_turns_a_knob_meanwhile(phone: PhoneBox, driver: AdbDriver) -> None:
    driver.condition({"screen": "dim"})
    n_commands = len(asked(phone, "settings", "put"))
    driver.condition({"screen": "dim"})  # the next run: nothing moves
    assert len(asked(phone, "settings", "put")) == n_commands
    driver.shell("settings put system screen_brightness 77").wait(10)
    driver.condition({"screen": "dim"})
    assert driver.shell("settings get system screen_brightness").next_line(10) == "1"
    driver.close()
    assert asked(phone, "settings", "delete", "system", "screen_brightness")
    assert not asked(phone, "settings", "put", "system", "screen_brightness", "77")[1:]


def test_conditions_that_cannot_be_are_refused_with_a_reason(driver: AdbDriver) -> None:
    refused = {a.name: a for a in driver.condition({"governor": "performance", "screen": "bright", "turbo": "on"})}
    assert "denied" in refused["governor"].reason
    assert "dim" in refused["screen"].hint
    assert "not known on Android" in refused["turbo"].reason
    driver.close()


def test_the_next_host_puts_back_what_a_crashed_one_left(phone: PhoneBox, connector: Connector) -> None:
    crashed = connect(profile_of(phone, connector))
    crashed.condition({"screen": "dim"})  # and never heard of again
    assert json.loads((phone.root / CONDITIONS[1:]).read_text())["found"]["system/screen_brightness"] == "null"
    connect(profile_of(phone, connector)).close()  # somebody looks, and changes nothing
    assert not asked(phone, "settings", "delete", "system", "screen_brightness")
    after = connect(profile_of(phone, connector))
    after.condition({})  # a run begins
    assert asked(phone, "settings", "delete", "system", "screen_brightness")
    assert not (phone.root / CONDITIONS[1:]).exists()
    after.close()


def test_what_a_hostile_phone_has_saved_is_no_command(phone: PhoneBox, connector: Connector) -> None:
    connect(profile_of(phone, connector)).condition({})
    evil = {"found": {"system/screen_brightness": "1; reboot", "$(reboot)": "1", "airplane_mode": "`reboot`"}}
    (phone.root / CONDITIONS[1:]).write_text(json.dumps(evil))
    (phone.root / CONDITIONS[1:]).chmod(0o666)
    driver = connect(profile_of(phone, connector))
    driver.condition({})
    driver.close()
    assert not asked(phone, "reboot")
    assert not asked(phone, "settings", "put", "system", "screen_brightness", "1;")


@pytest.mark.parametrize("honours", [True, False])
def test_a_condition_without_effect_is_none(honours: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A phone that keeps the property and goes on charging is not held to be what it was told."""
    monkeypatch.setattr("melt.drivers.remote.conditions._EFFECT_S", 2.0)
    traits = {"charger_w": 7.5, "honours_input_suspend": honours}
    with PhoneBox("pixel-8", tmp_path / "phone", traits=traits) as phone:
        driver = connect(profile_of(phone, "direct"))
        for _ in range(2):  # also where it is set already
            refused = driver.condition({"charging": "suspended"})
            assert [(a.name, a.reason) for a in refused] == (
                [] if honours else [("charging", "the phone says 'true', and does otherwise")]
            )
        driver.close()
        assert "false" in phone_says(phone, "getprop power.battery_input.suspended")


def test_sensors_are_judged_under_the_conditions(tmp_path: Path) -> None:
    """Of a full phone on its cable nobody can tell the gauge's unit; of one that lives on its battery it is plain."""
    phone = PhoneBox("pixel-8", tmp_path / "phone", traits={"idle_w": 0.8, "core_w": 0.0, "charger_w": 0.8})
    maker = {"ro.product.manufacturer": "Acme"}  # Google's are known
    phone.recording = replace(phone.recording, properties=phone.recording.properties | maker)
    with phone:
        driver = connect(profile_of(phone, "direct"))
        [gauge] = [a for a in driver.discover().absent if a.name == "battery:current"]
        assert "in mA or in uA" in gauge.reason
        driver.condition({"charging": "suspended"})
        assert [s for s in driver.discover().sources if s.name == "battery:battery:power"]
        driver.close()


def phone_says(phone: PhoneBox, script: str) -> str:
    opened = connect(profile_of(phone, "direct"))
    assert isinstance(opened, AdbDriver)
    said = opened.shell(script).next_line(10) or ""
    opened.close()
    return said


def test_conditions_that_a_phone_does_not_have_are_told_and_nothing_is_set(phone: PhoneBox, driver: AdbDriver) -> None:
    wanted = {"screen": "dimm", "airplane_mode": "on", "warp": "on"}
    assert [(a.name, a.hint) for a in driver.unknown_conditions(wanted)] == [
        ("screen", "Known: dim."),
        ("warp", "Known: stay_awake, screen, airplane_mode, doze, fixed_performance, charging, governor."),
    ]
    assert not asked(phone, "settings", "put")
    assert not asked(phone, "cmd", "connectivity")


def test_airplane_mode_that_cuts_the_link_is_undone_by_the_phone(
    phone: PhoneBox, driver: AdbDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wi-Fi that does not come back would leave nobody to switch it on."""
    monkeypatch.setitem(driver._conditions._by_name, "airplane_mode", airplane_mode(3))
    phone.set_command("svc wifi enable", "")
    began = time.monotonic()
    [refused] = driver.condition({"airplane_mode": "on"})
    assert refused.name == "airplane_mode"
    assert "still says '0'" in refused.reason
    assert 2 < time.monotonic() - began < 30
    driver.check_alive()
    driver.close()


def test_airplane_mode_over_wifi_keeps_the_link(phone: PhoneBox, driver: AdbDriver) -> None:
    assert driver.condition({"airplane_mode": "on"}) == ()  # though the phone then says that Wi-Fi is off
    time.sleep(1.0)
    assert driver.shell("echo here").next_line(10) == "here"
    driver.close()


def test_a_push_that_is_cut_is_made_again_when_the_phone_is_back(
    phone: PhoneBox, driver: AdbDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("melt.drivers.adb.sync._STEP_S", 2.0)
    file = a_file(tmp_path, 128 * MIB)
    cut = threading.Event()

    def cut_it(done: int, _total: int) -> None:
        if done > file.size_bytes // 4 and not cut.is_set():
            cut.set()
            phone.kill_adbd()

    with pytest.raises(TransientDeviceError):
        driver.push(file, cut_it)
    assert cut.is_set()
    phone.start_adbd()
    place = driver.push(file)
    assert place.pushed
    assert phone.sha256(place.device_path) == file.sha256
    driver.close()


def test_a_phone_that_reboots_is_waited_for(phone: PhoneBox, driver: AdbDriver, tmp_path: Path) -> None:
    driver.condition({"screen": "dim"})
    away = threading.Thread(target=phone.reboot, kwargs={"delay_s": 4.0})
    away.start()
    time.sleep(0.5)
    place = driver.push(a_file(tmp_path, MIB))
    away.join()
    assert place.pushed
    assert asked(phone, "settings", "delete", "system", "screen_brightness")
    driver.close()


def test_a_phone_that_adb_does_not_list_for_a_while_is_waited_for(
    phone: PhoneBox, adb_server: int, tmp_path: Path
) -> None:
    """As a phone on USB that reboots: it is known by its serial, and gone from adb's list."""
    server = AdbServer()
    server.connect(*address_of(phone))
    by_serial = {"name": "phone", "driver": "adb", "address": {"serial": phone.address, "connector": "server"}}
    driver = connect(DeviceProfile.model_validate(by_serial))
    env = {**os.environ, "ADB_SERVER_SOCKET": f"tcp:127.0.0.1:{adb_server}"}
    subprocess.run(["adb", "disconnect", phone.address], env=env, check=True, capture_output=True)
    back = threading.Timer(4.0, lambda: server.connect(*address_of(phone)))
    back.start()
    assert driver.push(a_file(tmp_path, MIB)).pushed
    back.join()
    driver.close()


def test_what_cannot_be_put_back_stays_saved(phone: PhoneBox, driver: AdbDriver) -> None:
    driver.condition({"stay_awake": "on"})
    phone.set_command(
        "settings delete global stay_on_while_plugged_in", "", stderr="cmd: Can't find service: settings", exit_code=20
    )
    with pytest.raises(DeviceError, match=r"could not be put back as it was: .*Can't find service"):
        driver.close()
    saved = json.loads((phone.root / CONDITIONS[1:]).read_text())
    assert saved["found"] == {"global/stay_on_while_plugged_in": "null"}


def test_no_serial_and_no_address_is_in_a_message(phone: PhoneBox, driver: AdbDriver, tmp_path: Path) -> None:
    phone.fill_disk()
    with pytest.raises(DeviceError) as e:
        driver.push(a_file(tmp_path, 8 * MIB))
    assert e.value.message.startswith("phone: ")
    assert phone.address not in e.value.message
    driver.close()


def test_a_phone_that_stays_away_is_an_error_that_may_pass(
    phone: PhoneBox, driver: AdbDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("melt.drivers.remote.driver.RETURN_S", 3.0)
    phone.kill_adbd()
    with pytest.raises(TransientDeviceError):
        driver.push(a_file(tmp_path, MIB))
    driver.close()


def test_a_runner_ends_when_its_host_goes_without_a_word(
    phone: PhoneBox, connector: Connector, kept_builds: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link is cut and says nothing: the sampler on the phone ends by itself."""
    monkeypatch.setattr("melt.drivers.remote.driver._WATCH_S", 3)
    opened = connect(profile_of(phone, connector))
    runner = opened.push(program_file(built(TARGETS["linux-x86_64-musl"]))).device_path
    opened.record(ToRecord("a-run", opened.discover().probes, sampler=[runner, "sample"]))

    def samples() -> bool:
        return any("sample" in p.argv for p in phone.processes())

    assert samples()
    phone.cut()
    wait_until(lambda: not samples())
    phone.mend()


def test_a_phone_that_somebody_else_measures_is_left_alone(
    phone: PhoneBox, connector: Connector, kept_builds: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("melt.drivers.remote.driver._WATCH_S", 2)
    monkeypatch.setattr("melt.drivers.remote.driver.SAMPLER_END_S", 0.5)
    other = connect(profile_of(phone, connector))
    assert isinstance(other, AdbDriver)
    runner = other.push(program_file(built(TARGETS["linux-x86_64-musl"]))).device_path
    spec = phone.root / "data/local/tmp/melt/jobs/spec.json"
    spec.write_text(json.dumps({"out": "/data/local/tmp/melt/out", "period_ms": 100, "probes": []}))
    spec.chmod(0o644)
    process = other.shell(f"exec {runner} sample /data/local/tmp/melt/jobs/spec.json")
    late = connect(profile_of(phone, connector))
    with pytest.raises(DeviceError, match=r"a runner of melt's works on the phone: process [0-9]+"):
        late.condition({})
    process.kill()
    late.condition({})
    late.close()
    other.close()


def test_two_phones_at_once_keep_their_files_apart(tmp_path: Path) -> None:
    file: DeviceFile = a_file(tmp_path, 4 * MIB)
    with (
        PhoneBox("pixel-8", tmp_path / "one") as one,
        PhoneBox("galaxy-s23", tmp_path / "two") as two,
    ):
        drivers = [connect(profile_of(p, "direct")) for p in (one, two)]
        threads = [threading.Thread(target=d.push, args=(file,)) for d in drivers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [d.facts().product for d in drivers] == ["Google Pixel 8", "samsung SM-S9110"]
        assert all(not d.push(file).pushed for d in drivers)
        for d in drivers:
            d.close()


def test_a_work_folder_that_cannot_be_is_named(phone: PhoneBox, connector: Connector, tmp_path: Path) -> None:
    driver = connect(profile_of(phone, connector, work_folder="/system/melt"))
    with pytest.raises(DeviceError, match=r"phone: /system/melt: .*(denied|Read-only)"):
        driver.push(a_file(tmp_path, 10))
    driver.close()


def test_the_list_of_devices_names_every_phone_that_is_there(phone: PhoneBox, adb_server: int) -> None:
    AdbServer().connect(*address_of(phone))
    done = melt_here("devices")
    assert done.returncode == 0
    assert f"attached: Android phone {phone.address} Pixel 8" in done.stdout
    assert re.search(r"^\s*pixel8 +adb +ready", done.stdout, re.M)
    assert re.search(r"^\s*galaxy-s23 +adb +not available .*no phone of model", done.stdout, re.M)


def test_the_doctor_says_that_a_charging_phone_gives_no_joules(phone: PhoneBox, tmp_path: Path) -> None:
    path = tmp_path / "phone.yaml"
    host, port = address_of(phone)
    path.write_text(f"name: phone\ndriver: adb\naddress: {{host: {host}, port: {port}, connector: direct}}\n")
    phone.plug_in(10.0)
    time.sleep(0.2)
    said = melt_here("doctor", "--device", str(path)).stdout
    assert "the battery is being charged: no joules" in said
    assert "over Wi-Fi" in said
    assert "background load" not in said  # this machine's is no concern of the phone's
    phone.plug_in(0.0)
    time.sleep(0.2)
    assert "no joules" not in melt_here("doctor", "--device", str(path)).stdout


def test_a_profile_of_another_model_is_refused(phone: PhoneBox, connector: Connector) -> None:
    host, port = address_of(phone)
    other = {"host": host, "port": port, "connector": connector, "model": "Pixel 7*"}
    with pytest.raises(DeviceError, match=r"Pixel 7"):
        connect(DeviceProfile.model_validate({"name": "phone", "driver": "adb", "address": other}))
    right = {**other, "model": "Pixel 8"}
    connect(DeviceProfile.model_validate({"name": "phone", "driver": "adb", "address": right})).close()
