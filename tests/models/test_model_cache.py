import errno
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from melt.errors import ModelError
from melt.models import ModelCache
from melt.models.cache import Made, hash_file
from melt.util.locks import hold, in_use


def maker(content: bytes, calls: list[Path] | None = None) -> Callable[[Path], Made]:
    def make(out: Path) -> Made:
        if calls is not None:
            calls.append(out)
        out.write_bytes(content)
        return Made(revision="r1")

    return make


def test_a_reference_is_made_once(cache: ModelCache) -> None:
    calls: list[Path] = []
    first = cache.get_or_make("x:a", maker(b"abc", calls))
    again = cache.get_or_make("x:a", maker(b"abc", calls))
    assert len(calls) == 1
    assert first.path.read_bytes() == b"abc"
    assert (first.sha256, first.revision, first.refs) == (hash_file(first.path), "r1", ("x:a",))
    assert again.sha256 == first.sha256


def test_the_same_content_is_kept_once(cache: ModelCache) -> None:
    cache.get_or_make("x:a", maker(b"abc"))
    entry = cache.get_or_make("x:b", maker(b"abc"))
    assert entry.refs == ("x:a", "x:b")
    assert cache.size_bytes() == 3


@pytest.mark.parametrize("damage", [b"ab", b"abX", None])
def test_a_damaged_entry_is_noticed_and_made_again(cache: ModelCache, damage: bytes | None) -> None:
    entry = cache.get_or_make("x:a", maker(b"abc"))
    if damage is None:
        entry.path.unlink()
    else:
        entry.path.write_bytes(damage)
        os.utime(entry.path, ns=(1, 1))
    assert cache.find("x:a") is None
    assert cache.get_or_make("x:a", maker(b"abc")).path.read_bytes() == b"abc"


def test_a_touched_but_whole_file_stays(cache: ModelCache) -> None:
    entry = cache.get_or_make("x:a", maker(b"abc"))
    os.utime(entry.path, ns=(1, 1))
    assert cache.find("x:a") is not None


def test_a_maker_that_fails_leaves_nothing(cache: ModelCache) -> None:
    def fail(out: Path) -> Made:
        out.write_bytes(b"half")
        raise ModelError("no", "hint")

    with pytest.raises(ModelError):
        cache.get_or_make("x:a", fail)
    assert cache.find("x:a") is None
    assert not list(cache.folder.glob("files/*")) + list(cache.folder.glob(".making-*"))


def test_prune_drops_what_was_used_longest_ago(cache: ModelCache) -> None:
    for ref in "abc":
        cache.get_or_make(f"x:{ref}", maker(ref.encode() * 100))
        time.sleep(0.01)
    cache.find("x:a")
    removed = cache.prune(200)
    assert [entry.refs for entry in removed] == [("x:b",)]
    assert cache.size_bytes() == 200
    assert cache.find("x:b") is None
    assert cache.find("x:a") is not None
    assert len(cache.prune(0)) == 2
    assert not list(cache.folder.glob("files/*"))


def test_what_a_run_uses_is_not_pruned(cache: ModelCache) -> None:
    used, other = (cache.get_or_make(f"x:{ref}", maker(ref.encode() * 100)) for ref in "ab")
    with in_use(used.path), in_use(used.path):  # by two
        assert [entry.sha256 for entry in cache.prune(0)] == [other.sha256]
        assert used.path.exists()
    assert len(cache.prune(0)) == 1


def test_prune_sweeps_what_a_killed_process_left(cache: ModelCache) -> None:
    cache.get_or_make("x:a", maker(b"abc"))
    half, making = cache.folder / ".making-old", cache.folder / ".making-new"
    stray = cache.folder / "files" / "nobody.gguf"
    stray.write_bytes(b"s")
    (cache.folder / ".making-gone").symlink_to("nowhere")  # to look at it fails as for one that has just been cleared
    for folder in (half, making):
        folder.mkdir()
    os.utime(stray, (1, 1))
    held = hold(making)
    cache.prune(10**9)
    assert not half.exists()
    assert not stray.exists()
    assert making.exists()
    os.close(held)
    cache.get_or_make("x:b", maker(b"abcd"))  # so does whoever makes the next
    assert not making.exists()
    assert cache.find("x:a") is not None


@pytest.mark.parametrize(
    "index", ["", "{", "[]", '{"version": 99}', '{"version": 1, "refs": [], "files": {}, "hashes": {}}']
)
def test_a_damaged_index_starts_anew(cache: ModelCache, index: str) -> None:
    cache.get_or_make("x:a", maker(b"abc"))
    (cache.folder / "index.json").write_text(index)
    assert cache.find("x:a") is None
    assert cache.get_or_make("x:a", maker(b"abc")).path.read_bytes() == b"abc"


def test_a_file_is_hashed_once_until_it_changes(cache: ModelCache, tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(b"abc")
    hashed: list[int] = []
    first = cache.sha256_of(path, lambda done, total: hashed.append(done))
    assert cache.sha256_of(path, lambda done, total: hashed.append(done)) == first
    assert hashed == [3]
    path.write_bytes(b"abcd")
    assert cache.sha256_of(path) == hash_file(path) != first


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelError) as caught:
        ModelCache(tmp_path / "file" / "models").get_or_make("x:a", maker(b"x"))
    assert "MELT_CACHE" in caught.value.hint


CROWD = """
import sys
from melt.models import ModelCache, resolve
me = int(sys.argv[1])
for turn in range(6):
    name = ("mamba-130m", "tiny")[turn % 2]
    ref = f"synth:{name}@Q4_0" if name != "tiny" else f"x:{(me + turn) % 3}"
    if ref.startswith("synth"):
        print(resolve(ref).sha256)
    else:
        from melt.models.cache import Made
        def make(out):
            out.write_bytes(ref.encode() * 50_000)
            return Made()
        entry = ModelCache().get_or_make(ref, make)
        try:
            assert entry.path.read_bytes() == ref.encode() * 50_000
        except FileNotFoundError:
            pass  # pruned by the other process, which is allowed
    if turn == 3 and me == 0:
        ModelCache().prune(10**8)
"""


def test_processes_share_the_cache(cache: ModelCache) -> None:
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", CROWD, str(n)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for n in range(3)
    ]
    answers = [process.communicate(timeout=120) for process in crowd]
    assert [process.returncode for process in crowd] == [0, 0, 0], answers
    assert len({line for out, _ in answers for line in out.split()}) == 1
    for entry in cache.entries():
        assert hash_file(entry.path) == entry.sha256
    assert not list(cache.folder.glob(".making-*"))


def test_a_process_killed_while_making_does_no_harm(cache: ModelCache) -> None:
    script = (
        "import time\nfrom melt.models import ModelCache\n"
        "def make(out):\n    out.write_bytes(b'half')\n    print('half', flush=True)\n    time.sleep(60)\n"
        "ModelCache().get_or_make('x:a', make)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.kill()
    assert cache.find("x:a") is None
    assert cache.get_or_make("x:a", maker(b"whole")).path.read_bytes() == b"whole"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_used_without(
    cache: ModelCache, number: int, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    cache.get_or_make("x:a", maker(b"abc"))  # the lock files are there, from where locks work

    def none(fd: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    assert cache.get_or_make("x:a", maker(b"abc")).path.read_bytes() == b"abc"
    assert cache.get_or_make("x:b", maker(b"abcd")).path.read_bytes() == b"abcd"
    assert not recwarn.list
