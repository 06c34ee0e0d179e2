"""The program on the device: the size of a block and a job in, events of protocol 1 out. Standard library only."""

import json
import mmap
import os
import sys
import time
from pathlib import Path


def now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def send(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def read_all(weights: memoryview, block: memoryview) -> None:
    for start in range(0, len(weights), len(block)):
        part = weights[start : start + len(block)]
        block[: len(part)] = part


block_kib, job = int(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
load = job["workload"]
clock = {"name": "CLOCK_BOOTTIME", "t_ns": now_ns(), "realtime_ns": time.time_ns()}
who = {"runner": "read-weights", "runner_version": "0.1.0", "engine": "read-weights", "engine_version": "0.1.0"}
send("hello", protocol=1, pid=os.getpid(), clock=clock, accelerators=[{"name": "CPU", "kind": "cpu"}], **who)
start = now_ns()
with Path(job["model"]).open("rb") as f:
    weights = memoryview(mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ))
block = memoryview(bytearray(block_kib * 1024))
sizes = {"weights": len(weights), "compute": len(block)}
buffers = [{"device": "CPU", "kind": kind, "bytes": size} for kind, size in sizes.items()]
send("model", t_start_ns=start, t_end_ns=now_ns(), effective_accelerator="cpu", buffers=buffers, threads=1)
for index in range(-job["warmups"], job["iterations"]):
    start = now_ns()
    for _ in range(-(-load["prompt_tokens"] // job["ubatch"])):
        read_all(weights, block)
    end, stamps = now_ns(), []
    for _ in range(load["gen_tokens"]):
        read_all(weights, block)
        stamps.append(now_ns())
    prefill = {"tokens": load["prompt_tokens"], "t_start_ns": start, "t_end_ns": end}
    send("iteration", index=index % job["iterations"], warmup=index < 0, prefill=prefill, token_t_ns=stamps)
send("done", status="ok")
