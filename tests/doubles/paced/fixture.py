"""The backend ``paced`` installed for a test: ``from tests.doubles.paced.fixture import paced``."""

import os
from pathlib import Path

import pytest

from tests.doubles.paced.build import paced_runner

SITE = Path(__file__).parent / "site"  # what pip would have written
ROOT = Path(__file__).parents[3]


@pytest.fixture
def paced(monkeypatch: pytest.MonkeyPatch) -> Path:
    """melt finds it in this process and in those that it starts; gives the program."""
    monkeypatch.syspath_prepend(str(SITE))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (SITE, ROOT))))
    return paced_runner()
