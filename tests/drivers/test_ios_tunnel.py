"""iPhones from iOS 17 on: whole runs whose developer services are in a tunnel, and what may go wrong with it."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import melt
from melt.drivers.ios.driver import IosDriver
from melt.errors import DeviceError
from melt.execution.plan import run
from melt.spec.events import ModelLoaded
from melt.store.store import Run
from tests.doubles.iphone.model import IPHONE_8, IPHONE_13_BEFORE_TUNNELS
from tests.doubles.iphone.phone import IPhone
from tests.doubles.iphone.rsd import Loopback
from tests.drivers.iphone import (
    container_of,
    found_by_melt,
    image_at_hand,
    iphone_17,
    iphone_17_3,
    iphone_profile,
    refused_for,
)
from tests.support.cli import melt_cli, melt_here
from tests.support.plans import When, a_plan, last, timed
from tests.support.waiting import wait_until

__all__ = ["iphone_17", "iphone_17_3"]
LONG = {"context": (2000,), "gen": (400,)}


@pytest.fixture
def iphone_16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IPhone]:
    yield from found_by_melt(IPHONE_8, tmp_path / "16", monkeypatch)


def test_the_command_line_measures_an_iphone_with_ios_17(
    iphone_17: IPhone, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = iphone_profile(tmp_path, iphone_17)
    words = ["run", "--device", profile, "--model", str(tiny_model), "--context", "64,128", "--gen", "16"]
    words += ["--sessions", "1", "--threads", "1", "--set", "idle_s=0.5"]
    words += ["--results", str(tmp_path / "results"), "--out", str(tmp_path / "report")]
    done = melt_cli(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "report" / "index.html").read_text()
    for told in ("iOS 17.5.1 (21F90)", "6 cores", "on a cable the iPhone charges"):
        assert told in page
    assert "ok" in melt_cli("doctor", "--device", profile).stdout
    wait_until(lambda: not iphone_17.tunnels)


def what_was_told(made: Run) -> tuple[set[str], dict[str, str], set[str]]:
    """The quantities that were recorded, what was absent and why, and which events came."""
    telemetry = made.manifest.telemetry
    quantities = {f"{s.site}:{s.quantity}" for s in telemetry.sources}
    return quantities, {a.name: a.reason for a in telemetry.absent}, {type(e).__name__ for e in made.events()}


def test_a_run_in_a_tunnel_tells_what_one_without_tells(
    iphone_16: IPhone, iphone_17: IPhone, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("melt.telemetry.kinds.ios_battery.BATTERY_MS", 100)  # some figures in every run, however short
    told, columns = [], []
    for phone in (iphone_16, iphone_17):
        monkeypatch.setenv("USBMUXD_SOCKET_ADDRESS", phone.address)
        folder = tmp_path / phone.model.version
        plan = a_plan(iphone_profile(folder, phone), tiny_model, context=(512,), gen=(200,))
        made = last(run(plan, folder / "results"))
        assert made.manifest.status == "ok", made.manifest.error
        runs = melt.load(folder / "results").runs
        assert (runs["decode_tok_per_s"] > 0).all()
        assert (runs["peak_rss_bytes"] > 1e6).all()
        assert timed(made)
        told.append(what_was_told(made))
        columns.append({c for c in runs.columns if runs[c].notna().all()})
    assert told[0] == told[1]
    assert columns[0] == columns[1]


def test_files_do_not_travel_through_the_tunnel(iphone_17: IPhone, tmp_path: Path, tiny_model: Path) -> None:
    model = tmp_path / "padded.gguf"
    model.write_bytes(tiny_model.read_bytes() + bytes(8 * 2**20))
    made = last(run(a_plan(iphone_profile(tmp_path, iphone_17), model), tmp_path / "results"))
    assert made.manifest.status == "ok", made.manifest.error
    (placed,) = (container_of(iphone_17) / "Documents/melt/files").glob("*/*.gguf")
    assert placed.read_bytes() == model.read_bytes()
    assert 0 < iphone_17.tunnelled_bytes < 2**20


def test_a_tunnel_that_root_has_opened_serves_ios_17_3(iphone_17_3: IPhone, tmp_path: Path, tiny_model: Path) -> None:
    with Loopback(iphone_17_3) as remote:
        host, port = remote.address
        profile = iphone_profile(tmp_path, iphone_17_3, address={"udid": iphone_17_3.udid, "host": host, "port": port})
        made = last(run(a_plan(profile, tiny_model), tmp_path / "results"))
    assert made.manifest.status == "ok", made.manifest.error
    assert made.manifest.device.os_build == "iOS 17.3.1 (21D61)"


def test_a_personalized_image_that_is_at_hand_is_mounted(iphone_17: IPhone, tmp_path: Path) -> None:
    iphone_17.images.mounted.clear()
    manifest = image_at_hand(iphone_17, tmp_path)
    checked = melt_here("doctor", "--device", iphone_profile(tmp_path, iphone_17))
    assert checked.returncode == 0, checked.stdout
    assert iphone_17.images.mounted == {"Personalized": manifest}
    assert iphone_17.images.trust_cache == b"trusted"


def test_an_image_that_apple_has_not_signed_yet_needs_the_network(
    iphone_17: IPhone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")  # nothing is fetched
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    iphone_17.images.mounted.clear()
    image_at_hand(iphone_17, tmp_path)
    iphone_17.images.manifests.clear()
    checked = melt_here("doctor", "--device", iphone_profile(tmp_path, iphone_17))
    assert checked.returncode == 1
    assert "cannot be fetched" in checked.stdout
    assert "on the network, so that the image can be fetched" in checked.stdout
    (tmp_path / "cache/ios/Personalized/BuildManifest.plist").write_bytes(b"damaged")
    checked = melt_here("doctor", "--device", str(tmp_path / "my-iphone.yaml"))
    assert "holds no developer disk image" in checked.stdout


@pytest.mark.parametrize("fault", ["developer mode off", "image missing", "locked", "app missing"])
def test_what_stands_in_the_way_is_told_with_what_to_do(
    fault: str, iphone_17: IPhone, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused_for(fault, iphone_17, tmp_path, tiny_model, monkeypatch)


def test_below_17_4_there_is_no_tunnel_without_root(iphone_17_3: IPhone, tmp_path: Path, tiny_model: Path) -> None:
    profile = iphone_profile(tmp_path, iphone_17_3)
    with pytest.raises(DeviceError, match="gives no tunnel to its developer services") as raised:
        run(a_plan(profile, tiny_model), tmp_path / "results")
    assert "17.4" in raised.value.hint
    checked = melt_here("doctor", "--device", profile)
    assert checked.returncode == 1
    assert "pymobiledevice3 remote start-tunnel" in checked.stdout


def test_a_tunnel_that_is_lost_is_opened_again_and_the_run_made_again(
    iphone_17: IPhone, tmp_path: Path, tiny_model: Path
) -> None:
    watcher = When(ModelLoaded, iphone_17.drop_tunnels)  # the cable stays in
    plan = a_plan(iphone_profile(tmp_path, iphone_17), tiny_model, **LONG)
    outcome = run(plan, tmp_path / "results", watcher)
    errors = [r.manifest.error.kind if r.manifest.error else "ok" for r in outcome.made]
    assert errors == ["transient", "ok"]
    wait_until(lambda: not iphone_17.tunnels)


def test_a_tunnel_of_somebody_elses_that_is_gone_is_told(iphone_17_3: IPhone, tmp_path: Path) -> None:
    with Loopback(iphone_17_3) as remote:
        host, port = remote.address
    address = {"udid": iphone_17_3.udid, "host": host, "port": port}
    checked = melt_here("doctor", "--device", iphone_profile(tmp_path, iphone_17_3, address=address))
    assert checked.returncode == 1
    assert f"no tunnel at {host} port {port}" in checked.stdout
    assert "start-tunnel" in checked.stdout


def test_a_tunnel_to_another_iphone_is_not_measured_through(iphone_17_3: IPhone, tmp_path: Path) -> None:
    with IPhone(tmp_path / "other", IPHONE_13_BEFORE_TUNNELS) as other, Loopback(other) as remote:
        host, port = remote.address
        address = {"udid": iphone_17_3.udid, "host": host, "port": port}
        checked = melt_here("doctor", "--device", iphone_profile(tmp_path, iphone_17_3, address=address))
    assert "is another iPhone's" in checked.stdout


def test_half_an_address_of_a_tunnel_is_told(iphone_17_3: IPhone, tmp_path: Path) -> None:
    address = {"udid": iphone_17_3.udid, "host": "::1"}
    checked = melt_here("doctor", "--device", iphone_profile(tmp_path, iphone_17_3, address=address))
    assert "both host and port" in checked.stdout


def test_an_iphone_with_ios_17_is_let_go(iphone_17: IPhone, tmp_path: Path) -> None:
    with closing(IosDriver(melt.drivers.profiles.read_profile(Path(iphone_profile(tmp_path, iphone_17))))) as driver:
        driver.clock()
        assert len(iphone_17.tunnels) == 1
    wait_until(lambda: not iphone_17.tunnels)
