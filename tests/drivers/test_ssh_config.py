"""Where an SSH configuration leads, through other hosts too."""

from pathlib import Path

import pytest

from melt.drivers.remote.base import ConnectionLostError
from melt.drivers.remote.process import run_command
from melt.drivers.ssh.config import read_host
from melt.drivers.ssh.connect import open_way
from melt.drivers.ssh.remote import SshRemote
from melt.errors import DeviceError, MeltError, ProfileError
from melt.spec.profile import DeviceProfile
from tests.doubles.sshd import Sshd
from tests.drivers.conftest import enrol_all, ssh_profile_of
from tests.drivers.ssh import profile, remote

__all__ = ["profile", "remote"]


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

    def test_a_gate_that_lets_nobody_through_says_so(self, tmp_path: Path, home: Path, board: Sshd) -> None:
        with Sshd(tmp_path / "gate", None, "AllowTcpForwarding no") as gate:
            with pytest.raises(ConnectionLostError, match="forwards no connections") as e:
                enrol_all(behind(gate, board, home))
            assert "Channel" not in e.value.message

    def test_a_board_behind_a_gate_that_is_off(self, tmp_path: Path, home: Path, board: Sshd) -> None:
        with Sshd(tmp_path / "gate", None, "AllowTcpForwarding yes") as gate:
            board.stop()
            with pytest.raises(ConnectionLostError, match=f"port {board.port}: the host before it cannot reach it$"):
                enrol_all(behind(gate, board, home))

    def test_a_server_that_gives_no_session_says_so(self, tmp_path: Path, home: Path) -> None:
        with Sshd(tmp_path / "full", None, "MaxSessions 0") as full:
            full.authorised.write_text((home / ".ssh" / "id_ed25519.pub").read_text())
            enrol_all(ssh_profile_of(full))
            remote = SshRemote(open_way(ssh_profile_of(full)), "board")
            for ask in (remote.check_alive, lambda: run_command(remote, "true")):
                with pytest.raises(
                    ConnectionLostError, match=r"its SSH server opens no more sessions \(MaxSessions\)$"
                ):
                    ask()
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
