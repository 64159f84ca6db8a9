#!/usr/bin/env python3
"""A GGUF with every tensor decoded to f32 by ggml: the same weights in a file that anything reads.

    widen.py SRC.gguf OUT.gguf

For peers of types that snug does not read (IQ2_XS, IQ3_XXS and their kin).  With f32 activations the widened file is the same function:
a type is its decoded weights.

Needs: the pinned packages of tests/interop/requirements.txt.
"""
import ctypes as C
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "tests" / "interop"))
import gguf  # noqa: E402
import numpy as np  # noqa: E402

import ggml_oracle as oracle  # noqa: E402

KIND = gguf.GGMLQuantizationType


def decode(kind, data, n_rows, n_cols):
    """float32 (n_rows, n_cols) of a tensor's bytes."""
    if kind == KIND.F32:
        return data.view("<f4").reshape(n_rows, n_cols)
    if kind == KIND.F16:
        return data.view("<f2").astype("<f4").reshape(n_rows, n_cols)
    if kind == KIND.BF16:
        return (data.view("<u2").astype("<u4") << 16).view("<f4").reshape(n_rows, n_cols)
    oracle._lib.ggml_quantize_init(int(kind))      # the grids of the I types
    row = getattr(oracle._lib, "dequantize_row_" + kind.name.lower().replace("_k", "_K"))
    row.restype, row.argtypes = None, [C.c_char_p, oracle._f32p, C.c_int64]
    out = np.empty((n_rows, n_cols), np.float32)
    row(data.tobytes(), out.ctypes.data_as(oracle._f32p), n_rows * n_cols)
    return out


def widen(src, out):
    reader = gguf.GGUFReader(src)
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type", "general.quantization_version", "general.alignment"):
            continue
        kind = field.types[0]
        writer.add_key_value(name, field.contents(), kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    for t in reader.tensors:
        shape = tuple(int(n) for n in reversed(t.shape))
        n_cols = shape[-1]
        data = decode(t.tensor_type, np.ascontiguousarray(t.data).reshape(-1).view(np.uint8), t.n_elements // n_cols, n_cols)
        writer.add_tensor(t.name, np.ascontiguousarray(data.reshape(shape), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    widen(sys.argv[1], sys.argv[2])
