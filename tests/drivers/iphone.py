"""What tests of the iOS driver share: a simulated iPhone with melt's app on it, which is the runner built for here."""

import hashlib
import os
import plistlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from melt.errors import DeviceError
from melt.execution.plan import run
from melt.toolchain.build import built
from melt.toolchain.targets import find_target
from tests.conftest import KEPT_BUILDS
from tests.doubles.iphone.app import App
from tests.doubles.iphone.model import IPHONE_8, IPHONE_13, IPHONE_13_BEFORE_TUNNELS, Model
from tests.doubles.iphone.phone import IPhone
from tests.support.plans import a_plan
from tests.support.processes import running
from tests.support.profiles import write_profile

APP_ID = "org.example.melt-runner"


def melts_app(version: str = "0.2.0") -> App:
    """The app as this melt's ``docs/ios.md`` has it built, but for the processor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELT_CACHE", str(KEPT_BUILDS))
        program = built(find_target("host"))
    assert program.exists(), "make runners"
    return App(APP_ID, version, program, info={"MeltEngineVersion": "0.3.36"})


@pytest.fixture
def iphone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IPhone]:
    """An iPhone with iOS 16.7 that melt finds, with its app."""
    yield from found_by_melt(IPHONE_8, tmp_path, monkeypatch)


@pytest.fixture
def iphone_17(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IPhone]:
    """One with iOS 17.5."""
    yield from found_by_melt(IPHONE_13, tmp_path, monkeypatch)


@pytest.fixture
def iphone_17_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IPhone]:
    """One with iOS 17.3, which gives no tunnel."""
    yield from found_by_melt(IPHONE_13_BEFORE_TUNNELS, tmp_path, monkeypatch)


def found_by_melt(model: Model, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IPhone]:
    """A simulated iPhone, until the test has ended."""
    monkeypatch.setenv("HOME", str(folder / "home"))
    with IPhone(folder / "iphone", model) as phone:
        monkeypatch.setenv("USBMUXD_SOCKET_ADDRESS", phone.address)
        phone.install(melts_app())
        yield phone
        assert not [r for r in phone.apps.running.values() if r.alive], "an app runs on"
        assert not workers_of(os.getpid()), "a process with a tunnel is left"


def iphone_profile(folder: Path, phone: IPhone, **more: Any) -> str:
    """A profile that names the phone; gives its file."""
    return write_profile(folder / "my-iphone.yaml", "ios", **{"address": {"udid": phone.udid}, **more})


def container_of(phone: IPhone) -> Path:
    """The app's folder."""
    return phone.apps.container(phone.apps.by_id[APP_ID])


def workers_of(pid: int) -> list[int]:
    """The processes with a tunnel that this one has started and that have not ended."""
    return [p.pid for p in running(lambda p: "melt.drivers.ios.pymd3.worker" in p.argv and p.parent == pid)]


def image_at_hand(phone: IPhone, folder: Path) -> bytes:
    """The phone's developer disk image in the cache of a test with that folder; gives Apple's word for it.

    From iOS 17 on that is for one iPhone alone, and the iPhone knows it already.
    """
    if not phone.model.has_rsd:
        version = ".".join(phone.model.version.split(".")[:2])
        images = folder / "cache/ios/Xcode.app/Contents/Developer/Platforms/iPhoneOS.platform/DeviceSupport" / version
        images.mkdir(parents=True)
        (images / "DeveloperDiskImage.dmg").write_bytes(b"image" * 1000)
        (images / "DeveloperDiskImage.dmg.signature").write_bytes(b"by Apple")
        return b"by Apple"
    images = folder / "cache/ios/Personalized"
    images.mkdir(parents=True)
    (images / "Image.dmg").write_bytes(b"image" * 1000)
    (images / "Image.trustcache").write_bytes(b"trusted")
    cache = {"Info": {"IsLoadedByiBoot": False}, "Trusted": True, "Digest": b""}
    identity = {"ApBoardID": "0x0A", "ApChipID": "0x8110", "Manifest": {"LoadableTrustCache": cache}}
    (images / "BuildManifest.plist").write_bytes(plistlib.dumps({"BuildIdentities": [identity]}))
    phone.images.manifests[hashlib.sha384(b"image" * 1000).digest()] = b"by Apple"
    return b"by Apple"


STANDING: dict[str, tuple[Callable[[IPhone], None], str]] = {
    "locked": (lambda p: setattr(p, "locked", True), "the iPhone is locked"),
    "pairing pending": (lambda p: setattr(p, "dialog", "pending"), "asks whether to trust this computer"),
    "pairing refused": (lambda p: setattr(p, "dialog", "refused"), "somebody tapped Don't Trust"),
    "developer mode off": (lambda p: setattr(p, "developer_mode", False), "developer mode is off"),
    "image missing": (lambda p: p.images.mounted.clear(), "disk image is not mounted, and cannot be fetched"),
    "app missing": (lambda p: p.apps.remove(APP_ID), "is not on the iPhone"),
    "app too old": (lambda p: setattr(p, "ignored", p.install(melts_app("0.1.9"))), "is 0.1.9, and 0.2 or later"),
    "cable out": (lambda p: p.pull_cable(), "no iPhone"),
}


def refused_for(fault: str, phone: IPhone, folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Has something of ``STANDING`` stand in a run's way: it is told, with what to do, and nothing starts."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")  # nothing is fetched
    act, said = STANDING[fault]
    act(phone)
    with pytest.raises(DeviceError, match=said) as raised:
        run(a_plan(iphone_profile(folder, phone), model), folder / "results")
    assert raised.value.hint
    assert not phone.apps.running
    return said
