"""The engines that a Python has. They are known by their modules: which distribution brought one does not matter.

Needs nothing but the standard library of Python 3.8, so that a host may also ask a device's Python by this file's text
alone: ``python3 -c TEXT`` prints what ``interpreter`` gives, and nothing is written there.
"""

import contextlib
import json
import sys
from importlib import metadata
from importlib.util import find_spec
from typing import Any, Dict, NamedTuple  # noqa: UP035 - of Python 3.8

UNKNOWN = "unknown"


class EngineHome(NamedTuple):
    """Where an engine is: the module that it needs, and the module and class of ours that drive it."""

    needs: str
    module: str
    driver: str


ENGINES = {
    "llama.cpp": EngineHome("llama_cpp", "engine_llamacpp", "LlamaCpp"),
    "onnxruntime": EngineHome("onnxruntime", "engine_onnxruntime", "OnnxRuntime"),
}
PROVIDERS = ("onnxruntime-qnn", "onnxruntime-openvino", "onnxruntime-vitisai")  # of ONNX Runtime, for NPUs


def interpreter() -> Dict[str, Any]:  # noqa: UP006
    """This interpreter, its version, and its engines and their providers with the version of each."""
    engines = {name: version_of(home.needs) for name, home in ENGINES.items() if find_spec(home.needs)}
    for name in PROVIDERS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            engines[name] = metadata.version(name)
    return {"python": sys.executable, "version": list(sys.version_info[:2]), "engines": engines}


def version_of(module: str) -> str:
    """The version of the distribution that brought a package, ``unknown`` where none says that it did."""
    for one in metadata.distributions():
        files = "\n" + (one.read_text("RECORD") or "")
        tops = (one.read_text("top_level.txt") or "").split()
        if f"\n{module}/" in files or module in tops:
            return one.version
    return UNKNOWN


if __name__ == "__main__":
    print(json.dumps(interpreter()))
