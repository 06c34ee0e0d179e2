"""An iPhone that answers what no iPhone should: the error is melt's, and the file and the host are unharmed."""

import os
import stat
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from melt.drivers.ios.driver import IosDriver
from melt.drivers.ios.jetsam import find_jetsam
from melt.drivers.remote.base import ConnectionLostError
from melt.errors import DeviceError
from melt.execution.plan import run
from melt.util.files import cache_folder
from tests.doubles.iphone import afc, instruments
from tests.doubles.iphone.phone import IPhone
from tests.doubles.iphone.wire import Stream
from tests.drivers.iphone import iphone, iphone_profile
from tests.drivers.test_ios_driver import a_file, driver, profile_of
from tests.support.plans import a_plan

__all__ = ["driver", "iphone"]
MIB = 2**20


def told_of_a_file(size: bytes) -> bytes:
    pairs = {b"st_size": size, b"st_blocks": b"1", b"st_nlink": b"1", b"st_ifmt": b"S_IFREG"}
    return b"".join(k + b"\0" + v + b"\0" for k, v in (pairs | {b"st_mtime": b"1", b"st_birthtime": b"1"}).items())


def afc_says(monkeypatch: pytest.MonkeyPatch, opcode: int, body: bytes) -> None:
    monkeypatch.setitem(afc._HANDLERS, opcode, lambda _afc, _fields: (2, body))


@pytest.mark.parametrize("told", [["t8015"], 5])
def test_a_chip_that_is_no_word_is_not_known(told: object, iphone: IPhone, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = iphone._identity
    monkeypatch.setattr(iphone, "_identity", lambda: {**identity(), "HardwarePlatform": told})
    with closing(IosDriver(profile_of(iphone))) as driver:
        assert driver.facts().soc is None


@pytest.mark.parametrize("told", [[1, 2], "full"])
def test_a_battery_that_is_no_mapping_tells_nothing(
    told: object, iphone: IPhone, driver: IosDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iphone.battery, "power_source", lambda: told)
    absent = {a.name: a.reason for a in driver.discover().absent}
    assert absent["battery:power"].startswith("its battery does not tell")


@pytest.mark.parametrize("told", [[1, 0, 1, 2], [-5, -5, 3, -5], [2**62, 2**62, 1, 2**62]])
def test_a_clock_that_tells_no_time_is_refused(
    told: object, driver: IosDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = instruments._DeviceInfo.__call__

    def answer(info: instruments._DeviceInfo, selector: str, arguments: Any) -> Any:
        return told if selector == "machTimeInfo" else real(info, selector, arguments)

    monkeypatch.setattr(instruments._DeviceInfo, "__call__", answer)
    with pytest.raises(DeviceError, match="its clock says"):
        driver.clock()


def test_an_iphone_without_crash_reports_is_measured_and_says_so(
    iphone: IPhone, driver: IosDriver, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = iphone.refusal
    refused = "com.apple.crashreportcopymobile"
    monkeypatch.setattr(iphone, "refusal", lambda service: "InvalidService" if service == refused else real(service))
    [reason] = [a.reason for a in driver.discover().absent if a.name == "crash reports"]
    assert reason.endswith(f"the iPhone has no service {refused}")
    driver.close()
    assert run(a_plan(iphone_profile(tmp_path, iphone), tiny_model), tmp_path / "results").complete


@pytest.mark.parametrize("told", [b"Model\0iPhone\0", b"FSFreeBytes\0much\0", b"FSFreeBytes\0-5\0"])
def test_free_space_that_is_no_number_is_refused(
    told: bytes, driver: IosDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    afc_says(monkeypatch, 0x0B, told)
    with pytest.raises(DeviceError, match="its free space is said to be"):
        driver.free_bytes()


def test_a_file_of_less_than_nothing_is_refused(
    driver: IosDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    afc_says(monkeypatch, 0x0A, told_of_a_file(b"-1"))
    with pytest.raises(DeviceError, match="is said to have -1 bytes"):
        driver.push(a_file(tmp_path / "model.gguf", b"x" * MIB))


def test_an_assertion_of_the_librarys_is_an_error_of_the_device(
    driver: IosDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asserts that an answer is as long as its own header."""

    def short(answering: afc.Afc, _fields: bytes) -> tuple[int, bytes]:
        answering._stream.write(afc._HEADER.pack(b"CFA6LPAA", 3, 3, 1, 1))
        raise EOFError

    driver.free_bytes()
    monkeypatch.setitem(afc._HANDLERS, 0x0B, short)
    with pytest.raises(DeviceError):
        driver.free_bytes()


@pytest.mark.parametrize("pages", [b"9" * 400, b"1e999"])
def test_a_jetsam_report_of_endless_pages_says_nothing(pages: bytes) -> None:
    assert not find_jetsam([b'{}\n{"processes":[{"pid":5,"reason":"x","rpages":' + pages + b"}]}"], 5)


def test_an_answer_that_comes_byte_by_byte_is_not_waited_for_to_its_end(
    iphone: IPhone, driver: IosDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("melt.drivers.ios.pymd3.upload._SILENCE_S", 2.0)
    write = Stream.write

    def slowly(stream: Stream, data: bytes) -> None:
        if data[32:33] == b"\x01" and data[:8] == b"CFA6LPAA" and dripping.is_set():
            for i in range(len(data)):
                time.sleep(0.3)
                write(stream, data[i : i + 1])
        else:
            write(stream, data)

    dripping = threading.Event()
    monkeypatch.setattr(Stream, "write", slowly)
    iphone.disk.after(MIB // 4, dripping.set)
    began = time.monotonic()
    with pytest.raises(ConnectionLostError, match="its answer does not end"):
        driver.push(a_file(tmp_path / "model.gguf", os.urandom(MIB)))
    assert time.monotonic() - began < 10
    dripping.clear()


def test_pair_records_are_for_nobody_else(iphone: IPhone) -> None:
    folder = cache_folder() / "ios" / "pair-records"
    folder.mkdir(parents=True, mode=0o755)
    with closing(IosDriver(profile_of(iphone))):
        assert list(folder.iterdir())
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
