"""Who is let in over SSH, and which host is believed: against real OpenSSH servers and clients."""

import shlex
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from melt.drivers.remote.base import ConnectionLostError
from melt.drivers.remote.process import run_command
from melt.drivers.ssh.connect import open_way
from melt.drivers.ssh.remote import SshRemote
from melt.errors import DeviceError, MeltError
from melt.spec.profile import DeviceProfile
from tests.doubles.sshd import Sshd, make_key
from tests.drivers.conftest import enrol_all, ssh_profile_of
from tests.drivers.ssh import profile

__all__ = ["profile"]


class TestWhoIsLetIn:
    def test_a_key_that_is_not_known_is_not_trusted(self, board: Sshd, home: Path) -> None:
        known = home / ".ssh" / "known_hosts"
        with pytest.raises(DeviceError, match=rf"the key of \[127.0.0.1\]:{board.port} is not known in {known}$") as e:
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
        with pytest.raises(DeviceError, match="shows another key"):
            enrol_all(profile)
        forget, _, _ = e.value.hint.partition(", and then melt devices enrol board")
        subprocess.run(shlex.split(forget[forget.index("ssh-keygen") :]), check=True, capture_output=True)
        assert enrol_all(profile) == [board.fingerprint]

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
