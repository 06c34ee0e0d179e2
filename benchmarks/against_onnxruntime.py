"""The decode loop of melt's engine for ONNX Runtime against onnxruntime-genai's, and against the barest loop there is.

    python -m benchmarks.against_onnxruntime [--rounds 200] [--block 4] [--prompt 512] [--threads 2]

All three read the same folder (``synth:smollm2-135m@onnx-int4``, which onnxruntime-genai takes) in one process, and
decode greedily behind the same prompt. A round is one block of tokens from each, in random order, so that whatever
else the machine does falls on all alike; the ratio is melt's speed over the other's.

The bare loop is ``session.run_with_iobinding`` over buffers that are bound once, with the argmax that greedy decoding
needs: what melt's engine adds to it is its own bookkeeping. Wanted: 0.95 of onnxruntime-genai, 0.98 of the bare loop.
"""

import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks.common import arguments, machine, ratio_line
from melt.drivers.runner import runner_path
from melt.models.refs import resolve
from melt.spec.job import Job, Workload

REF = "synth:smollm2-135m@onnx-int4"
Decode = Callable[[int], None]


def of_melt(folder: str, prompt: list[int], gen: int, threads: int) -> Decode:
    """melt's engine, as its runner drives it."""
    sys.path.insert(0, str(runner_path()))
    from engine_onnxruntime import Library, OnnxRuntime
    from job import parse_job

    given = Job(
        job_id="b",
        engine="onnxruntime",
        model=folder,
        threads=threads,
        workload=Workload(prompt_tokens=len(prompt), gen_tokens=gen),
    )
    job = parse_job(given.model_dump(mode="json"))
    engine = OnnxRuntime(Library(), job)
    engine.reset()
    engine.prepare(prompt)
    engine.prefill()

    def decode(count: int) -> None:
        for _ in range(count):
            engine.decode(engine.greedy())

    return decode


def of_genai(folder: str, prompt: list[int], gen: int, threads: int) -> Decode:
    """onnxruntime-genai's own loop."""
    import onnxruntime_genai as genai

    config = genai.Config(folder)
    options = {"intra_op_num_threads": threads, "inter_op_num_threads": 1}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    params = genai.GeneratorParams(model := genai.Model(config))
    params.set_search_options(max_length=len(prompt) + gen, do_sample=False)
    generator = genai.Generator(model, params)
    generator.append_tokens(prompt)

    def decode(count: int) -> None:
        for _ in range(count):
            generator.generate_next_token()

    return decode


def bare(folder: str, prompt: list[int], gen: int, threads: int) -> Decode:
    """The session and one binding; nothing else."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(f"{folder}/model.onnx", options, providers=["CPUExecutionProvider"])
    n_ctx = len(prompt) + gen
    mask, token = np.ones((1, n_ctx), np.int64), np.zeros((1, 1), np.int64)
    logits = np.zeros(session.get_outputs()[0].shape[2], np.float32)
    binding: Any = session.io_binding()
    for given in session.get_inputs()[2:]:
        cache = ort.OrtValue.ortvalue_from_shape_and_type([1, given.shape[1], n_ctx, given.shape[3]], np.float32)
        binding.bind_ortvalue_input(given.name, cache)
        binding.bind_ortvalue_output(given.name.replace("past_key_values", "present"), cache)
    binding.bind_output("logits", "cpu", 0, np.float32, (1, 1, len(logits)), logits.ctypes.data)
    tokens = np.array([prompt])
    end = len(prompt)

    def call(ids: Any) -> None:
        binding.bind_input("input_ids", "cpu", 0, np.int64, ids.shape, ids.ctypes.data)
        binding.bind_input("attention_mask", "cpu", 0, np.int64, (1, end), mask.ctypes.data)
        session.run_with_iobinding(binding)

    call(tokens)
    binding.bind_input("input_ids", "cpu", 0, np.int64, (1, 1), token.ctypes.data)

    def decode(count: int) -> None:
        nonlocal end
        for _ in range(count):
            token[0, 0] = logits.argmax()
            end += 1
            binding.bind_input("attention_mask", "cpu", 0, np.int64, (1, end), mask.ctypes.data)
            session.run_with_iobinding(binding)

    return decode


def main() -> None:
    """Prints both ratios."""
    parser = arguments(__doc__, rounds=2, prompt=32)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--block", type=int, default=4, help="tokens at a time")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2, help="1 where other work takes turns on the cores")
    args = parser.parse_args()
    print(machine())
    folder = resolve(REF).path
    prompt = [(7919 * i + 11) % 49152 for i in range(args.prompt)]
    gen = args.block * (args.rounds + 1) + 1
    loops = {"melt": of_melt, "onnxruntime-genai": of_genai, "bare": bare}
    decoders = {name: make(folder, prompt, gen, args.threads) for name, make in loops.items()}
    speeds: dict[str, list[list[float]]] = {name: [] for name in decoders}
    shuffler = random.Random(0)
    for round_ in range(args.rounds + 1):
        order = list(decoders)
        shuffler.shuffle(order)
        for name in order:
            start = time.perf_counter()
            decoders[name](args.block)
            if round_:  # the first is a warm-up
                speeds[name].append([args.block / (time.perf_counter() - start)])
    for name in ("onnxruntime-genai", "bare"):
        print(
            ratio_line(f"{REF} decode at depth {args.prompt}: melt / {name}", speeds["melt"], speeds[name]), flush=True
        )


if __name__ == "__main__":
    main()
