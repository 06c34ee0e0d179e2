"""ONNX Runtime's sessions: which execution provider computes, and which really did."""

import re
from typing import Any

import onnxruntime as ort
from channel import JobError
from job import Job
from onnx_placement import SUFFIX, refused
from onnx_plugins import devices_of, options_of, plugins, register

CPU = "CPUExecutionProvider"
# By accelerator, the first that the build has. TensorRT and XNNPACK know none of the fused operators that decoders
# are made of, so they are taken only by name (the job's ``device``).
_PROVIDERS = {
    "cpu": ("CPU", "Xnnpack", "Dnnl"),
    "gpu": ("CUDA", "MIGraphX", "Dml", "WebGpu", "CoreML", "OpenVINO", "Tensorrt"),
    "npu": ("QNN", "CoreML", "Nnapi", "VitisAI", "OpenVINO"),
}
_OPTIONS: dict[tuple[str, str], dict[str, str]] = {
    ("gpu", "CoreML"): {"MLComputeUnits": "CPUAndGPU", "ModelFormat": "MLProgram"},
    ("npu", "CoreML"): {"MLComputeUnits": "CPUAndNeuralEngine", "ModelFormat": "MLProgram"},
    ("gpu", "OpenVINO"): {"device_type": "GPU"},
    ("npu", "OpenVINO"): {"device_type": "NPU"},
}
# Where a provider wants its buffers; all others take the host's.
MEMORY = {"CUDA": "cuda", "Tensorrt": "cuda", "Dml": "dml"}
_CONFIG = {
    "session.record_ep_graph_assignment_info": "1",  # costs nothing once the graph is loaded
}
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_ERRORS_ONLY, _SILENT = 3, 4
_NOT_ALL = "fallback to CPU EP has been explicitly disabled"
_MAX_MESSAGE = 500


def provider_kinds() -> list[dict[str, str]]:
    """Every provider of this build with the kinds of accelerator that it may stand for; the first one is told."""
    found = []
    for name in available():
        kind = next((kind for kind, names in _PROVIDERS.items() if name in names), None)
        if kind is not None:
            found.append({"name": name, "kind": kind})
    return found


def available() -> list[str]:
    """The providers of this build, without their common suffix."""
    built_in = [name.removesuffix(SUFFIX) for name in ort.get_available_providers()]
    return list(dict.fromkeys([*built_in, *plugins()]))


def choose_provider(job: Job) -> str:
    """The provider for a job.

    Raises:
        JobError: this build has none for the accelerator, or not the one that was named.
    """
    present = available()
    known = _PROVIDERS[job.accelerator]
    wanted = [name for name in known if job.device is None or name.lower() == job.device.lower()]
    chosen = next((name for name in wanted if name in present), None)
    if chosen is None:
        asked = f"{job.accelerator} provider {job.device!r}" if job.device else f"{job.accelerator} provider"
        raise JobError(
            "accelerator",
            f"no {asked}; this build of ONNX Runtime has: {', '.join(present)} (looked for {', '.join(known)})",
        )
    if chosen in plugins() and not register(chosen):
        raise JobError("accelerator", f"{chosen} is installed and finds nothing here that it could compute on")
    return chosen


def open_session(graph: str, job: Job, provider: str, profile_prefix: str = "", compile_to: str = "") -> Any:
    """A session of the graph, its threads and providers as the job says.

    With ``compile_to``, what the provider makes of the graph is left in that file and one beside it.

    Raises:
        JobError: ONNX Runtime refuses the graph, by its own words.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = job.threads, 1
    options.log_severity_level = _ERRORS_ONLY
    for key, value in _CONFIG.items():
        options.add_session_config_entry(key, value)
    if not job.extra_buffers:
        options.add_session_config_entry("session.disable_prepacking", "1")
    is_strict = job.accelerator == "npu" and not job.cpu_fallback
    if is_strict:  # a part left to the CPU would be measured as the NPU's
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if profile_prefix:
        options.enable_profiling, options.profile_file_prefix = True, profile_prefix
    for key, value in (_compiling(compile_to) if compile_to else {}).items():
        options.add_session_config_entry(key, value)
    try:
        return _session(graph, options, job, provider)
    except Exception as e:  # its errors are of many classes that share no base of their own
        nodes = _refused(graph, job, provider) if is_strict and _NOT_ALL in str(e) else ""
        raise JobError("placement" if nodes else "model_load", nodes or said(e)) from e


def _session(graph: str, options: Any, job: Job, provider: str) -> Any:
    if provider in plugins():
        options.add_provider_for_devices(devices_of(provider), options_of(provider))
        return ort.InferenceSession(graph, options)
    providers: list[Any] = [(provider + SUFFIX, _OPTIONS.get((job.accelerator, provider), {}))]
    providers += [CPU] if provider != "CPU" else []
    return ort.InferenceSession(graph, options, providers=providers)


def _compiling(path: str) -> dict[str, str]:
    return {"ep.context_enable": "1", "ep.context_file_path": path, "ep.context_embed_mode": "0"}


def _refused(graph: str, job: Job, provider: str) -> str:
    """The operators that the provider does not take, which its own refusal does not name: found by allowing them."""
    options = ort.SessionOptions()
    options.log_severity_level = _SILENT
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    for key, value in _CONFIG.items():
        options.add_session_config_entry(key, value)
    try:
        return refused(_session(graph, options, job, provider), graph, provider)
    except Exception:  # what it said at first is told
        return ""


def said(error: Exception) -> str:
    """ONNX Runtime's words, without its own decoration."""
    return _PREFIX.sub("", " ".join(str(error).split()))[:_MAX_MESSAGE]
