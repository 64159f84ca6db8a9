#!/usr/bin/env python3
"""What llama-quantize would make of a model, without building llama.cpp: the peers that snug is judged beside.

    make_peers.py SRC OUT --recipe DIR --prefix lit4m- [--calib FILE] [--check] [--judge FILE]

SRC is a Hugging Face folder or an f32 GGUF.  The peers in DIR were made by llama.cpp's own programs from one model; this script makes
the same mixes from another model of the same shape (its outlier twin, say).  llama-quantize chooses the type of a tensor by the mix,
the tensor's name and the model's shape, never by its values, so the types of a file in DIR are the mix's types for SRC too, and the
bytes come from the same function, ggml_quantize_chunk.  The importances are measured as llama-imatrix does it: llama.cpp runs the f32
model, its eval callback sees every matrix product inside a block, and x*x of the products' inputs is summed per channel; the first 700,000
bytes of the calibration text in chunks of the context (--ctx), as the peers in DIR say of themselves (quantize.imatrix.chunks_count).
The embedding gets none: llama-imatrix does not see it.

--check (SRC is the model that DIR was made from): every tensor is compared with the file in DIR, and the share of equal bytes printed.
This is the proof that the peers made here are as strong as the real ones.
--judge FILE: perplexity and KL to SRC by llama.cpp's own engine on the first --judge-bytes of a text, as in DIR's README.

Needs: the pinned packages of tests/interop/requirements.txt.
"""
import argparse
import ctypes as C
import os
import pathlib
import struct
import sys
import tempfile

os.environ.setdefault("OMP_WAIT_POLICY", "passive")     # before ggml is loaded: threads that wait leave the cores to others
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "interop"))
import gguf  # noqa: E402
import numpy as np  # noqa: E402

import ggml_oracle as oracle  # noqa: E402
import make_gguf  # noqa: E402

LIB = oracle._lib
F32 = gguf.GGMLQuantizationType.F32
PLAIN = {F32: "<f4", gguf.GGMLQuantizationType.F16: "<f2"}

# ---- importances --------------------------------------------------------------------------------------------------

# ggml_tensor, as ggml.h has it: type, buffer, ne[4], nb[4], op, op_params[16], flags, src[10], view_src, view_offs, data, name[64]
NE, NB, SRC, DATA, NAME = 16, 48, 152, 248, 256
# llama_context_params: cb_eval and cb_eval_user_data stand between defrag_thold (84) and type_k (104), see ggml_oracle.
CB_EVAL = 88
LIB.ggml_op_desc.restype, LIB.ggml_op_desc.argtypes = C.c_char_p, [C.c_void_p]
LIB.ggml_get_name.restype, LIB.ggml_get_name.argtypes = C.c_char_p, [C.c_void_p]
LIB.llama_vocab_get_add_bos.restype, LIB.llama_vocab_get_add_bos.argtypes = C.c_bool, [C.c_void_p]
LIB.llama_vocab_bos.restype, LIB.llama_vocab_bos.argtypes = C.c_int32, [C.c_void_p]
CALLBACK = C.CFUNCTYPE(C.c_bool, C.c_void_p, C.c_bool, C.c_void_p)


def at(tensor, offset, fmt):
    return struct.unpack_from(fmt, C.string_at(tensor + offset, struct.calcsize(fmt)))


class Collector:
    """llama-imatrix's collector: sums x*x over the rows of the right-hand side of every MUL_MAT of a block's matrix."""

    def __init__(self):
        self.squares, self.rows = {}, {}
        self.callback = CALLBACK(self.see)

    def see(self, tensor, ask, _):
        if LIB.ggml_op_desc(tensor) != b"MUL_MAT":
            return not ask
        weight, x = at(tensor, SRC, "<QQ")
        name = LIB.ggml_get_name(weight).decode()
        if not name.startswith("blk."):
            return not ask
        if ask:
            return True
        ne, nb = at(x, NE, "<4q"), at(x, NB, "<4Q")
        if at(x, 0, "<i")[0] != 0 or nb[1] != 4 * ne[0] or ne[2] * ne[3] != 1:
            raise RuntimeError(f"{name}: its input is not a plain f32 matrix")
        values = np.ctypeslib.as_array(C.cast(at(x, DATA, "<Q")[0], C.POINTER(C.c_float)), (ne[1], ne[0]))
        self.squares[name] = self.squares.get(name, 0) + np.square(values, dtype=np.float32).sum(axis=0, dtype=np.float64)
        self.rows[name] = self.rows.get(name, 0) + ne[1]
        return True

    def importances(self):
        return {name: (s / self.rows[name]).astype(np.float32) for name, s in self.squares.items()}


def measure_importances(path, text, n_ctx, n_threads=2):
    """{tensor name: float32 (n_cols,)} of the whole chunks of n_ctx tokens of a text."""
    collector = Collector()
    with oracle.Model(path, n_threads) as model:
        tokens = model.tokenize(text)
        chunks = len(tokens) // n_ctx
        params = LIB.llama_context_default_params()
        if params.get(CB_EVAL, "<Q"):
            raise oracle.OracleMissing("llama_context_params: cb_eval is not where the pinned release has it")
        oracle.Model._set(params, oracle._CONTEXT, n_ctx=n_ctx, n_batch=n_ctx, n_ubatch=min(n_ctx, 512), n_threads=n_threads,
                          n_threads_batch=n_threads)
        params.set(CB_EVAL, "<Q", C.cast(collector.callback, C.c_void_p).value)
        ctx = LIB.llama_init_from_model(model._model, params)
        zero = (C.c_int32 * 1)(0)
        for chunk in range(chunks):
            part = tokens[chunk * n_ctx:(chunk + 1) * n_ctx]
            LIB.llama_memory_clear(LIB.llama_get_memory(ctx), True)
            ids, pos, one = (C.c_int32 * n_ctx)(*part.tolist()), (C.c_int32 * n_ctx)(*range(n_ctx)), (C.c_int32 * n_ctx)(*([1] * n_ctx))
            seq, wants = (C.POINTER(C.c_int32) * n_ctx)(*([zero] * n_ctx)), (C.c_int8 * n_ctx)(*([1] * n_ctx))
            if LIB.llama_decode(ctx, oracle._Batch(n_ctx, ids, None, pos, one, seq, wants)):
                raise RuntimeError("llama_decode")
        LIB.llama_free(ctx)
    return collector.importances(), chunks


# ---- encoding -----------------------------------------------------------------------------------------------------

def encode(kind, w, importance):
    """w, float32 (n_rows, n_cols), as the bytes of a ggml type."""
    if kind in PLAIN:
        return w.astype(PLAIN[kind]).tobytes()
    block, size = gguf.GGML_QUANT_SIZES[kind]
    n_rows, n_cols = w.shape
    w, out = np.ascontiguousarray(w, np.float32), C.create_string_buffer(n_rows * n_cols // block * size)
    a = None if importance is None else np.ascontiguousarray(importance, np.float32).ctypes.data_as(oracle._f32p)
    LIB.ggml_quantize_init(int(kind))
    if LIB.ggml_quantize_chunk(int(kind), w.ctypes.data_as(oracle._f32p), out, 0, n_rows, n_cols, a) != len(out):
        raise RuntimeError(f"ggml_quantize_chunk: {kind.name}")
    return out.raw


def make(recipe, weights, importances, out, check):
    """The file `recipe` with other weights. Returns (equal bytes, bytes) of the matrices beside the recipe."""
    data, reader, equal, total = bytearray(recipe.read_bytes()), gguf.GGUFReader(recipe), 0, 0
    for t in reader.tensors:
        shape = tuple(int(n) for n in reversed(t.shape))
        if weights[t.name].shape != shape:
            raise ValueError(f"{t.name}: {weights[t.name].shape} in the source, {shape} in {recipe}")
        raw = encode(t.tensor_type, weights[t.name], importances.get(t.name))
        old = bytes(data[t.data_offset:t.data_offset + t.n_bytes])
        if len(raw) != len(old):
            raise ValueError(f"{t.name}: {len(raw)} bytes, {len(old)} in {recipe}")
        data[t.data_offset:t.data_offset + t.n_bytes] = raw
        if check and len(shape) > 1:
            same = int((np.frombuffer(raw, np.uint8) == np.frombuffer(old, np.uint8)).sum())
            equal, total = equal + same, total + len(raw)
            if same < 0.98 * len(raw):
                print(f"  {t.name} ({t.tensor_type.name}): {100 * same / len(raw):.1f} % of the bytes equal")
    out.write_bytes(data)
    return equal, total


# ---- judging by llama.cpp's own engine ----------------------------------------------------------------------------

def log_softmax(x):
    x = x.astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def judge(reference, path, text, n_ctx, n_threads):
    """Perplexities of both, mean KL, 99 % KL, same top; every position of every window. As in llama-perplexity, BOS takes the place of
    a window's first token where the model wants one."""
    kl, same, nll = [], [], [[], []]
    with oracle.Model(reference, n_threads) as a, oracle.Model(path, n_threads) as b:
        tokens = a.tokenize(text)
        if LIB.llama_vocab_get_add_bos(a._vocab):
            tokens[::n_ctx] = LIB.llama_vocab_bos(a._vocab)
        for i, (la, lb) in enumerate(zip(a.windows(tokens, n_ctx), b.windows(tokens, n_ctx))):
            p, q = log_softmax(la), log_softmax(lb)
            kl.append((np.exp(p) * (p - q)).sum(axis=1))
            same.append(la.argmax(axis=1) == lb.argmax(axis=1))
            follows = tokens[i * n_ctx + 1:i * n_ctx + len(la)]
            for log_prob, out in ((p, nll[0]), (q, nll[1])):
                out.append(-log_prob[np.arange(len(follows)), follows])
    kl, same = np.concatenate(kl), np.concatenate(same)
    ppl = [np.exp(np.concatenate(x).mean()) for x in nll]
    return ppl[0], ppl[1], kl.mean(), np.quantile(kl, 0.99), same.mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path, help="a folder")
    parser.add_argument("--recipe", type=pathlib.Path, default=ROOT.parent / "shared/peers", help="folder of llama.cpp's files of a like model")
    parser.add_argument("--prefix", required=True, help="of the files' names in it, e.g. lit4m-")
    parser.add_argument("--name", help="prefix of the files made (default: the same)")
    parser.add_argument("--calib", type=pathlib.Path, help="calibration text; without it, no importances")
    parser.add_argument("--calib-bytes", type=int, default=700000)
    parser.add_argument("--ctx", type=int, default=256)
    parser.add_argument("--pre", default="gpt-2", help="tokenizer.ggml.pre of a Hugging Face folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--judge", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--judge-bytes", type=int, default=100000)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    prefix = args.name if args.name is not None else args.prefix

    with tempfile.TemporaryDirectory() as tmp:
        source = args.src
        if source.is_dir():
            source = pathlib.Path(tmp) / "source-f32.gguf"
            make_gguf.write(args.src, source, "f32", args.pre)
        weights = {}
        for t in gguf.GGUFReader(source).tensors:
            if t.tensor_type != F32:
                sys.exit(f"{source}: {t.name} is not f32")
            weights[t.name] = np.array(t.data)
        importances = {}
        if args.calib:
            text = args.calib.read_bytes()[:args.calib_bytes].decode(errors="ignore")
            importances, chunks = measure_importances(source, text, args.ctx, args.threads)
            np.savez(args.out / f"{prefix}importance.npz", **importances)
            print(f"importances of {len(importances)} matrices from {chunks} chunks of {args.ctx} tokens")
        text = args.judge.read_bytes()[:args.judge_bytes].decode(errors="ignore") if args.judge else None
        if text:
            print("| file | bytes | perplexity | source's | mean KL | 99 % KL | same top token |\n|---|---|---|---|---|---|---|")
        for recipe in sorted(args.recipe.glob(args.prefix + "*.gguf"), key=lambda p: -p.stat().st_size):
            out = args.out / (prefix + recipe.name.removeprefix(args.prefix))
            equal, total = make(recipe, weights, importances, out, args.check)
            if args.check:
                print(f"{out.name}: {equal} of {total} bytes of matrices equal ({100 * equal / total:.3f} %)")
            if text:
                ref, ppl, kl, p99, same = judge(source, out, text, args.ctx, args.threads)
                print(f"| {out.stem.removeprefix(prefix)} | {out.stat().st_size} | {ppl:.3f} | {ref:.3f} | {kl:.6f} | {p99:.5f} | {100 * same:.2f} % |", flush=True)


if __name__ == "__main__":
    main()
