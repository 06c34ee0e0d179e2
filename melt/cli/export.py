"""`melt export`."""

from pathlib import Path

import click


@click.command(epilog="\b\nExample:\n  melt export results/demo --format llama-bench > demo.jsonl")
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--format", "format_", type=click.Choice(["llama-bench"]), required=True)
def export(results: Path, format_: str) -> None:
    """Write the runs in RESULTS to standard output in another program's format."""
    from melt.analysis.frames import load
    from melt.exchange.llama_bench_export import export_llama_bench

    loaded = load(results)
    for broken in loaded.damaged:
        click.echo(f"left out: {broken.folder.name} is damaged: {broken.reason}", err=True)
    flags = loaded.flags.groupby("run_id")["flag"].agg(list).to_dict()
    for recorded in loaded.recorded:
        lines = list(export_llama_bench(recorded.run, flags.get(recorded.run_id, ()))) if recorded.ok else []
        if not lines:
            click.echo(f"left out: {recorded.run_id} is no measurement with stamps", err=True)
        for line in lines:
            click.echo(line)
