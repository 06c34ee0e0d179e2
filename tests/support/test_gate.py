"""What decides which tests run: the long tests' memory, and the digest of the doubles."""

from pathlib import Path

from tests.doubles.tested import digest
from tests.long import Part, failing


def test_what_has_passed_is_not_run_again_and_what_has_failed_is(tmp_path: Path) -> None:
    log = tmp_path / "log"
    passing, broken = ("sh", "-c", f"echo {{seed}} >> {log}"), ("sh", "-c", f"echo broken >> {log}; exit 1")
    part = Part("p", "", (passing, broken))
    for _ in range(2):
        assert list(failing(part, 7, tmp_path / "stamps")) == [broken]
    assert log.read_text().split() == ["7", "broken", "broken"]


def test_a_tree_with_changes_is_not_remembered(tmp_path: Path) -> None:
    part = Part("p", "", (("sh", "-c", f"echo once >> {tmp_path / 'log'}"),))
    assert not [*failing(part, 7, None), *failing(part, 7, None)]
    assert (tmp_path / "log").read_text().split() == ["once", "once"]


def test_the_doubles_have_changed_where_a_name_or_a_byte_has(tmp_path: Path) -> None:
    file = tmp_path / "phone" / "box.py"
    file.parent.mkdir()
    file.write_text("a")
    digests = [digest(tmp_path)]
    file.write_text("b")
    digests.append(digest(tmp_path))
    file.rename(tmp_path / "phone" / "other.py")
    digests.append(digest(tmp_path))
    assert len(set(digests)) == 3
    (tmp_path / "tested.sha256").write_text("x")
    (tmp_path / "phone" / "box.cpython-311.pyc").write_text("x")
    assert digest(tmp_path) == digests[-1]
