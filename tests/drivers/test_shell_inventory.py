"""Reading a device by a shell script, run by the shells that devices have."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from melt.drivers.shell_inventory import new_word, parse_answer, script_for
from melt.telemetry.source import Inventory

SHELLS = [s for s in ("mksh", "dash", "bash", "toybox") if shutil.which(s)]


def ask(shell: str, globs: list[str], commands: dict[str, str], user: int | None = None) -> Inventory:
    word = new_word()
    argv = [shell, "sh", "-c"] if shell == "toybox" else [shell, "-c"]
    done = subprocess.run(
        [*argv, script_for(globs, commands, word)], capture_output=True, user=user, check=False, timeout=30
    )
    return parse_answer(done.stdout.decode(errors="replace"), word)


@pytest.fixture(params=[s for s in SHELLS if s != "toybox"])
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_shell_reads_what_the_files_hold(shell: str, tmp_path: Path) -> None:
    texts = {"plain": "42\n", "none": "", "no end": "x", "lines": "a\nb\n\nc\n", "odd": "it's $HOME `id` \\n %s"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    found = ask(shell, [f"{tmp_path}/*", f"{tmp_path}/missing", f"{tmp_path}/none*"], {})
    for name, text in texts.items():
        assert found.text(f"{tmp_path}/{name}") is not None
        assert found.text(f"{tmp_path}/{name}") == text.strip()
    assert found.text(f"{tmp_path}/missing") is None


def test_what_is_denied_comes_with_its_errno(shell: str, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs another user to be denied")
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents[:3]:
        folder.chmod(0o755)
    denied = tmp_path / "denied"
    denied.write_text("secret")
    denied.chmod(0o600)
    found = ask(shell, [str(denied), "/proc/self/mem"], {"command": "cat " + str(denied), "fine": "echo yes"}, 65534)
    assert found.error(str(denied)) == "EACCES"
    assert found.text(str(denied)) is None
    assert found.error("command") == "EACCES"
    assert found.text("fine") == "yes"


def test_a_command_that_is_not_there_is_an_error_and_not_its_message(shell: str) -> None:
    found = ask(shell, [], {"it's one": "no-such-program-anywhere --x", "two": "echo 2; true"})
    assert found.text("it's one") is None
    assert found.error("it's one") is not None
    assert found.text("two") == "2"


def test_a_cut_answer_is_none() -> None:
    """A device that lacks half of its files would pass for another one, and be measured again."""
    word = "melt-0123"
    whole = f"{word}< /a\n1\n\n{word}> 0\n{word}< /b\n2\n\n{word}> 0\n{word}.\n"
    assert [entry.path for entry in parse_answer(whole, word).entries] == ["/a", "/b"]
    for end in range(len(whole) - len(f"{word}.\n") + 1):
        with pytest.raises(ValueError, match="no end"):
            parse_answer(whole[:end], word)
