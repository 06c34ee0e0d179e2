"""A package's file is fetched by its address: nothing of it is run, and no other file is taken for it."""

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from melt.util.pypi import FetchError, fetch
from tests.support.package_index import PackageIndex, serving

SOURCE = "some_engine-1.2.tar.gz"
BOUND = 2**20


@pytest.fixture
def index(package_index: PackageIndex, monkeypatch: pytest.MonkeyPatch) -> PackageIndex:
    monkeypatch.setenv("PIP_INDEX_URL", package_index.url)
    return package_index


def source_that_runs(folder: Path, trace: Path) -> bytes:
    """A source distribution that leaves a trace where anything of it is run."""
    files = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "trap"\nbackend-path = ["."]\n',
        "trap.py": f"open({str(trace)!r}, 'w').close()\n",
    }
    with tarfile.open(folder / SOURCE, "w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"some_engine-1.2/{name}")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return (folder / SOURCE).read_bytes()


def test_nothing_of_a_source_is_run(index: PackageIndex, tmp_path: Path) -> None:
    data = source_that_runs(index.folder("some-engine"), tmp_path / "it ran")
    digest = hashlib.sha256(data).hexdigest()
    found = fetch("some_engine", "1.2", tmp_path, source=True, limit_bytes=BOUND, sha256=digest)
    assert found.read_bytes() == data
    assert not (tmp_path / "it ran").exists()


def test_another_file_is_refused(index: PackageIndex, tmp_path: Path) -> None:
    source_that_runs(index.folder("some-engine"), tmp_path / "it ran")
    with pytest.raises(FetchError, match=f"SHA-256 [0-9a-f]{{64}}, not {'0' * 64}"):
        fetch("some-engine", "1.2", tmp_path, source=True, limit_bytes=BOUND, sha256="0" * 64)


@pytest.mark.parametrize(
    ("version", "source", "limit_bytes", "said"),
    [
        ("1.3", True, BOUND, "has no some_engine-1.3.tar.gz"),
        ("1.2", False, BOUND, "has no some_engine-1.2-py3-none-any.whl"),
        ("1.2", True, 20, "longer than 20 bytes"),
    ],
)
def test_what_is_not_there_or_too_long_is_said(
    index: PackageIndex, tmp_path: Path, version: str, source: bool, limit_bytes: int, said: str
) -> None:
    source_that_runs(index.folder("some-engine"), tmp_path / "it ran")
    with pytest.raises(FetchError, match=said):
        fetch("some-engine", version, tmp_path, source=source, limit_bytes=limit_bytes)


@pytest.mark.parametrize("link", ["file:///etc/some_engine-1.2.tar.gz", "ftp://127.0.0.1/some_engine-1.2.tar.gz"])
def test_a_page_leads_to_no_file_of_this_machine(index: PackageIndex, tmp_path: Path, link: str) -> None:
    index.elsewhere[SOURCE] = link
    with pytest.raises(FetchError, match="not https"):
        fetch("some-engine", "1.2", tmp_path, source=True, limit_bytes=BOUND)


def test_an_index_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    said = r"^http://127\.0\.0\.1:9/simple/some-engine/: Failed to establish a new connection: .* Connection refused$"
    with pytest.raises(FetchError, match=said):
        fetch("some-engine", "1.2", tmp_path, source=True, limit_bytes=BOUND)


def test_who_asks_is_told_to_the_index_and_to_nobody_else(
    index: PackageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index.url.replace("http://", "http://me:a%40secret@"))
    with serving(tmp_path / "elsewhere") as elsewhere:
        source_that_runs(elsewhere.folder("some-engine"), tmp_path / "it ran")
        index.elsewhere[SOURCE] = elsewhere.url.replace("/simple", f"/files/some-engine/{SOURCE}")
        assert fetch("some-engine", "1.2", tmp_path, source=True, limit_bytes=BOUND).is_file()
        assert elsewhere.asked_by == [None]
    assert index.asked_by == ["Basic " + base64.b64encode(b"me:a@secret").decode()]
    with pytest.raises(FetchError) as failed:
        fetch("another", "1.2", tmp_path, source=True, limit_bytes=BOUND)
    assert "secret" not in str(failed.value)


def test_a_login_goes_along_within_the_index_and_is_in_no_message(
    index: PackageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index.url.replace("http://", "http://me:secret@").replace("/simple", "/moved"))
    source_that_runs(index.folder("some-engine"), tmp_path / "it ran")
    assert fetch("some-engine", "1.2", tmp_path, source=True, limit_bytes=BOUND).is_file()
    assert set(index.asked_by) == {"Basic " + base64.b64encode(b"me:secret").decode()}


@pytest.mark.parametrize("address", ["me:secret@host/simple", "http://me:secret@[::1", "file:///srv/index", "nonsense"])
def test_what_is_no_address_is_told_without_its_password(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", address)
    with pytest.raises(FetchError, match="no address that begins with https") as failed:
        fetch("some-engine", "1.2", tmp_path, source=True, limit_bytes=BOUND)
    assert "secret" not in str(failed.value)


def test_a_file_that_breaks_off_is_no_other_file(index: PackageIndex, tmp_path: Path) -> None:
    data = source_that_runs(index.folder("some-engine"), tmp_path / "it ran")
    index.breaks_off_at = 50
    with pytest.raises(FetchError, match="50 bytes read"):
        fetch("some-engine", "1.2", tmp_path, source=True, limit_bytes=BOUND, sha256=hashlib.sha256(data).hexdigest())
