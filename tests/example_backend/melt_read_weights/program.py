"""The program on the device: one job in, events of protocol 1 out. Standard library only."""

import json
import mmap
import os
import sys
import time
from pathlib import Path

ALL = slice(None, None, 64)  # a byte of every cache line


def now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def send(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


job = json.loads(Path(sys.argv[1]).read_text())
load = job["workload"]
clock = {"name": "CLOCK_BOOTTIME", "t_ns": now_ns(), "realtime_ns": time.time_ns()}
who = {"runner": "read-weights", "runner_version": "0.1.0", "engine": "read-weights", "engine_version": "0.1.0"}
send("hello", protocol=1, pid=os.getpid(), clock=clock, accelerators=[{"name": "CPU", "kind": "cpu"}], **who)
start = now_ns()
with Path(job["model"]).open("rb") as f:
    weights = memoryview(mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ))
buffers = [{"device": "CPU", "kind": "weights", "bytes": len(weights)}]
send("model", t_start_ns=start, t_end_ns=now_ns(), effective_accelerator="cpu", buffers=buffers, threads=1)
for index in range(-job["warmups"], job["iterations"]):
    start = now_ns()
    for _ in range(-(-load["prompt_tokens"] // job["ubatch"])):
        bytes(weights[ALL])
    end, stamps = now_ns(), []
    for _ in range(load["gen_tokens"]):
        bytes(weights[ALL])
        stamps.append(now_ns())
    prefill = {"tokens": load["prompt_tokens"], "t_start_ns": start, "t_end_ns": end}
    send("iteration", index=index % job["iterations"], warmup=index < 0, prefill=prefill, token_t_ns=stamps)
send("done", status="ok")
