"""`melt import`."""

from pathlib import Path

import click

from melt.errors import StoreError
from melt.util.text import plural


@click.group(
    "import", epilog="\b\nExample:\n  melt import llama-bench bench.jsonl --device pixel8 --results results/pixel8"
)
def importing() -> None:
    """Take results of other programs into a results folder."""


@importing.command("llama-bench", epilog="\b\nExample:\n  melt import llama-bench bench.jsonl --device pixel8")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True)
@click.option("--device", default="imported", show_default=True, help="What to call the machine it ran on.")
@click.option("--model", help="melt's reference of the model, for its family and shape.")
def llama_bench(path: Path, results: Path, device: str, model: str | None) -> None:
    """Import FILE, which llama-bench wrote with -o jsonl.

    A cell is a prompt and the tokens written behind it, so each length needs two tests: -p 512 -n 0, and
    -p 0 -n 64 -d 512. The results folder is the last line.
    """
    from melt.exchange.llama_bench_import import import_llama_bench

    imported = import_llama_bench(path, results, device, model)
    for name in imported.unmatched:
        click.echo(f"left out: {name}: no test of the other phase goes with it", err=True)
    if not imported.made and not imported.already_there:
        raise StoreError(
            f"{path}: no test of a prompt has one of generation at its depth",
            "For a prompt of 512 tokens, run llama-bench twice: -p 512 -n 0, and -p 0 -n 64 -d 512.",
        )
    click.echo(f"{plural(len(imported.made), 'run')} imported, {imported.already_there} there already")
    click.echo(str(results))
