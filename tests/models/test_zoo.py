"""The shapes of the zoo, and the table of them in the docs."""

from pathlib import Path

from melt.models import ModelInfo, load_zoo, peek

DOCS = Path(__file__).parents[2] / "docs" / "models.md"


def row(name: str) -> str:
    info = peek(f"synth:{name}@Q4_0")
    assert info is not None
    n_layers = f"{info.n_layers}" + (f" ({info.n_attention_layers} attend)" if info.family == "hybrid" else "")
    return f"| `{name}` | {info.family} | {info.arch} | {parameters(info)} | {n_layers} | {info.context_trained:,} |"


def parameters(info: ModelInfo) -> str:
    active = f", {info.n_params_active / 1e6:,.0f} M active" if info.n_experts else ""
    return f"{info.n_params / 1e6:,.0f} M{active}"


def test_the_docs_list_every_shape() -> None:
    headings = ("Name", "Family", "Architecture", "Parameters", "Layers", "Trained context")
    head = (f"| {' | '.join(headings)} |", "| --- " * len(headings) + "|")
    table = "\n".join((*head, *map(row, load_zoo())))
    shown = DOCS.read_text().partition("<!-- zoo -->\n")[2].partition("\n<!-- /zoo -->")[0]
    assert shown == table, f"put this between the marks in {DOCS.name}:\n{table}"
