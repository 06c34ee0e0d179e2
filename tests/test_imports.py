"""Imports run one way through the house, and what runs on devices imports nothing of melt."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "melt"

# Every module may import only those of its own layer and of layers before it.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("melt.version", "melt.errors", "melt.runner"),
    ("melt", "melt.util"),
    ("melt.spec",),
    ("melt.telemetry",),
    ("melt.drivers", "melt.models"),
    ("melt.toolchain",),
    ("melt.backends", "melt.store"),
    ("melt.doctor", "melt.execution"),
    ("melt.analysis", "melt.exchange"),
    ("melt.report",),
    ("melt.cli",),
)
# Needs only the store: no device, whatever the layer's place allows.
FORBIDDEN = {
    "melt.analysis": ("melt.drivers", "melt.backends", "melt.execution.plan", "melt.execution.unit"),
    "melt.report": ("melt.drivers", "melt.backends", "melt.execution.plan", "melt.execution.unit"),
    "melt.models": ("melt.drivers",),
}


def modules() -> list[tuple[str, Path]]:
    out = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if not name.startswith("melt.runner."):
            out.append((name, path))
    return out


def imported(path: Path) -> set[str]:
    """Modules of melt that a file imports when it runs; imports for type checkers alone are left out."""
    found = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "melt":
            found.add(node.module)
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] == "melt"}
    return found


def room(name: str) -> int:
    for i, layer in enumerate(LAYERS):
        if any(name == r or (r != "melt" and name.startswith(f"{r}.")) for r in layer):
            return i
    raise AssertionError(f"{name} has no layer: add it to LAYERS")


@pytest.mark.parametrize(("name", "path"), modules(), ids=[m[0] for m in modules()])
def test_a_module_imports_only_what_comes_before_it(name: str, path: Path) -> None:
    late = {other for other in imported(path) if room(other) > room(name)}
    assert not late
    for prefix, forbidden in FORBIDDEN.items():
        if name.startswith(prefix):
            assert not {o for o in imported(path) if o.startswith(forbidden)}


@pytest.mark.parametrize("path", sorted((ROOT / "runner").rglob("*.py")), ids=lambda p: p.name)
def test_what_runs_on_devices_imports_nothing_of_melt(path: Path) -> None:
    assert not imported(path)


def test_importing_melt_imports_nothing_heavy() -> None:
    heavy = "{'numpy', 'pandas', 'matplotlib', 'pydantic', 'click', 'rich', 'yaml', 'llama_cpp'}"
    code = f"import sys, melt; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
