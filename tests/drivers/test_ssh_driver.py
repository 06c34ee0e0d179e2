"""The SSH driver against real OpenSSH servers: who is let in, programs, files, and every way a link can break."""

import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from melt.backends.onnxruntime import OnnxRuntime
from melt.drivers.base import DeviceFile, ExitStatus
from melt.drivers.local.driver import LocalDriver
from melt.drivers.local.driver import connect as connect_local
from melt.drivers.profiles import load_profile
from melt.drivers.remote.base import ConnectionLostError
from melt.drivers.remote.process import RemoteProcess, run_command
from melt.drivers.runner import runner_file
from melt.drivers.ssh.config import read_host
from melt.drivers.ssh.connect import open_way
from melt.drivers.ssh.driver import SshDriver
from melt.drivers.ssh.remote import SshRemote
from melt.errors import DeviceError, MeltError, ProfileError
from melt.spec.profile import DeviceProfile, Sensors
from melt.telemetry.source import Probe
from tests.doubles.sshd import Sshd, make_key
from tests.drivers.conftest import enrol_all, ssh_profile_of
from tests.support.processes import running
from tests.support.waiting import wait_until

MIB = 2**20


@pytest.fixture
def profile(board: Sshd) -> DeviceProfile:
    found = ssh_profile_of(board)
    enrol_all(found)
    return found


@pytest.fixture
def driver(profile: DeviceProfile) -> Iterator[SshDriver]:
    opened = SshDriver(profile)
    yield opened
    opened.close()


@pytest.fixture
def remote(profile: DeviceProfile) -> Iterator[SshRemote]:
    opened = SshRemote(open_way(profile), "board")
    yield opened
    opened.close()


class TestWhoIsLetIn:
    def test_a_key_that_is_not_known_is_not_trusted(self, board: Sshd) -> None:
        with pytest.raises(DeviceError, match=rf"the key of \[127.0.0.1\]:{board.port} is not known") as e:
            open_way(ssh_profile_of(board))
        assert e.value.hint == "Look at it once: melt devices enrol board"

    def test_enrolling_shows_what_ssh_keygen_shows_and_adds_a_line(self, board: Sshd, home: Path) -> None:
        known = home / ".ssh" / "known_hosts"
        known.write_text(
            f"# my hosts\nother {make_key(home / 'other')}".rstrip()
        )  # no end of line, as editors leave it
        before = known.read_text()
        board.authorised.write_text("")  # it need not let anybody in yet
        assert enrol_all(ssh_profile_of(board)) == [board.fingerprint]
        assert known.read_text().startswith(before + "\n")
        board.authorised.write_text((home / ".ssh" / "id_ed25519.pub").read_text())
        assert enrol_all(ssh_profile_of(board)) == []
        open_way(ssh_profile_of(board)).close()
        done = subprocess.run(  # OpenSSH itself agrees
            ["ssh", "-F", str(home / ".ssh/config"), "-p", str(board.port), "127.0.0.1", "echo in"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "in\n"

    def test_a_key_of_another_kind_that_is_known_is_asked_for(self, tmp_path: Path, home: Path) -> None:
        rsa = tmp_path / "rsa"
        subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "3072", "-N", "", "-f", str(rsa)], check=True)
        with Sshd(tmp_path / "two", None, f"HostKey {rsa}") as board:
            board.authorised.write_text((home / ".ssh" / "id_ed25519.pub").read_text())
            kind, key = Path(f"{rsa}.pub").read_text().split()[:2]
            (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{board.port} {kind} {key}\n")
            assert enrol_all(ssh_profile_of(board)) == []
            open_way(ssh_profile_of(board)).close()

    def test_lines_of_known_hosts_that_are_no_keys_are_passed_over(
        self, board: Sshd, home: Path, profile: DeviceProfile
    ) -> None:
        known = home / ".ssh" / "known_hosts"
        theirs = (board.folder / "host_key.pub").read_text().split()[:2]
        lines = [b"@cert-authority *.example.com ssh-ed25519 AAAA", b"# caf\xe9", b"half a line", b"a b c d"]
        known.write_bytes(b"\n".join(lines) + b"\n" + known.read_bytes())
        open_way(profile).close()
        known.write_text(f"@revoked [127.0.0.1]:{board.port} {' '.join(theirs)}\n" + known.read_text(errors="replace"))
        with pytest.raises(DeviceError, match="is not known"):
            open_way(profile)
        with pytest.raises(DeviceError, match="shows a key that is revoked"):
            enrol_all(profile)

    def test_an_alias_is_known_whatever_the_port(self, board: Sshd, home: Path) -> None:
        config = home / ".ssh" / "config"
        config.write_text(f"Host nano\n  HostName 127.0.0.1\n  HostKeyAlias the-nano\n{config.read_text()}")
        nano = DeviceProfile(name="nano", driver="ssh", address={"host": "nano", "port": board.port})
        assert enrol_all(nano) == [board.fingerprint]
        open_way(nano).close()
        done = subprocess.run(
            ["ssh", "-F", str(config), "-p", str(board.port), "nano", "echo in"], capture_output=True, text=True
        )
        assert done.stdout == "in\n", done.stderr

    def test_another_key_than_the_known_one_is_refused(self, board: Sshd, profile: DeviceProfile) -> None:
        board.stop()
        board.new_host_key()
        board.start()
        with pytest.raises(DeviceError, match="shows another key than the known one") as e:
            open_way(profile)
        assert board.fingerprint in e.value.message
        assert "ssh-keygen -R" in e.value.hint
        with pytest.raises(DeviceError, match="shows another key"):
            enrol_all(profile)

    def test_a_host_that_knows_none_of_our_keys(self, board: Sshd, profile: DeviceProfile) -> None:
        board.authorised.write_text("")
        with pytest.raises(DeviceError, match="with none of this computer's keys") as e:
            open_way(profile)
        assert "ssh-copy-id" in e.value.hint

    def test_a_key_with_a_passphrase_belongs_to_the_agent(
        self, board: Sshd, home: Path, profile: DeviceProfile
    ) -> None:
        key = str(home / ".ssh" / "id_ed25519")
        subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", key], check=True)
        with pytest.raises(DeviceError, match="passphrase") as e:
            open_way(profile)
        assert "ssh-add" in e.value.hint

    def test_the_agents_key_opens_it(
        self, board: Sshd, home: Path, profile: DeviceProfile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        place = str(tmp_path / "agent")
        agent = subprocess.Popen(["ssh-agent", "-D", "-a", place], stdout=subprocess.DEVNULL)
        try:
            while not Path(place).exists():
                time.sleep(0.01)
            monkeypatch.setenv("SSH_AUTH_SOCK", place)
            key = home / ".ssh" / "id_ed25519"
            subprocess.run(["ssh-add", "-q", str(key)], check=True)
            key.unlink()
            way = open_way(profile)
            assert run_command(SshRemote(way, "board"), "echo in").text == "in\n"
            way.close()
        finally:
            agent.terminate()
            agent.wait()

    def test_nobody_there(self, home: Path) -> None:
        nowhere = DeviceProfile(name="board", driver="ssh", address={"host": "127.0.0.1", "port": 1})
        with pytest.raises(ConnectionLostError, match=r"board: 127\.0\.0\.1 port 1: Connection refused"):
            open_way(nowhere)

    def test_a_server_that_speaks_no_ssh(self, home: Path) -> None:
        def answer(server: socket.socket) -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400\r\n\r\n")

        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            threading.Thread(target=answer, args=(server,), daemon=True).start()
            one = DeviceProfile(name="board", driver="ssh", address={"host": "127.0.0.1", "port": port})
            with pytest.raises(MeltError, match="board: "):
                open_way(one)


def behind(gate: Sshd, board: Sshd, home: Path) -> DeviceProfile:
    """The board, by way of the gate."""
    gate.authorised.write_text((home / ".ssh" / "id_ed25519.pub").read_text())
    jump = f"Host behind\n  HostName 127.0.0.1\n  Port {board.port}\n  ProxyJump 127.0.0.1:{gate.port}\n"
    with (home / ".ssh" / "config").open("a") as config:
        config.write(jump)
    return DeviceProfile(name="behind", driver="ssh", address={"host": "behind"})


class TestConfiguration:
    def test_what_ssh_would_do(self, home: Path) -> None:
        (home / ".ssh" / "more").write_text(
            "Host nano\n  HostName 10.0.0.7\n  Port 2222\n  ProxyJump me@gate:2200,inner\n"
        )
        (home / ".ssh" / "config").write_text(
            f"Include {home}/.ssh/more\nHost nano\n  User jetson\n  HostKeyAlias the-nano\n  IdentitiesOnly yes\n"
        )
        host = read_host("nano")
        assert (host.hostname, host.port, host.user) == ("10.0.0.7", 2222, "jetson")
        assert host.entry == "the-nano"  # OpenSSH keeps an alias by itself, whatever the port
        assert host.jumps == ("me@gate:2200", "inner")
        assert host.only_these_keys
        assert read_host("root@nano", None, 22).user == "root"
        assert read_host("nano", "ann", 99).port == 99

    def test_without_the_ssh_program(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shutil.which", lambda _name: None)
        host = read_host("ann@board")
        assert (host.hostname, host.port, host.user, host.entry) == ("board", 22, "ann", "board")
        assert host.key_files == (home / ".ssh" / "id_ed25519",)

    def test_a_configuration_that_is_none(self, home: Path) -> None:
        (home / ".ssh" / "config").write_text("Host x\n  Port many\n")
        with pytest.raises(ProfileError, match=r"x: ssh: .*[Bb]ad"):
            read_host("x")

    @pytest.mark.parametrize("name", ["-oProxyCommand=touch /tmp/pwned", "a b", "$(id)"])
    def test_a_name_is_no_option_and_no_command(self, home: Path, name: str) -> None:
        with pytest.raises(MeltError):
            open_way(DeviceProfile(name="board", driver="ssh", address={"host": name}))
        assert not Path("/tmp/pwned").exists()

    def test_a_way_that_melt_does_not_go_is_named(self, home: Path) -> None:
        with (home / ".ssh" / "config").open("a") as config:
            config.write("Host tunnel\n  ProxyCommand nc %h %p\n")
        with pytest.raises(ProfileError, match="tunnel: is reached by a ProxyCommand") as e:
            read_host("tunnel")
        assert e.value.hint == "ProxyJump is understood."

    @pytest.mark.parametrize("word", ["none", "/dev/null"])
    def test_without_a_file_of_known_hosts_nobody_is_enrolled(self, board: Sshd, home: Path, word: str) -> None:
        config = home / ".ssh" / "config"
        config.write_text(f"IdentityFile {home}/.ssh/id_ed25519\nUserKnownHostsFile {word}\n")
        with pytest.raises(DeviceError, match="/dev/null: keeps no keys"):
            enrol_all(ssh_profile_of(board))

    def test_a_profile_without_a_host(self) -> None:
        with pytest.raises(ProfileError, match="names no host"):
            open_way(DeviceProfile(name="board", driver="ssh"))

    def test_through_a_gate(self, tmp_path: Path, home: Path, board: Sshd) -> None:
        """The board is reached through another host, whose key has to be known as well."""
        with Sshd(tmp_path / "gate", None, "AllowTcpForwarding yes") as gate:
            one = behind(gate, board, home)
            assert enrol_all(one) == [gate.fingerprint, board.fingerprint]
            remote = SshRemote(open_way(one), "behind")
            asked = run_command(remote, "echo $SSH_CONNECTION").text.split()
            assert asked[3] == str(board.port)
            gate.cut()
            with pytest.raises(ConnectionLostError):
                run_command(remote, "true", 20)
            remote.close()

    def test_letting_go_through_a_gate_that_has_just_gone(
        self, tmp_path: Path, home: Path, board: Sshd, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is sent then fails before anybody knows that the link is gone."""

        def broken(_self: object, _out: bytes) -> None:
            raise EOFError

        with Sshd(tmp_path / "gate", None, "AllowTcpForwarding yes") as gate:
            one = behind(gate, board, home)
            enrol_all(one)
            remote = SshRemote(open_way(one), "behind")
            shell = remote.open_shell("sleep 60")
            with monkeypatch.context() as just_now:
                just_now.setattr("paramiko.packet.Packetizer.write_all", broken)
                shell.close()
                remote.close()
            with pytest.raises(ConnectionLostError):
                remote.open_shell("true")


class TestPrograms:
    def test_a_link_that_breaks_is_no_killed_program(
        self, board: Sshd, remote: SshRemote, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also in the moment in which paramiko has ended the channel and not yet its transport."""
        shell = remote.open_shell("echo begun; sleep 60")
        assert shell.read(20) == ("stdout", b"begun\n")
        monkeypatch.setattr("paramiko.Transport.is_active", lambda _self: True)
        board.cut()
        with pytest.raises(ConnectionLostError):
            shell.read(20)
        monkeypatch.undo()

    def test_exit_codes_and_both_outputs(self, remote: SshRemote) -> None:
        done = run_command(remote, "echo out; echo err >&2; exit 7")
        assert (done.code, done.text, done.stderr) == (7, "out\n", "err\n")
        assert run_command(remote, "cat").text == ""

    @pytest.mark.parametrize("word", ["it's", 'say "hi"', "$HOME `id` $(id)", "back\\slash", "new\nline", "!x", "*"])
    def test_words_arrive_as_they_are(self, remote: SshRemote, word: str) -> None:
        from melt.drivers.remote.base import quoted

        assert run_command(remote, f"printf %s {quoted(word)}").text == word

    def test_many_at_once(self, remote: SshRemote) -> None:
        wrong: list[str] = []

        def ask(n: int) -> None:
            for i in range(5):
                if (said := run_command(remote, f"echo {n}-{i}").text) != f"{n}-{i}\n":
                    wrong.append(said)

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not wrong

    def test_one_is_followed_and_told_things(self, remote: SshRemote) -> None:
        process = RemoteProcess(remote, 'while read l; do echo "heard $l"; done; echo end >&2; exit 5')
        process.tell("one")
        assert process.next_line(10) == "heard one"
        with pytest.raises(TimeoutError):
            process.next_line(0.1)
        process.end_of_input()
        assert process.next_line(10) is None
        assert process.wait(10) == ExitStatus(5)
        assert process.stderr() == "end"
        process.kill()

    def test_a_signal_is_told_from_an_exit_code(self, remote: SshRemote) -> None:
        assert RemoteProcess(remote, "kill -SEGV $$").wait(10) == ExitStatus(None, "SIGSEGV")
        process = RemoteProcess(remote, "exec sleep 1000")
        # The program's own process, and not a shell's before it.
        wait_until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n")
        run_command(remote, f"kill -9 {process.pid}")
        assert process.wait(10) == ExitStatus(None, "SIGKILL")

    def test_a_killed_one_is_gone_with_all_it_started(self, remote: SshRemote) -> None:
        mark = f"{os.getpid()}.25"
        process = RemoteProcess(remote, f"sleep {mark} & sleep {mark} | sleep {mark}")
        wait_until(lambda: len(running(lambda p: p.argv == ("sleep", mark))) == 3)
        process.kill()
        assert not running(lambda p: mark in p.argv)
        assert not process.wait(1).ok

    def test_a_flood_waits_for_its_reader(self, remote: SshRemote) -> None:
        process = RemoteProcess(remote, "yes line | head -n 200000")
        assert sum(1 for _ in iter(lambda: process.next_line(30), None)) == 200_000
        assert process.wait(10).ok

    def test_a_server_that_goes_ends_it(self, board: Sshd, remote: SshRemote) -> None:
        process = RemoteProcess(remote, "exec sleep 1000")
        board.cut()
        with pytest.raises(ConnectionLostError):
            process.wait(30)
        with pytest.raises(ConnectionLostError):
            run_command(remote, "true")
        process.kill()


def a_file(folder: Path, size: int) -> DeviceFile:
    content = os.urandom(size)
    path = folder / "model.gguf"
    path.write_bytes(content)
    return DeviceFile(path.name, path, hashlib.sha256(content).hexdigest(), size)


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
        driver.free_bytes()
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

    def test_two_who_ask_at_once_get_their_own_answers(self, remote: SshRemote, tmp_path: Path) -> None:
        (tmp_path / "three").write_text("abc")
        failed: list[Exception] = []

        def ask() -> None:
            try:
                for _ in range(200):
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
        runner = opened.push(runner_file()).device_path
        late = ["sh", "-c", 'sleep 0.5; exec "$@"', "sh", sys.executable, runner, "sample"]
        recording = opened.record((), 100, late)
        assert list(Path(opened.work_folder).rglob("telemetry.jsonl"))
        assert recording.stop(tmp_path / "telemetry.jsonl") == ""
        began = time.monotonic()
        failed = opened.record((), 100, ["false"])  # is not waited for
        assert time.monotonic() - began < 5
        assert "the sampler ended with exit code 1" in failed.stop(tmp_path / "none.jsonl")
        opened.close()

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
