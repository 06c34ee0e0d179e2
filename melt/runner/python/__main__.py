"""The on-device program, Python flavour: ``run JOB``, ``sample SPEC``, ``info [GLOB ...]``, ``check-jobs FILE``.

Events and results go to stdout, words for people to stderr. Exit status 0 only after a ``done`` event with
status ok; 1 for an error event; 2 for wrong usage; 3 when the host has gone.
"""

import importlib
import json
import os
import select
import sys
import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from channel import Channel, JobError
from clock import clock_pair, now_ns
from engines import ENGINES, interpreter
from inventory import read_inventory
from job import PROTOCOL, Job, read_job, verdicts
from memory import process_memory
from model_folder import gather

RUNNER_VERSION = "0.1.0"
USAGE = (
    "usage: melt-runner run [--beside NAME PATH]... JOB [--watch-stdin [SECONDS]]"
    " | sample SPEC | info [--root DIR] [GLOB ...]"
)
LONGEST_SILENCE_S = 86_400


def main(argv: list[str]) -> int:
    """Runs one command; returns the exit status."""
    if argv and argv[0] == "run":
        beside, words = _beside(argv[1:])
        if len(words) == 1:
            return run(words[0], beside)
        if len(words) in (2, 3) and words[1] == "--watch-stdin":
            silence_s = _silence_s(words[2]) if len(words) == 3 else None
            if len(words) == 2 or silence_s is not None:
                _die_with_host(silence_s)
                return run(words[0], beside)
    if len(argv) == 3 and argv[0] == "compile":  # by a runner alone, for itself
        channel = Channel()
        module = importlib.import_module("onnx_compiled")
        channel.write(module.compile_graph(argv[1], argv[2]))
        return 0
    if len(argv) == 2 and argv[0] == "sample":
        import sampler

        with open(argv[1], encoding="utf-8") as f:  # noqa: PTH123 - the device program keeps its imports few
            return int(sampler.run(json.load(f), sys.stdin) or 0)
    if len(argv) == 2 and argv[0] == "check-jobs":  # a job a line, a verdict a line: for tests of many at once
        channel = Channel()
        for verdict in verdicts(argv[1]):
            channel.write(verdict)
        return 0
    if argv and argv[0] == "info":
        root = argv[2] if len(argv) > 2 and argv[1] == "--root" else ""
        print(json.dumps(info(argv[3:] if root else argv[1:], root)))
        return 0
    print(USAGE, file=sys.stderr)
    return 2


def _beside(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """The files that belong beside the model, by their names there; and what comes after them."""
    files = {}
    while len(words) > 2 and words[0] == "--beside":
        files[words[1]] = words[2]
        words = words[3:]
    return files, words


def run(job_path: str, beside: Mapping[str, str] = MappingProxyType({})) -> int:
    """One job, from ``hello`` to ``done``; ``beside`` are other files of its model, by their names in its folder."""
    channel = Channel()
    try:
        job = read_job(job_path)
        if beside:
            job.model = gather(job.model, beside, job_path)
        _run(job, channel)
    except JobError as e:
        channel.send("error", kind=e.kind, message=e.message)
    except MemoryError:
        channel.send("error", kind="out_of_memory", message="the runner could not allocate memory")
    else:
        channel.send("done", status="ok")
        return 0
    channel.send("done", status="error")
    return 1


def _run(job: Job, channel: Channel) -> None:
    from workload import run_workload

    if job.engine not in ENGINES:
        raise JobError("engine", f"engine {job.engine!r} is not known here; known: {', '.join(ENGINES)}")
    if job.cpu_mask is not None:
        _pin(job.cpu_mask)
    home = ENGINES[job.engine]
    try:
        module = importlib.import_module(home.module)
    except ImportError as e:
        raise JobError("engine", f"{job.engine} cannot be imported: {e}") from e
    library = module.Library()
    channel.send("hello", **_identity(), **library.hello(job))
    for told in library.compile(job):
        channel.send("compiled", **told)
    base_rss_bytes = process_memory(pss=False).get("rss_bytes")
    start_ns = now_ns()
    engine = getattr(module, home.driver)(library, job)
    end_ns = now_ns()
    memory = process_memory(pss=False)
    channel.send(
        "model",
        t_start_ns=start_ns,
        t_end_ns=end_ns,
        base_rss_bytes=base_rss_bytes,
        memory=memory,
        **engine.describe(),
    )
    for kind, message in engine.warnings():
        channel.send("warning", kind=kind, message=message)
    run_workload(engine, job, channel)
    if job.profile_ops:
        try:
            for ops in engine.profile():
                channel.send("ops", **ops)
        except JobError as e:  # the measurement itself is made
            channel.send("warning", kind="profile_ops", message=e.message)


def _identity() -> dict[str, Any]:
    return {
        "protocol": PROTOCOL,
        "runner": "melt-runner-python",
        "runner_version": RUNNER_VERSION,
        "clock": clock_pair(),
        "pid": os.getpid(),
    }


def _pin(cpu_mask: int) -> None:
    try:
        cpus = {i for i in range(cpu_mask.bit_length()) if cpu_mask >> i & 1}
        os.sched_setaffinity(0, cpus)
        if os.sched_getaffinity(0) != cpus:  # the kernel drops what it does not grant, and says nothing
            raise JobError("cpu_mask", f"cannot pin to CPUs {cpu_mask:#x}: not all of them are granted")
    except OSError as e:
        raise JobError("cpu_mask", f"cannot pin to CPUs {cpu_mask:#x}: {e.strerror}") from e


def _silence_s(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0.1 <= seconds <= LONGEST_SILENCE_S else None


def _die_with_host(silence_s: float | None) -> None:
    """Ends this process when the host's end of stdin closes, or no byte came for so long.

    So no runner outlives a host that was killed, or a cable that was pulled.
    """

    def watch() -> None:
        while select.select([0], [], [], silence_s)[0] and os.read(0, 4096):
            pass
        os._exit(3)

    threading.Thread(target=watch, daemon=True).start()


def info(globs: list[str], root: str) -> dict[str, Any]:
    """What this device says of itself: raw files by path, engines that can be imported, the clock."""
    return {
        **_identity(),
        "python": sys.version.split()[0],
        "machine": os.uname().machine,
        "kernel": os.uname().release,
        "page_size_bytes": os.sysconf("SC_PAGE_SIZE"),
        "engines": interpreter()["engines"],
        "files": read_inventory(globs, root),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
