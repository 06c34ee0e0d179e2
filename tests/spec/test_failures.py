"""Every kind of failure is explained, and docs/errors.md is what the code says."""

import re
from pathlib import Path

import pytest

from melt.errors import MeltError
from melt.spec.failures import FAILURES, page_table, what_to_do

ROOT = Path(__file__).parents[2]
MELT = [*(ROOT / "melt").rglob("*.py"), *(ROOT / "melt" / "runner").rglob("*.[ch]pp")]
# How host and runners name a kind: of a failure, of an error that a runner raises, of one that it sends.
NAMED = re.compile(
    r'(?:RunFailure\(\s*kind=|JobError\(\s*|send\("error", kind=|channel\.error\(|_skip\([^"]*)"([a-z_]+)"', re.S
)


def named() -> dict[str, str]:
    return {kind: path.name for path in MELT for kind in NAMED.findall(path.read_text(encoding="utf-8"))}


def test_every_kind_is_explained() -> None:
    found = named()
    assert len(found) > 12
    assert {kind: where for kind, where in found.items() if kind not in FAILURES} == {}


def test_the_page_is_what_the_code_says() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert page_table() in page, "write the table anew with melt.spec.failures.page_table()"
    kinds: list[type[MeltError]] = [MeltError, *MeltError.__subclasses__()]
    for kind in kinds:
        assert f"| `{kind.__name__}` | {kind.exit_code} | " in page


@pytest.mark.parametrize("kind", ["SIGSEGV", "SIGILL", *FAILURES])
def test_each_has_advice(kind: str) -> None:
    assert what_to_do(kind).endswith(".")
