"""Whether a cell fits is predicted for what it asks, and agrees with what the engine allots then."""

import pytest

from melt.execution.fit import predicted
from melt.models import find_shape, peek
from melt.spec.cell import Cell
from tests.models.engine_oracle import Request, build_all
from tests.models.test_memory import engine_metadata

REF, MIB = "synth:smollm2-135m@Q4_0", 2**20


@pytest.mark.parametrize(("flash_attn", "engines"), [("auto", -1), ("on", 1), ("off", 0)])
def test_what_a_cell_needs_depends_on_its_flash_attention(flash_attn: str, engines: int) -> None:
    cell = Cell.model_validate(
        {"device": "local", "model": REF, "prompt_tokens": 8000, "gen_tokens": 192, "flash_attn": flash_attn}
    )
    model = peek(REF)
    assert model
    needs = predicted(cell, model)
    assert needs
    settings = {"n_ctx": 8192, "n_outputs_max": 1, "flash_attn_type": engines}
    [engine] = build_all([Request(engine_metadata(find_shape("smollm2-135m")), settings)])
    assert not engine.error
    assert needs.kv_bytes / MIB == pytest.approx(engine.kv_mib, abs=0.011)
    assert needs.compute_bytes / MIB == pytest.approx(engine.compute_mib, rel=0.15)
