"""Everything that reads what is not melt's own takes damage or refuses it; the long tests try a million inputs."""

import pytest

from tests.fuzz.targets import TARGETS
from tests.fuzz.trying import try_some


@pytest.mark.parametrize("name", TARGETS)
def test_damage_is_refused_or_read(name: str) -> None:
    _, ends, wrong, _ = try_some((name, 1, 60))
    assert not wrong, "\n".join(wrong)
    assert sum(ends.values()) == 60
