"""The iOS driver's parts: which iPhone, which app, files in its container, and what iOS writes of a death."""

import asyncio
import gc
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import melt.drivers.ios
from melt.drivers import connect
from melt.drivers.base import DeviceFile
from melt.drivers.ios.app import find_app, parse_version
from melt.drivers.ios.driver import IosDriver
from melt.drivers.ios.jetsam import find_jetsam
from melt.drivers.ios.phones import choose
from melt.drivers.ios.pymd3.instruments import Ended, Said
from melt.drivers.ios.pymd3.loop import Loop
from melt.drivers.ios.pymd3.phone import Listed
from melt.drivers.remote.base import ConnectionLostError
from melt.errors import DeviceError
from melt.spec.profile import DeviceProfile, Sensors
from melt.telemetry import ios
from melt.telemetry.registry import parse
from tests.doubles.iphone.app import App
from tests.doubles.iphone.phone import IPhone
from tests.drivers.iphone import APP_ID, container_of, iphone, melts_app

__all__ = ["iphone"]
MIB = 2**20


@pytest.fixture
def driver(iphone: IPhone) -> Iterator[IosDriver]:
    with closing(IosDriver(profile_of(iphone))) as opened:
        yield opened


def profile_of(phone: IPhone | None = None) -> DeviceProfile:
    return DeviceProfile(name="my-iphone", driver="ios", address={"udid": phone.udid if phone else None})


def a_file(path: Path, content: bytes) -> DeviceFile:
    path.write_bytes(content)
    return DeviceFile(path.name, path, hashlib.sha256(content).hexdigest(), len(content))


def test_the_only_iphone_or_the_named_one_is_meant() -> None:
    one, other = Listed("00008110-000A1B2C3D4E801E", True), Listed("abcd", False)
    assert choose([one], None, "x") == one.udid
    assert choose([one, other], "00008110000a1b2c3d4e801e", "x") == one.udid  # usbmuxd may drop the dash
    with pytest.raises(DeviceError, match="several iPhones"):
        choose([one, other], None, "x")
    with pytest.raises(DeviceError, match="no iPhone is attached"):
        choose([], None, "x")
    with pytest.raises(ConnectionLostError, match="no iPhone abc is attached") as raised:
        choose([one], "abc", "x")
    assert one.udid in raised.value.hint  # it may be mistyped in the profile


def test_what_fails_behind_the_scenes_prints_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """As a library's own tasks do when an iPhone is pulled out."""

    async def fail() -> None:
        raise ConnectionResetError

    async def begin() -> None:
        nobodys = asyncio.create_task(fail())
        await asyncio.sleep(0.05)
        del nobodys
        gc.collect()

    loop = Loop()
    loop.call(begin(), 5)
    loop.close()
    assert not caplog.records


def test_the_app_is_known_by_its_ends_and_its_version() -> None:
    app = {"CFBundleIdentifier": "com.someone.melt-runner", "CFBundleShortVersionString": "0.2.7"}
    assert find_app([{"CFBundleIdentifier": "com.other"}, app], "x").bundle_id == "com.someone.melt-runner"
    with pytest.raises(DeviceError, match="more than once"):
        find_app([app, {**app, "CFBundleIdentifier": "org.melt-runner"}], "x")
    for version in ("0.1.9", "0.0.9", "", "a", "-1.2"):
        with pytest.raises(DeviceError, match="or later is needed"):
            find_app([{**app, "CFBundleShortVersionString": version}], "x")


@given(st.integers(0, 10**6 - 1), st.integers(0, 10**6 - 1), st.sampled_from(["", ".3", ".0.beta"]))
def test_versions_are_numbers(major: int, minor: int, rest: str) -> None:
    assert parse_version(f"{major}.{minor}{rest}") == (major, minor)


@given(st.text(max_size=30))
def test_what_is_no_version_is_the_oldest(text: str) -> None:
    assert len(parse_version(text)) == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["processes", "pid", "reason", "rpages", "memoryStatus", "pageSize"]), inner)
    ),
    max_leaves=8,
)


@given(st.binary(max_size=60) | JSON.map(lambda j: b"{}\n" + json.dumps(j).encode()))
def test_no_report_breaks_the_reading_of_it(report: bytes) -> None:
    assert isinstance(find_jetsam([report], 7), str)


def test_only_a_report_on_this_process_counts(iphone: IPhone) -> None:
    iphone.crash_reports.jetsam("melt-runner", 4711, 2**30)
    reports = [p.read_bytes() for p in iphone.crash_reports.folder.iterdir()]
    assert find_jetsam(reports, 4711) == "jetsam: per-process-limit, at 1024 MiB"
    assert find_jetsam(reports, 61) == ""  # SpringBoard is in it, and lives


def test_a_report_from_before_the_launch_is_of_another_process(
    iphone: IPhone, driver: IosDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("melt.drivers.ios.driver._REPORT_S", 0.0)
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    iphone.install(replace(melts_app(), program=sleeper))
    iphone.crash_reports.jetsam("melt-runner", 4711, 2**30)
    driver.launch([APP_ID], {"job_id": "a-run"})
    assert driver.death_notes(4711) == ""
    iphone.crash_reports.jetsam("melt-runner", 4712, 2**30)
    assert driver.death_notes(4712) == "jetsam: per-process-limit, at 1024 MiB"


def test_a_file_travels_once(iphone: IPhone, driver: IosDriver, tmp_path: Path) -> None:
    file = a_file(tmp_path / "model;rm -rf.gguf", os.urandom(9 * MIB + 5))
    seen: list[tuple[int, int]] = []
    placed = driver.push(file, lambda done, total: seen.append((done, total)))
    assert placed.pushed
    assert (container_of(iphone) / placed.device_path).read_bytes() == file.path.read_bytes()
    assert seen == sorted(seen)
    assert seen[-1] == (file.size_bytes, file.size_bytes)
    again = driver.push(file)
    assert again == type(again)(placed.device_path, pushed=False)


def swap_answers() -> bool:
    return True


def hang_up() -> bool:
    raise EOFError


@pytest.mark.parametrize("act", [swap_answers, hang_up])
def test_a_phone_that_takes_no_write_in_advance_gets_one_by_one(
    act: Callable[[], bool], iphone: IPhone, driver: IosDriver, tmp_path: Path
) -> None:
    hasty = 0

    def on_haste() -> bool:
        nonlocal hasty
        hasty += 1
        return act()

    iphone.on_haste = on_haste
    files = [a_file(tmp_path / f"{i}.gguf", os.urandom(9 * MIB + 5)) for i in range(2)]
    if act is hang_up:
        with pytest.raises(ConnectionLostError):
            driver.push(files[0])
    placed = driver.push(files[0])
    assert (container_of(iphone) / placed.device_path).read_bytes() == files[0].path.read_bytes()
    in_all = hasty
    assert in_all
    placed = driver.push(files[1])
    assert (container_of(iphone) / placed.device_path).read_bytes() == files[1].path.read_bytes()
    assert hasty == in_all


def test_a_service_without_tls_takes_files_too(iphone: IPhone, tmp_path: Path) -> None:
    iphone.service_tls = False
    file = a_file(tmp_path / "model.gguf", os.urandom(9 * MIB + 5))
    with closing(IosDriver(profile_of(iphone))) as driver:
        placed = driver.push(file)
        assert (container_of(iphone) / placed.device_path).read_bytes() == file.path.read_bytes()


@pytest.mark.parametrize("damage", [False, True])
def test_a_push_goes_on_where_it_was_cut(damage: bool, iphone: IPhone, driver: IosDriver, tmp_path: Path) -> None:
    file = a_file(tmp_path / "model.gguf", os.urandom(10 * MIB))
    incoming = container_of(iphone) / "Documents/melt/incoming" / file.sha256
    incoming.parent.mkdir(parents=True)
    cut = file.path.read_bytes()[: 7 * MIB + 300]  # what comes after the last whole block is not believed
    incoming.write_bytes((bytes(7 * MIB) if damage else cut[: 7 * MIB]) + b"x" * 300)
    first: list[int] = []
    placed = driver.push(file, lambda done, _total: first.append(done))
    assert (container_of(iphone) / placed.device_path).read_bytes() == file.path.read_bytes()
    assert first[0] <= MIB if damage else first[0] > 7 * MIB


def test_the_parts_of_a_whole_lie_in_one_folder_and_leave_it_together(
    iphone: IPhone, driver: IosDriver, tmp_path: Path
) -> None:
    parts = [replace(a_file(tmp_path / f"{i}.gguf", os.urandom(MIB)), whole_sha256="a" * 64) for i in range(3)]
    placed = [driver.push(part) for part in parts]
    assert [p.device_path for p in placed] == [f"Documents/melt/files/{'a' * 64}/{i}.gguf" for i in range(3)]
    assert not any(driver.push(part).pushed for part in parts)
    assert driver.clean(2 * MIB) == 3 * MIB


def test_what_was_used_longest_ago_is_removed_first(iphone: IPhone, driver: IosDriver, tmp_path: Path) -> None:
    files = [a_file(tmp_path / f"{i}.gguf", os.urandom(MIB)) for i in range(3)]
    for file in files:
        driver.push(file)
        time.sleep(0.02)
    driver.push(files[0])
    (container_of(iphone) / "Documents/melt/incoming/half").write_bytes(b"x")
    assert driver.clean(2 * MIB) == MIB
    left = {p.name for p in (container_of(iphone) / "Documents/melt/files").glob("*/*.gguf")}
    assert left == {"0.gguf", "2.gguf"}
    assert driver.clean() == 2 * MIB
    assert not (container_of(iphone) / "Documents/melt/incoming").exists()


def test_other_files_of_the_container_are_left_alone(iphone: IPhone, driver: IosDriver, tmp_path: Path) -> None:
    kept = container_of(iphone) / "Documents/notes.txt"
    kept.write_text("mine")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("of the host")
    (container_of(iphone) / "Documents/melt/files").mkdir(parents=True)
    (container_of(iphone) / "Documents/melt/files/link").symlink_to(outside)
    driver.clean()
    assert kept.read_text() == "mine"
    assert (outside / "precious").exists()


def test_a_phone_without_room_is_not_begun_with(iphone: IPhone, driver: IosDriver, tmp_path: Path) -> None:
    iphone.disk.free_bytes = 3 * MIB
    with pytest.raises(DeviceError, match="needs 4 MiB of room on the iPhone, which has 3 MiB"):
        driver.push(a_file(tmp_path / "model.gguf", bytes(2 * MIB)))


def test_a_disk_that_fills_up_on_the_way_says_so(iphone: IPhone, driver: IosDriver, tmp_path: Path) -> None:
    iphone.disk.after(8 * MIB, lambda: setattr(iphone.disk, "free_bytes", 0))
    with pytest.raises(DeviceError, match="the iPhone's disk is full") as raised:
        driver.push(a_file(tmp_path / "model.gguf", bytes(16 * MIB)))
    assert "melt devices clean" in raised.value.hint
    assert not list((container_of(iphone) / "Documents/melt/incoming").iterdir())


def test_conditions_are_refused_with_the_reason(driver: IosDriver) -> None:
    (refused,) = driver.condition({"screen": "off"})
    assert refused.name == "screen"
    assert "cannot set" in refused.reason


def test_a_clock_reading_holds_the_hosts_time(driver: IosDriver) -> None:
    before = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    read = driver.clock()
    after = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert before[0] <= read.host_realtime_ns <= after[0]
    assert before[1] - 100 <= read.device_ns <= after[1]
    assert abs((read.host_realtime_ns - before[0]) - (read.device_ns - before[1])) <= read.bound_ns + 1_000_000


def test_pairing_is_kept_by_the_host(iphone: IPhone, driver: IosDriver) -> None:
    iphone.dialog = "refused"
    with closing(IosDriver(profile_of(iphone))) as again:
        assert again.free_bytes() == iphone.disk.free_bytes


@pytest.mark.parametrize(("model", "is_meant"), [("iPhone10,*", True), ("iPhone16,1", False)])
def test_a_profile_of_a_model_is_of_that_model_alone(model: str, is_meant: bool, iphone: IPhone) -> None:
    profile = DeviceProfile(name="x", driver="ios", address={"model": model})
    refused = pytest.raises(DeviceError, match=r"the iPhone that is attached is iPhone10,[14], and not iPhone16,1")
    with nullcontext() if is_meant else refused, closing(IosDriver(profile)) as driver:
        assert driver.free_bytes() > 0


def test_words_of_the_app_do_not_pile_up(driver: IosDriver) -> None:
    tools = driver._tools()
    for _ in range(100):
        tools._tell(Said(1))
    tools._tell(Ended(1, 0, 0))
    tools._tell(Said(2))
    assert [tools.next_event(0), tools.next_event(0), tools.next_event(0)] == [Said(1), Ended(1, 0, 0), None]


def test_an_app_that_is_not_melts_is_not_started(iphone: IPhone, tmp_path: Path) -> None:
    iphone.apps.remove(APP_ID)
    iphone.install(App("org.example.other", "9.9"))
    with closing(IosDriver(profile_of(iphone))) as driver, pytest.raises(DeviceError, match="not on the iPhone"):
        driver.facts()


def test_a_garbled_events_file_ends_as_a_failed_run_and_no_more(
    iphone: IPhone, driver: IosDriver, tmp_path: Path
) -> None:
    program = tmp_path / "garbage"
    program.write_text("#!/bin/sh\nhead -c 3000000 /dev/urandom | tr '\\n' x\necho\necho last\n")
    program.chmod(0o755)
    iphone.install(App(APP_ID, "0.2.0", program))
    process = driver.launch([APP_ID, "run"], {"job_id": "a-run"}, {})
    lines = []
    while (line := process.next_line(20)) is not None:
        lines.append(line)
    assert len(lines) == 2
    assert lines[-1] == "last"
    assert process.wait(5).ok
    process.kill()


def test_the_library_is_behind_one_package() -> None:
    root = Path(sys.modules["melt"].__file__ or "").parent
    users = {p for p in root.rglob("*.py") if re.search(r"^\s*(import|from) pymobiledevice3", p.read_text(), re.M)}
    assert users
    assert {p.parent for p in users} == {root / "drivers/ios/pymd3"}


def test_without_the_extra_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(melt.drivers, "ios", melt.drivers.ios)  # the package that others have imported is put back
    for name in [m for m in sys.modules if m.startswith(("melt.drivers.ios", "pymobiledevice3"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pymobiledevice3", None)
    with pytest.raises(DeviceError, match="pymobiledevice3") as raised:
        connect(profile_of())
    assert "melt-bench[ios]" in raised.value.hint


BATTERY = {"Voltage": 3900, "InstantAmperage": -812, "Temperature": 2950, "ExternalConnected": False}


def test_a_battery_is_a_power_in_watts() -> None:
    found = ios.discover(BATTERY, 6, 20.0, Sensors())
    power = next(s for s in found.sources if s.quantity == "power_w")
    assert power.counts_in_total
    assert power.native_period_s == 20.0
    assert (power.sign, power.times) == ("load_negative", "battery:voltage")
    text = ios.battery_text({**BATTERY, "Serial": "secret"})
    assert "secret" not in text
    values = {s.key: (parse(s, text) or 0) * s.scale for s in found.sources if s.site == "battery"}
    assert values == pytest.approx(
        {"Voltage": 3.9, "InstantAmperage": -0.812, "Temperature": 29.5, "ExternalConnected": 0.0}
    )


def test_what_a_battery_does_not_tell_is_absent() -> None:
    found = ios.discover({"Voltage": 3900}, None, None, Sensors())
    assert not [s for s in found.sources if s.site == "battery"]
    reasons = {a.name: a.reason for a in found.absent}
    assert "InstantAmperage" in reasons["battery:power"]
    assert "cpu:load" in reasons


@given(st.lists(st.text(max_size=40) | JSON.map(json.dumps)), st.integers(-5, 2**63), st.integers(-5, 2**63))
def test_only_stamped_samples_of_the_app_are_taken(others: list[str], t_ns: int, t_end_ns: int) -> None:
    line = json.dumps({"t_ns": t_ns, "t_end_ns": t_end_ns, "probe": "memory", "raw": '{"available_bytes": 5}'})
    taken = ios.own_samples("\n".join([*others, line]))
    assert len(taken) == (0 <= t_ns <= t_end_ns <= 2**62)


@given(st.text(max_size=40) | JSON.map(json.dumps), st.text(max_size=5))
def test_no_text_breaks_the_parser(raw: str, key: str) -> None:
    source = ios.discover(BATTERY, 6, None, Sensors()).sources[0].model_copy(update={"key": key})
    found = parse(source, raw)
    assert found is None or isinstance(found, float)
