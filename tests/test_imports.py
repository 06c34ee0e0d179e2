"""Imports run one way through the house, file by file, and what runs on devices imports nothing of melt."""

import ast
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "melt"

# Each room, and the rooms just below it: a file may import those of its own room and of all below.
ROOMS: dict[str, tuple[str, ...]] = {
    "version": (),
    "errors": (),
    "runner": (),
    "melt": ("version",),
    "__main__": ("cli",),
    "util": ("errors", "version"),
    "spec": ("util", "runner"),
    "models": ("spec",),
    "telemetry": ("spec",),
    "drivers": ("models", "telemetry"),
    "toolchain": ("drivers",),
    "backends": ("toolchain",),
    "store": ("models", "telemetry"),
    "analysis": ("store",),
    "execution": ("analysis", "backends"),
    "doctor": ("backends",),
    "report": ("analysis",),
    "exchange": ("analysis", "backends"),
    "cli": ("execution", "doctor", "report", "exchange"),
}


@dataclass(frozen=True)
class Imports:
    """What one file imports when it runs, imports for type checkers left out; ``late`` are those inside functions."""

    melt: frozenset[str]
    late: frozenset[str]
    third_party: frozenset[str]  # at its top


@cache
def modules() -> dict[str, Path]:
    """Every file of melt by its name as a module, but for those that run on devices."""
    names = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if not name.startswith("melt.runner."):
            names[name] = path
    return names


@cache
def imports_of(path: Path) -> Imports:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    inside = {
        id(found)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for found in ast.walk(node)
    }
    at_top: set[str] = set()
    late: set[str] = set()
    for node in ast.walk(tree):
        names: set[str] = set()
        if isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{a.name}" for a in node.names}
            names = {name if name in modules() else node.module for name in whole}
        if isinstance(node, ast.Import):
            names = {a.name for a in node.names}
        (late if id(node) in inside else at_top).update(names)
    ours = frozenset(n for n in at_top | late if n.split(".")[0] == "melt")
    others = {n.split(".")[0] for n in at_top - ours} - set(sys.stdlib_module_names)
    return Imports(ours, frozenset(ours & late - at_top), frozenset(others))


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else name


@cache
def below(name: str) -> frozenset[str]:
    """A room with all that lie below it."""
    return frozenset({name}).union(*(below(r) for r in ROOMS[name]))


@cache
def brought(name: str) -> frozenset[str]:
    """Third-party packages that importing a module brings, those of its package and of what both import included."""
    found: set[str] = set()
    left, seen = [name], set()
    while left:
        one = left.pop()
        if one in seen or one not in modules():
            continue
        seen.add(one)
        imports = imports_of(modules()[one])
        found |= imports.third_party
        left += [*(imports.melt - imports.late), one.rpartition(".")[0]]
    return frozenset(found)


@pytest.mark.parametrize("name", modules())
def test_a_file_imports_only_its_own_room_and_those_below(name: str) -> None:
    assert room(name) in ROOMS, f"{room(name)} has no place: add it to ROOMS"
    above = {other for other in imports_of(modules()[name]).melt if room(other) not in below(room(name))}
    assert not above


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {name: set(imports_of(path).melt) - {name} for name, path in modules().items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as e:
        pytest.fail(" <- ".join(e.args[1]))


def test_an_import_inside_a_function_saves_a_third_party_package() -> None:
    """Any other would only hide where a file hangs."""
    idle = {
        (name, other)
        for name, path in modules().items()
        for other in imports_of(path).late
        if not brought(other) - brought(name)
    }
    assert idle == set()


@pytest.mark.parametrize("path", sorted((ROOT / "runner").rglob("*.py")), ids=lambda p: p.name)
def test_what_runs_on_devices_imports_nothing_of_melt(path: Path) -> None:
    assert not imports_of(path).melt


def test_importing_melt_imports_nothing_heavy() -> None:
    heavy = "{'numpy', 'pandas', 'matplotlib', 'pydantic', 'click', 'rich', 'yaml', 'llama_cpp'}"
    code = f"import sys, melt; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
