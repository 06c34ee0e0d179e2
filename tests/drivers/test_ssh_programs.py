"""Programs over SSH: their words, outputs and ends, and every way a link can break."""

import os
import threading
from pathlib import Path

import pytest

from melt.drivers.base import ExitStatus
from melt.drivers.remote.base import ConnectionLostError
from melt.drivers.remote.process import RemoteProcess, run_command
from melt.drivers.ssh.remote import SshRemote
from tests.doubles.sshd import Sshd
from tests.drivers.ssh import profile, remote
from tests.support.processes import running
from tests.support.waiting import wait_until

__all__ = ["profile", "remote"]


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
