"""The SSH driver against real OpenSSH servers: files, and what a host tells of itself."""

import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from melt.backends.onnxruntime import OnnxRuntime
from melt.drivers.base import ToRecord
from melt.drivers.local.driver import LocalDriver
from melt.drivers.local.driver import connect as connect_local
from melt.drivers.profiles import load_profile
from melt.drivers.remote.base import ConnectionLostError
from melt.drivers.runner import program_file, runner_path
from melt.drivers.ssh.driver import SshDriver
from melt.drivers.ssh.remote import SshRemote
from melt.errors import DeviceError
from melt.spec.profile import DeviceProfile, Sensors
from melt.telemetry.source import Probe
from tests.doubles.sshd import Sshd
from tests.drivers.conftest import enrol_all, ssh_profile_of
from tests.drivers.ssh import MIB, a_file, driver, profile, remote

__all__ = ["driver", "profile", "remote"]


class TestFiles:
    def test_a_push_is_verified_and_made_once(self, driver: SshDriver, tmp_path: Path) -> None:
        file = a_file(tmp_path, 5 * MIB)
        shown: list[int] = []
        first = driver.push(file, lambda done, _total: shown.append(done))
        assert first.pushed
        assert Path(first.device_path).read_bytes() == file.path.read_bytes()
        assert shown == sorted(shown)
        assert shown[-1] == 5 * MIB
        assert not driver.push(file).pushed
        assert driver.clean() == 5 * MIB
        assert driver.push(file).pushed

    def test_the_parts_of_a_whole_lie_in_one_folder_and_leave_it_together(
        self, driver: SshDriver, tmp_path: Path
    ) -> None:
        parts = []
        for number in range(3):
            (folder := tmp_path / f"{number}").mkdir()
            parts.append(replace(a_file(folder, MIB), name=f"{number}.gguf", whole_sha256="a" * 64))
        placed = [Path(driver.push(part).device_path) for part in parts]
        assert [p.name for p in placed] == ["0.gguf", "1.gguf", "2.gguf"]
        assert {p.parent.name for p in placed} == {"a" * 64}
        assert not any(driver.push(part).pushed for part in parts)
        other = Path(driver.push(a_file(tmp_path, MIB)).device_path)
        for path, age_s in {placed[0]: 300, other: 200, placed[1]: 100}.items():
            os.utime(path, (time.time() - age_s,) * 2)
        assert driver.clean(3 * MIB) == MIB
        assert not other.exists()
        assert driver.clean(2 * MIB) == 3 * MIB
        assert not any(p.exists() for p in placed)

    def test_a_cut_push_goes_on_where_it_was(self, board: Sshd, driver: SshDriver, tmp_path: Path) -> None:
        file = a_file(tmp_path, 80 * MIB)
        cut = threading.Event()

        def cut_it(done: int, _total: int) -> None:
            if done > 60 * MIB and not cut.is_set():
                cut.set()
                board.cut()

        with pytest.raises(ConnectionLostError):
            driver.push(file, cut_it)
        begun: list[int] = []
        placed = driver.push(file, lambda done, _total: begun.append(done))
        assert begun[0] > 32 * MIB
        assert Path(placed.device_path).read_bytes() == file.path.read_bytes()

    def test_what_a_cut_left_is_not_believed(self, driver: SshDriver, tmp_path: Path, board: Sshd) -> None:
        file = a_file(tmp_path, 40 * MIB)
        driver.condition({})  # makes the folders
        (board.folder / "work" / "incoming" / file.sha256).write_bytes(os.urandom(32 * MIB))
        placed = driver.push(file)
        assert Path(placed.device_path).read_bytes() == file.path.read_bytes()

    @pytest.mark.root
    def test_a_full_disk_is_said_before_and_during(self, board: Sshd, driver: SshDriver, tmp_path: Path) -> None:
        work = board.folder / "work"
        work.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "melt-test", str(work)], check=True)
        try:
            file = a_file(tmp_path, 32 * MIB)
            with pytest.raises(DeviceError, match="of room on the board"):
                driver.push(file)
            driver.free_bytes()
            (work / "filler").write_bytes(bytes(12 * MIB))
            with file.path.open("rb") as content, pytest.raises(DeviceError, match="No space left") as e:
                driver._remote.send(content, str(work / "big"), 0o644)
            assert "melt devices clean" in e.value.hint
        finally:
            subprocess.run(["umount", str(work)], check=True)

    @pytest.mark.root
    def test_a_disk_without_any_room_is_told_and_cleaned(self, board: Sshd, driver: SshDriver, tmp_path: Path) -> None:
        work = board.folder / "work"
        work.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "melt-test", str(work)], check=True)
        try:
            driver.condition({})
            pushed = work / "files" / ("ab" * 32) / "model.gguf"
            pushed.parent.mkdir()
            pushed.write_bytes(bytes(2 * MIB))
            with pytest.raises(OSError, match="No space"), (work / "filler").open("wb") as filler:
                filler.write(bytes(8 * MIB))
            other = SshDriver(ssh_profile_of(board))
            with pytest.raises(DeviceError, match=r"the disk with .*work is full") as e:
                other.condition({})
            assert "melt devices clean" in e.value.hint
            assert other.free_bytes() < MIB
            assert other.clean() == 2 * MIB
            assert not pushed.exists()
            other.close()
        finally:
            subprocess.run(["umount", str(work)], check=True)

    def test_two_who_ask_at_once_get_their_own_answers(self, remote: SshRemote, tmp_path: Path) -> None:
        (tmp_path / "three").write_text("abc")
        failed: list[Exception] = []

        def ask() -> None:
            try:
                for _ in range(20):
                    remote.check_alive()
                    assert remote.size_bytes(str(tmp_path / "three")) == 3
            except Exception as e:
                failed.append(e)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not failed

    def test_a_file_comes_whole_or_the_right_side_is_blamed(
        self, remote: SshRemote, tmp_path: Path, board: Sshd
    ) -> None:
        there = tmp_path / "there"
        there.write_bytes(os.urandom(3 * MIB))
        remote.receive_file(str(there), tmp_path / "here")
        assert (tmp_path / "here").read_bytes() == there.read_bytes()
        with pytest.raises(DeviceError, match=r"missing: .*No such file"):
            remote.receive_file("/missing", tmp_path / "nothing")
        with pytest.raises(FileExistsError):  # this host's own trouble
            remote.receive_file(str(there), there / "x")
        assert not (tmp_path / "nothing").exists()
        assert not list(tmp_path.glob(".*.partial"))

    def test_a_work_folder_that_cannot_be(self, board: Sshd, profile: DeviceProfile, tmp_path: Path) -> None:
        bad = profile.model_copy(update={"work_folder": "/proc/melt"})
        opened = SshDriver(bad)
        with pytest.raises(DeviceError, match="board: /proc/melt: "):
            opened.push(a_file(tmp_path, 10))
        opened.close()

    def test_without_a_work_folder_it_is_in_the_users_cache(self, board: Sshd, profile: DeviceProfile) -> None:
        opened = SshDriver(profile.model_copy(update={"work_folder": None}))
        assert opened.work_folder.endswith("/.cache/melt")
        home = opened.work_folder.removesuffix("/.cache/melt")
        opened.close()
        for given, meant in (("~/mine", f"{home}/mine"), ("mine", f"{home}/mine"), ("~", home)):
            opened = SshDriver(profile.model_copy(update={"work_folder": given}))
            assert opened.work_folder == meant
            opened.close()


class TestTheHost:
    def test_its_facts_are_this_machines(self, driver: SshDriver) -> None:
        local = connect_local(load_profile("local"))
        own, there = local.facts(), driver.facts()
        for key in (
            "machine",
            "soc",
            "kernel",
            "os_build",
            "logical_cores",
            "physical_cores",
            "ram_bytes",
            "serial_hash",
        ):
            assert getattr(there, key) == getattr(own, key), key
        assert not there.is_host
        assert {s.name for s in driver.discover().sources} == {s.name for s in local.discover().sources}
        local.close()

    def test_its_sys_and_proc_may_be_below_another_folder(self, profile: DeviceProfile, tmp_path: Path) -> None:
        """As in a container, where the host's own are mounted elsewhere."""
        name = "/sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
        governor = tmp_path / "odd [1] *tree" / name[1:]
        governor.parent.mkdir(parents=True)
        governor.write_text("schedutil\n")
        rooted = profile.model_copy(update={"sensors": Sensors(root=str(tmp_path / "odd [1] *tree"))})
        with closing(SshDriver(rooted)) as opened:
            assert opened.facts().governor == "schedutil"
            assert opened.read([Probe(name="governor", read=name)]) == {"governor": "schedutil"}
            assert opened.condition({"governor": "performance"}) == ()
            assert opened.held()["governor"] == "performance"
        assert governor.read_text() == "schedutil\n"

    @pytest.mark.parametrize("distribution", ["onnxruntime", "onnxruntime-gpu", "a-vendors-own-build"])
    def test_an_engine_is_known_by_its_module_whoever_made_the_package(
        self, distribution: str, tmp_path: Path, home: Path
    ) -> None:
        site = tmp_path / "site"
        about = site / f"{distribution.replace('-', '_')}-1.23.0.dist-info"
        about.mkdir(parents=True)
        (site / "onnxruntime").mkdir()
        (site / "onnxruntime" / "__init__.py").write_text("raise ImportError('nobody has to import it to know of it')")
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.23.0\n")
        (about / "RECORD").write_text("onnxruntime/__init__.py,,\n")
        with Sshd(tmp_path / "jetson", None, f"SetEnv PYTHONPATH={site} PATH=/usr/bin:/bin") as jetson:
            jetson.authorised.write_text((home / ".ssh" / "id_ed25519.pub").read_text())
            enrol_all(ssh_profile_of(jetson))
            with closing(SshDriver(ssh_profile_of(jetson))) as opened:
                facts = opened.facts()
        assert facts.engines == {"onnxruntime": "1.23.0"}
        OnnxRuntime().check(facts)  # refuses a device without it

    @pytest.mark.parametrize("where", ["there", "here"])
    def test_a_recording_that_is_there_has_begun(self, driver: SshDriver, tmp_path: Path, where: str) -> None:
        """What is measured next is sampled from its beginning, however long the sampler takes to start."""
        opened: SshDriver | LocalDriver = driver if where == "there" else connect_local(load_profile("local"))
        runner = opened.push(program_file(runner_path())).device_path
        late = ["sh", "-c", 'sleep 0.5; exec "$@"', "sh", sys.executable, runner, "sample"]
        recording = opened.record(ToRecord("a-run", sampler=late))
        assert list(Path(opened.work_folder).rglob("a-run.telemetry.jsonl"))
        assert recording.stop(tmp_path / "telemetry.jsonl") == ""
        began = time.monotonic()
        failed = opened.record(ToRecord("another", sampler=["false"]))  # is not waited for
        assert time.monotonic() - began < 5
        assert "the sampler ended with exit code 1" in failed.stop(tmp_path / "none.jsonl")
        opened.close()

    def test_what_a_sampler_recorded_before_it_failed_is_brought(self, driver: SshDriver, tmp_path: Path) -> None:
        """As on a disk that fills up."""
        driver.push(a_file(tmp_path, 10))  # by which its folders are made
        out = f"{driver.work_folder}/jobs/full.telemetry.jsonl"
        fails = "echo first >" + out + "; cat >/dev/null; echo 'sampler: No space left on device' >&2; exit 1"
        recording = driver.record(ToRecord("full", sampler=["sh", "-c", fails]))
        assert recording.stop(tmp_path / "telemetry.jsonl").endswith("exit code 1: sampler: No space left on device")
        assert (tmp_path / "telemetry.jsonl").read_text() == "first\n"

    def test_its_clock_is_set_beside_the_hosts(self, driver: SshDriver) -> None:
        reading = driver.clock()
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        assert abs(now_ns - reading.device_ns) < 1e9
        assert reading.bound_ns < 200e6

    def test_a_host_that_comes_back_is_found_again(self, board: Sshd, driver: SshDriver, tmp_path: Path) -> None:
        file = a_file(tmp_path, 1000)
        driver.push(file)
        board.stop()
        threading.Timer(2.0, board.start).start()
        assert not driver.push(file).pushed
