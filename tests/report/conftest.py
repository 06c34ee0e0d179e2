"""A demo report, for tests that look at one."""

from pathlib import Path

import pytest

import melt
from melt.report import write_report
from tests.support.store_factory import write_store


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of its page; who reads it changes nothing."""
    folder = tmp_path_factory.mktemp("demo")
    write_store(folder / "results", sessions=6)
    return write_report(melt.load(folder / "results"), folder / "report")
