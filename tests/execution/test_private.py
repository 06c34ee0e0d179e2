"""What is shared tells nothing of the user, of this computer, or of how a device is reached."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import melt
from melt.drivers import connect
from melt.errors import PlanError
from melt.execution.plan import run
from melt.execution.private import scrubber
from melt.report import write_report
from melt.spec.plan import load_plan
from melt.spec.profile import DeviceProfile
from tests.support.cli import MELT, without_second_tries
from tests.support.plans import a_plan, last
from tests.support.profiles import write_profile

NAME, HOST = "zaphodbeeblebrox", "heart-of-gold"


@pytest.fixture
def home(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a user with a name that nothing else has, with a model and a profile in it."""
    folder = tmp_path / "home" / NAME
    (folder / "models").mkdir(parents=True)
    shutil.copy(tiny_model, folder / "models" / "mine.gguf")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("MELT_CACHE", str(folder / ".cache" / "melt"))
    monkeypatch.setenv("MELT_DATA", str(folder / ".local" / "share" / "melt"))
    return folder


def told_in(*folders: Path) -> str:
    """All that is written in some folders, names of files too."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert files
    return "\n".join(f"{path.name}\n{path.read_bytes().decode(errors='replace')}" for path in files)


def test_results_and_report_name_nothing_of_the_user_s(home: Path) -> None:
    write_profile(home / "desk.yaml", "local")
    plan = {
        "devices": [str(home / "desk.yaml")],
        "models": [str(home / "models" / "mine.gguf")],
        "context": [32, 48],
        "exclude": [{"model": str(home / "models" / "mine.gguf"), "prompt_tokens": 48}],
        "gen": 4,
        "sessions": 1,
        "iterations": 1,
        "threads": 1,
        "idle_s": 0.1,
    }
    (home / "plan.yaml").write_text(yaml.safe_dump(plan))
    named = ("unshare", "--uts", "sh", "-c", f'hostname {HOST} && exec "$@"', "sh") if os.geteuid() == 0 else ()
    for more in ((), ("--set", "ubatch=64", "--set", "timeouts={load_s: 0.001}")):  # well, and not
        words = without_second_tries(("run", "plan.yaml", *more))
        subprocess.run([*named, *MELT, *words], cwd=home, env=os.environ, check=False)
    statuses = melt.load(home / "results").runs["status"]
    assert set(statuses) == {"ok", "failed"}
    text = told_in(home / "results", home / "reports")
    driver = connect(melt.load_profile("local"))
    identity = driver.facts().serial_hash
    driver.close()
    machine_id = Path("/etc/machine-id")
    secrets = [NAME, str(home.parent), HOST if named else "", identity]
    secrets += [machine_id.read_text().strip()] if machine_id.exists() else []
    assert [secret for secret in secrets if secret and secret in text] == []
    assert "mine.gguf" in text


def test_the_plan_that_lies_with_a_run_makes_it_again_where_the_model_is(home: Path, tmp_path: Path) -> None:
    made = last(run(a_plan("local", home / "models" / "mine.gguf"), tmp_path / "r"))
    kept = load_plan(made.folder / "plan.yaml")
    assert kept.models == ("mine.gguf",)
    os.chdir(home / "models")
    assert run(kept, tmp_path / "r").already_there == 1


def test_two_files_of_one_name_are_refused(home: Path, tmp_path: Path, tiny_models: dict[str, Path]) -> None:
    other = home / "mine.gguf"
    shutil.copy(tiny_models["ssm"], other)
    with pytest.raises(PlanError, match=r"are both named 'mine\.gguf'"):
        run(a_plan("local", home / "models" / "mine.gguf", other), tmp_path / "r")


def test_a_page_of_no_plan_names_the_model_as_results_do(home: Path, tmp_path: Path) -> None:
    made = last(run(a_plan("local", home / "models" / "mine.gguf"), tmp_path / "r"))
    (made.folder / "plan.yaml").unlink()
    page = write_report(melt.load(tmp_path / "r"), tmp_path / "page").read_text()
    assert "--model mine.gguf" in page


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("10.1.2.3:22: connection lost", "pixel:22: connection lost"),
        ("10.1.2.30 is another", "10.1.2.30 is another"),
        ("110.1.2.3 too", "110.1.2.3 too"),
        ("no R58M123ABC here", "no pixel here"),
        ("as root", "as root"),
    ],
)
def test_a_device_is_told_by_its_name(text: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: HOST)
    address = {
        "host": "10.1.2.3",
        "port": 22,
        "user": "root",
        "jump": [{"host": "far.example"}],
        "serial": "R58M123ABC",
    }
    scrub = scrubber(DeviceProfile(name="pixel", driver="ssh", address=address))
    assert scrub(text) == told
    assert scrub(f"{Path.home()}/.ssh/id and {HOST}.") == "~/.ssh/id and this-computer."
