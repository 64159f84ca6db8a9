#!/usr/bin/env python3
"""What `snug bench --json` measures, measured of llama.cpp: the other process of vs_llama.py.

    llama_worker.py FILE.gguf --threads 2 --depth 0,4096 --prompt 512 --gen 64 --repeats 3

The same protocol, token for token: one token to warm up, the cache filled up to a depth once, then alternately a prompt and single
tokens behind it, the cache cut back each time; logits of a prompt's last token only.  llama.cpp as it comes: memory map, its own
repacked layouts, flash attention and batch sizes at their defaults, an f16 cache.

Needs: tests/interop/requirements.txt.
"""
import argparse
import ctypes as C
import json
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "interop"))
import ggml_oracle as oracle  # noqa: E402

LIB = oracle._lib
LIB.llama_memory_seq_rm.restype = C.c_bool
LIB.llama_memory_seq_rm.argtypes = [C.c_void_p, C.c_int32, C.c_int32, C.c_int32]
LIB.llama_synchronize.argtypes = [C.c_void_p]
LIB.llama_print_system_info.restype = C.c_char_p
BATCH = 512     # llama.cpp's default for one pass over the weights


class Engine:
    def __init__(self, path, threads, n_ctx):
        model_params = LIB.llama_model_default_params()
        oracle.Model._set(model_params, oracle._MODEL, n_gpu_layers=0)
        self.model = LIB.llama_model_load_from_file(os.fsencode(path), model_params)
        if not self.model:
            sys.exit(f"llama.cpp does not load {path}")
        self.n_vocab = LIB.llama_vocab_n_tokens(LIB.llama_model_get_vocab(self.model))
        params = LIB.llama_context_default_params()
        oracle.Model._set(params, oracle._CONTEXT, n_ctx=n_ctx, n_threads=threads, n_threads_batch=threads)
        self.ctx = LIB.llama_init_from_model(self.model, params)
        if not self.ctx:
            sys.exit("llama_init_from_model")
        self.memory, self.length = LIB.llama_get_memory(self.ctx), 0
        self.seq = (C.c_int32 * 1)(0)

    def truncate(self, n):
        if n < self.length and not LIB.llama_memory_seq_rm(self.memory, 0, n, -1):
            sys.exit("llama_memory_seq_rm")
        self.length = n

    def decode(self, n):
        """The next n <= BATCH tokens in one call, the last one's logits."""
        ids = (C.c_int32 * n)(*((self.length + i + 1) * 2654435761 % self.n_vocab for i in range(n)))
        pos = (C.c_int32 * n)(*range(self.length, self.length + n))
        seqs = (C.POINTER(C.c_int32) * n)(*([self.seq] * n))
        wants = (C.c_int8 * n)(*([0] * (n - 1) + [1]))
        batch = oracle._Batch(n, ids, None, pos, (C.c_int32 * n)(*([1] * n)), seqs, wants)
        began = time.perf_counter()
        rc = LIB.llama_decode(self.ctx, batch)
        LIB.llama_synchronize(self.ctx)
        if rc:
            sys.exit(f"llama_decode: {rc}")
        self.length += n
        return time.perf_counter() - began

    def tokens(self, n, step):
        """Seconds of n tokens, `step` at a time."""
        return sum(self.decode(min(step, n - at)) for at in range(0, n, step))


def numbers(text):
    return [int(n) for n in text.split(",")]


def measure(args, threads):
    engine = Engine(args.file, threads, max(args.depth) + max(args.prompt, args.gen))
    engine.tokens(1, 1)
    engine.truncate(0)
    for depth in sorted(args.depth):
        engine.tokens(depth - engine.length, BATCH)
        run = {"threads": threads, "depth": depth, "prefill_samples_tps": [], "decode_samples_tps": []}
        for _ in range(args.repeats):
            for phase, n, step in (("prefill", args.prompt, BATCH), ("decode", args.gen, 1)):
                run[phase + "_samples_tps"].append(n / engine.tokens(n, step))
                engine.truncate(depth)
        yield run
    LIB.llama_free(engine.ctx)
    LIB.llama_model_free(engine.model)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--threads", type=numbers, default=[2])
    parser.add_argument("--depth", type=numbers, default=[0])
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--gen", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    runs = [run for threads in args.threads for run in measure(args, threads)]
    print(json.dumps({"model": args.file, "system": LIB.llama_print_system_info().decode().strip(" |"), "runs": runs}))


if __name__ == "__main__":
    main()
