"""ggml and llama.cpp as oracles, from Python, with nothing to compile.

Method: the `xllamacpp` wheel is one shared object with all of llama.cpp and ggml linked in, and it exports their
C symbols; ctypes calls them.  Its Cython API gives neither ggml's quantizers nor logits for every position, the C
API gives both.  Importing this module raises OracleMissing when the wheel is not installed; see README.md.

    dequantize(type, bytes, n_rows, n_cols)    the scalar C decoder of ggml, to float32 (n_rows, n_cols)
    quantize(type, w, importance=None)         ggml_quantize_chunk, to bytes
    Model(path).logits(tokens, n_ctx)          teacher-forced logits of llama.cpp, float32 (n_tokens, n_vocab)

Two structs are passed by value, `llama_model_params` and `llama_context_params`.  Their layout changes from release
to release, so requirements.txt pins the wheel, each struct is an opaque block larger than any release's, filled by
llama.cpp's own `*_default_params`, and only the fields named below are changed; the defaults found at these offsets
are checked first, so that a wheel with another layout is refused rather than misread.  (The x86-64 System V ABI copies
a large struct by value onto the stack, after which the callee looks at no more than it knows: a longer one is safe.)
"""
import ctypes as C
import importlib.util
import os
import pathlib
import struct

import numpy as np


class OracleMissing(ImportError):
    """The binding is not installed, or is not the pinned one."""


def _find_library():
    spec = importlib.util.find_spec("xllamacpp")
    if spec is None:
        raise OracleMissing("the Python package xllamacpp is not installed")
    for folder in spec.submodule_search_locations:
        for so in pathlib.Path(folder).glob("xllamacpp*.so"):
            return so
    raise OracleMissing("xllamacpp has no shared object")


try:
    _lib = C.CDLL(str(_find_library()))
except OSError as e:
    raise OracleMissing(f"xllamacpp does not load: {e}") from e

for _symbol in ("ggml_quantize_chunk", "llama_decode", "dequantize_row_q4_K", "llama_init_from_model"):
    if not hasattr(_lib, _symbol):
        raise OracleMissing(f"xllamacpp does not export {_symbol}")

_f32p = C.POINTER(C.c_float)

# ggml's type numbers, as in a GGUF file; the decoder's name; elements and bytes per block.
TYPES = {
    "f32":    (0, None, 1, 4),
    "f16":    (1, None, 1, 2),
    "bf16":   (30, None, 1, 2),
    "q4_0":   (2, "q4_0", 32, 18),
    "q4_1":   (3, "q4_1", 32, 20),
    "q5_0":   (6, "q5_0", 32, 22),
    "q5_1":   (7, "q5_1", 32, 24),
    "q8_0":   (8, "q8_0", 32, 34),
    "q2_k":   (10, "q2_K", 256, 84),
    "q3_k":   (11, "q3_K", 256, 110),
    "q4_k":   (12, "q4_K", 256, 144),
    "q5_k":   (13, "q5_K", 256, 176),
    "q6_k":   (14, "q6_K", 256, 210),
    "iq4_nl": (20, "iq4_nl", 32, 18),
    "iq4_xs": (23, "iq4_xs", 256, 136),
    "tq1_0":  (34, "tq1_0", 256, 54),
    "tq2_0":  (35, "tq2_0", 256, 66),
    "iq2_xxs": (16, "iq2_xxs", 256, 66),
    "iq2_xs": (17, "iq2_xs", 256, 74),
    "iq3_xxs": (18, "iq3_xxs", 256, 98),
    "iq1_s":  (19, "iq1_s", 256, 50),
    "iq3_s":  (21, "iq3_s", 256, 110),
    "iq2_s":  (22, "iq2_s", 256, 82),
    "iq1_m":  (29, "iq1_m", 256, 56),
    "mxfp4":  (39, "mxfp4", 32, 17),
    "nvfp4":  (40, "nvfp4", 64, 36),
    "q1_0":   (41, "q1_0", 128, 18),
}
# Those that snug reads and does not write; of these, those that ggml encodes only with importances.
READ_TYPES = ("q4_1", "q5_0", "q5_1", "q1_0", "mxfp4", "nvfp4", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq1_s", "iq1_m")
NEED_IMPORTANCE = ("iq2_xxs", "iq2_xs", "iq1_s", "iq1_m")
# The block types that snug encodes.
BLOCK_TYPES = ("q8_0", "q4_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "tq1_0", "tq2_0")

_lib.ggml_quantize_chunk.restype = C.c_size_t
_lib.ggml_quantize_chunk.argtypes = [C.c_int, _f32p, C.c_void_p, C.c_int64, C.c_int64, C.c_int64, _f32p]
_lib.ggml_quantize_init.argtypes = [C.c_int]
_lib.ggml_row_size.restype = C.c_size_t
_lib.ggml_row_size.argtypes = [C.c_int, C.c_int64]


def row_bytes(type_name, n_cols):
    """Bytes of one row of n_cols elements; n_cols is a multiple of the block."""
    _, _, block, size = TYPES[type_name.lower()]
    if n_cols % block:
        raise ValueError(f"{type_name}: a row of {n_cols} is no multiple of the block of {block}")
    return n_cols // block * size


def _selfcheck_types():
    for name, (number, _, block, size) in TYPES.items():
        if _lib.ggml_row_size(number, block) != size:
            raise OracleMissing(f"xllamacpp: the block of {name} has another size than expected")


_selfcheck_types()


def dequantize(type_name, data, n_rows, n_cols):
    """Decode n_rows x n_cols elements with ggml's C decoder. Returns float32 (n_rows, n_cols)."""
    type_name = type_name.lower()
    _, stem, _, _ = TYPES[type_name]
    data = bytes(data)
    need = n_rows * row_bytes(type_name, n_cols)
    if len(data) != need:
        raise ValueError(f"{type_name}: {len(data)} bytes where {need} were expected")
    if type_name == "f32":
        return np.frombuffer(data, "<f4").reshape(n_rows, n_cols).copy()
    if type_name == "f16":
        return np.frombuffer(data, "<f2").astype("<f4").reshape(n_rows, n_cols)
    if type_name == "bf16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").reshape(n_rows, n_cols)
    out = np.empty((n_rows, n_cols), np.float32)
    decode = getattr(_lib, "dequantize_row_" + stem)
    decode.restype = None
    decode.argtypes = [C.c_char_p, _f32p, C.c_int64]
    decode(data, out.ctypes.data_as(_f32p), n_rows * n_cols)
    return out


def quantize(type_name, w, importance=None):
    """Encode w, float32 (n_rows, n_cols), by ggml_quantize_chunk.

    importance: None, or float32 (n_cols,), the weight a_j of column j, the same for all rows (llama.cpp's imatrix)."""
    type_name = type_name.lower()
    number = TYPES[type_name][0]
    w = np.ascontiguousarray(w, np.float32)
    n_rows, n_cols = w.shape
    out = C.create_string_buffer(n_rows * row_bytes(type_name, n_cols))
    imp = None
    if importance is not None:
        importance = np.ascontiguousarray(importance, np.float32)
        if importance.shape != (n_cols,):
            raise ValueError("importance: one number per column")
        imp = importance.ctypes.data_as(_f32p)
    _lib.ggml_quantize_init(number)
    written = _lib.ggml_quantize_chunk(number, w.ctypes.data_as(_f32p), out, 0, n_rows, n_cols, imp)
    if written != len(out):
        raise RuntimeError(f"ggml_quantize_chunk: {written} bytes where {len(out)} were expected")
    return out.raw


# ---- llama.cpp ----------------------------------------------------------------------------------------------------

class _Params(C.Structure):
    _fields_ = [("raw", C.c_uint8 * 512)]

    def get(self, offset, fmt):
        return struct.unpack_from(fmt, self.raw, offset)[0]

    def set(self, offset, fmt, value):
        struct.pack_into(fmt, self.raw, offset, value)


class _Batch(C.Structure):
    _fields_ = [("n_tokens", C.c_int32), ("token", C.POINTER(C.c_int32)), ("embd", _f32p),
                ("pos", C.POINTER(C.c_int32)), ("n_seq_id", C.POINTER(C.c_int32)),
                ("seq_id", C.POINTER(C.POINTER(C.c_int32))), ("logits", C.POINTER(C.c_int8))]


# name: (offset, format, default found there)
_CONTEXT = {"n_ctx": (0, "<I", 512), "n_batch": (4, "<I", 2048), "n_ubatch": (8, "<I", 512), "n_seq_max": (12, "<I", 1),
            "n_threads": (28, "<i", 4), "n_threads_batch": (32, "<i", 4), "rope_scaling_type": (40, "<i", -1),
            "flash_attn_type": (52, "<i", -1), "yarn_ext_factor": (64, "<f", -1.0), "defrag_thold": (84, "<f", -1.0),
            "type_k": (104, "<i", 1), "type_v": (108, "<i", 1), "embeddings": (136, "<B", 0),
            "offload_kqv": (137, "<B", 1), "swa_full": (140, "<B", 1)}
_MODEL = {"n_gpu_layers": (16, "<i", -1), "split_mode": (20, "<i", 1), "main_gpu": (24, "<i", -1),
          "use_extra_bufts": (74, "<B", 1)}

_LOG = C.CFUNCTYPE(None, C.c_int, C.c_char_p, C.c_void_p)
_keep_log = []


def _declare():
    lib = _lib
    for name in ("llama_context_default_params", "llama_model_default_params"):
        getattr(lib, name).restype = _Params
        getattr(lib, name).argtypes = []
    lib.llama_model_load_from_file.restype = C.c_void_p
    lib.llama_model_load_from_file.argtypes = [C.c_char_p, _Params]
    lib.llama_init_from_model.restype = C.c_void_p
    lib.llama_init_from_model.argtypes = [C.c_void_p, _Params]
    lib.llama_model_get_vocab.restype = C.c_void_p
    lib.llama_model_get_vocab.argtypes = [C.c_void_p]
    lib.llama_vocab_n_tokens.restype = C.c_int32
    lib.llama_vocab_n_tokens.argtypes = [C.c_void_p]
    lib.llama_tokenize.restype = C.c_int32
    lib.llama_tokenize.argtypes = [C.c_void_p, C.c_char_p, C.c_int32, C.POINTER(C.c_int32), C.c_int32, C.c_bool, C.c_bool]
    lib.llama_get_memory.restype = C.c_void_p
    lib.llama_get_memory.argtypes = [C.c_void_p]
    lib.llama_memory_clear.argtypes = [C.c_void_p, C.c_bool]
    lib.llama_decode.restype = C.c_int32
    lib.llama_decode.argtypes = [C.c_void_p, _Batch]
    lib.llama_get_logits.restype = _f32p
    lib.llama_get_logits.argtypes = [C.c_void_p]
    lib.llama_free.argtypes = [C.c_void_p]
    lib.llama_model_free.argtypes = [C.c_void_p]
    for name, table in (("llama_context_default_params", _CONTEXT), ("llama_model_default_params", _MODEL)):
        params = getattr(lib, name)()
        for field, (offset, fmt, default) in table.items():
            if params.get(offset, fmt) != default:
                raise OracleMissing(f"xllamacpp: {name}: {field} is not where the pinned release has it")
    if not os.environ.get("SNUG_ORACLE_VERBOSE"):
        _keep_log.append(_LOG(lambda level, text, data: None))
        lib.llama_log_set.argtypes = [_LOG, C.c_void_p]
        lib.llama_log_set(_keep_log[0], None)
    lib.llama_backend_init()


_declare()


class Model:
    """A GGUF loaded by llama.cpp. Weights are multiplied as they are stored: repacked layouts are off."""

    def __init__(self, path, n_threads=2):
        params = _lib.llama_model_default_params()
        self._set(params, _MODEL, use_extra_bufts=0, n_gpu_layers=0)
        self._model = _lib.llama_model_load_from_file(os.fsencode(path), params)
        if not self._model:
            raise RuntimeError(f"llama.cpp does not load {path}")
        self._vocab = _lib.llama_model_get_vocab(self._model)
        self.n_vocab = _lib.llama_vocab_n_tokens(self._vocab)
        self.n_threads = n_threads

    @staticmethod
    def _set(params, table, **values):
        for field, value in values.items():
            offset, fmt, _ = table[field]
            params.set(offset, fmt, value)

    def close(self):
        if self._model:
            _lib.llama_model_free(self._model)
            self._model = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def tokenize(self, text, add_special=False, parse_special=True):
        data = text.encode()
        out = (C.c_int32 * (len(data) + 16))()
        n = _lib.llama_tokenize(self._vocab, data, len(data), out, len(out), add_special, parse_special)
        if n < 0:
            raise RuntimeError("llama_tokenize")
        return np.array(out[:n], np.int32)

    def windows(self, tokens, n_ctx, kv="f16", flash_attn=False):
        """Yield, window by window of n_ctx tokens, each from an empty cache, float32 (n, n_vocab)."""
        tokens = np.ascontiguousarray(tokens, np.int32)
        params = _lib.llama_context_default_params()
        kv_type = {"f32": 0, "f16": 1}[kv]
        self._set(params, _CONTEXT, n_ctx=n_ctx, n_batch=n_ctx, n_ubatch=min(n_ctx, 512), n_threads=self.n_threads,
                  n_threads_batch=self.n_threads, type_k=kv_type, type_v=kv_type, flash_attn_type=int(flash_attn))
        ctx = _lib.llama_init_from_model(self._model, params)
        if not ctx:
            raise RuntimeError("llama_init_from_model")
        try:
            zero = (C.c_int32 * 1)(0)
            for start in range(0, len(tokens), n_ctx):
                part = tokens[start:start + n_ctx]
                n = len(part)
                _lib.llama_memory_clear(_lib.llama_get_memory(ctx), True)
                ids = (C.c_int32 * n)(*part.tolist())
                pos = (C.c_int32 * n)(*range(n))
                n_seq = (C.c_int32 * n)(*([1] * n))
                seq = (C.POINTER(C.c_int32) * n)(*([zero] * n))
                wants = (C.c_int8 * n)(*([1] * n))
                rc = _lib.llama_decode(ctx, _Batch(n, ids, None, pos, n_seq, seq, wants))
                if rc:
                    raise RuntimeError(f"llama_decode: {rc}")
                out = np.ctypeslib.as_array(_lib.llama_get_logits(ctx), (n, self.n_vocab))
                yield out.copy()
        finally:
            _lib.llama_free(ctx)

    def logits(self, tokens, n_ctx, kv="f16", flash_attn=False):
        """Logits of every position, float32 (n_tokens, n_vocab); see windows()."""
        return np.concatenate(list(self.windows(tokens, n_ctx, kv, flash_attn)))


def logits(gguf_path, tokens, n_ctx, kv="f16", flash_attn=False, n_threads=2):
    """Teacher-forced logits of llama.cpp on a GGUF; tokens are cut into windows of n_ctx, each from an empty cache."""
    with Model(gguf_path, n_threads) as model:
        return model.logits(tokens, n_ctx, kv, flash_attn)
