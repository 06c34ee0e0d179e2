"""Execution providers that come as packages of their own and are registered with ONNX Runtime."""

import importlib
import importlib.util
import os
from collections.abc import Sequence
from typing import Any

import onnxruntime as ort

_QNN, _QNN_PACKAGE = "QNN", "onnxruntime_qnn"
# Qualcomm makes no x86 processor with an NPU: there the package's libraries compute what one would.
_EMULATED_ON = ("x86_64", "AMD64")


def plugins() -> list[str]:
    """The providers whose packages are installed; none is loaded."""
    can = hasattr(ort, "register_execution_provider_library")
    return [_QNN] if can and importlib.util.find_spec(_QNN_PACKAGE) is not None else []


def register(provider: str) -> bool:
    """Loads a plug-in; false where it finds nothing that it can compute on."""
    if not devices_of(provider):
        ort.register_execution_provider_library(provider, importlib.import_module(_QNN_PACKAGE).get_library_path())
    return bool(devices_of(provider))


def devices_of(provider: str) -> Sequence[Any]:
    """What of the machine a registered provider can compute on."""
    found: list[Any] = getattr(ort, "get_ep_devices", list)()
    return [d for d in found if d.ep_name == provider]


def options_of(provider: str) -> dict[str, str]:
    """What a plug-in is told."""
    package = importlib.import_module(_QNN_PACKAGE)
    return {
        "backend_path": package.get_qnn_htp_path(),
        "htp_performance_mode": "burst",
        "offload_graph_io_quantization": "0",  # else the CPU would round what goes in and out
    }


def version_of(provider: str) -> str:
    """A plug-in's version; empty where the provider is none."""
    return str(importlib.import_module(_QNN_PACKAGE).__version__) if provider == _QNN else ""


def versions() -> dict[str, str]:
    """Every plug-in's version."""
    return {f"{name.lower()}_provider": version_of(name) for name in plugins()}


def emulated(provider: str) -> str:
    """What computes in place of the processor that the provider is for; empty where that processor is there."""
    machine = os.uname().machine
    return f"Qualcomm's Hexagon libraries for {machine}" if provider == _QNN and machine in _EMULATED_ON else ""
