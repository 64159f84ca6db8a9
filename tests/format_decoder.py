#!/usr/bin/env python3
"""A second, independent decoder of snug artifacts, written from docs/format.md alone (numpy; nothing of the library is used).

It reads files that `snug fit` wrote and compares every weight
  - with `snug-oracle dequantize`, bit for bit, where the oracle is given;
  - with the source's weights: the relative error must be what the codec's rate promises.

Usage: format_decoder.py --snug PROGRAM [--oracle PROGRAM] --model FOLDER      (exit code 77: numpy is not here)
"""
import argparse
import ctypes
import ctypes.util
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import numpy as np
except ImportError:
    print("SKIP: numpy is not installed")
    sys.exit(77 if os.environ.get("SNUG_REQUIRE_INTEROP") != "1" else 1)

# ---------------------------------------------------------------- GGUF ----
SCALARS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "<u1", 10: "<u8", 11: "<i8", 12: "<f8"}
STRING, ARRAY = 8, 9
# ggml types: name, weights per block, bytes per block
GGML = {0: ("f32", 1, 4), 1: ("f16", 1, 2), 2: ("q4_0", 32, 18), 8: ("q8_0", 32, 34), 10: ("q2_k", 256, 84), 11: ("q3_k", 256, 110),
        12: ("q4_k", 256, 144), 13: ("q5_k", 256, 176), 14: ("q6_k", 256, 210), 20: ("iq4_nl", 32, 18), 23: ("iq4_xs", 256, 136),
        24: ("i8", 1, 1), 30: ("bf16", 1, 2), 34: ("tq1_0", 256, 54), 35: ("tq2_0", 256, 66)}
BLOCKS = {name: (weights, size) for name, weights, size in GGML.values()}


class Reader:
    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def number(self, fmt):
        value = np.frombuffer(self.data, np.dtype(fmt), 1, self.at)[0]
        self.at += np.dtype(fmt).itemsize
        return value.item()

    def string(self):
        n = self.number("<u8")
        value = bytes(self.data[self.at:self.at + n])
        self.at += n
        return value

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            element, n = self.number("<u4"), self.number("<u8")
            if element == STRING:
                return [self.string() for _ in range(n)]
            dtype = np.dtype(SCALARS[element])
            value = np.frombuffer(self.data, dtype, n, self.at)
            self.at += n * dtype.itemsize
            return value
        return self.number(SCALARS[kind])

    def keys(self, n):
        found = {}
        for _ in range(n):
            key = self.string().decode()
            assert key not in found, f"key {key} stands twice"
            found[key] = self.value(self.number("<u4"))
        return found


class Artifact:
    """Section 1 and 2 of docs/format.md."""

    def __init__(self, path):
        self.data = np.memmap(path, np.uint8, "r")
        r = Reader(self.data)
        assert bytes(self.data[:4]) == b"GGUF"
        r.at = 4
        assert r.number("<u4") == 3
        n_tensors, n_keys = r.number("<u8"), r.number("<u8")
        self.keys = r.keys(n_keys)
        infos = []
        for _ in range(n_tensors):
            name, n_dims = r.string().decode(), r.number("<u4")
            dims = [r.number("<u8") for _ in range(n_dims)]
            infos.append((name, dims, r.number("<u4"), r.number("<u8")))
        align = self.keys.get("general.alignment", 32)
        begin = -(-r.at // align) * align
        self.weights, self.payload_of, checks, expected_offset, payload = {}, {}, [], 0, 0
        for i, (name, dims, kind, offset) in enumerate(infos):
            assert len(name.encode()) <= 63 and offset == expected_offset, f"{name}: data do not follow the order of the tensor infos"
            cols, rows = dims[0], int(np.prod(dims[1:], dtype=np.int64)) if len(dims) > 1 else 1
            codec, weights, size = GGML[kind]
            n_bytes = rows * (cols // weights) * size
            assert cols % weights == 0
            raw = self.data[begin + offset:begin + offset + n_bytes]
            assert raw.size == n_bytes, f"{name}: the file ends inside its data"
            pad = self.data[begin + offset + n_bytes:begin + -(-(offset + n_bytes) // align) * align]
            assert not pad.any(), f"{name}: padding that is not zero"
            expected_offset = -(-(offset + n_bytes) // align) * align
            checks.append(raw)
            if codec != "i8":
                self.weights.setdefault(name, []).append((codec, rows, cols, 0, 0, rows, cols, raw))
            else:
                self.add_payload(name, payload, raw)
                payload += 1
        assert self.data.size == begin + expected_offset, "the file ends with its last tensor's padding"
        self.checks = checks

    def add_payload(self, name, i, raw):
        k = self.keys
        codec = k["snug.codecs"][k["snug.payload.codec"][i]].decode()
        rows, cols = int(k["snug.payload.rows"][i]), int(k["snug.payload.cols"][i])
        row0 = int(k["snug.payload.row0"][i]) if "snug.payload.row0" in k else 0
        col0 = int(k["snug.payload.col0"][i]) if "snug.payload.col0" in k else 0
        shape = k["snug.payload.shape"][2 * i:2 * i + 2] if "snug.payload.shape" in k else (rows, cols)
        self.weights.setdefault(name.split("@")[0], []).append((codec, rows, cols, row0, col0, int(shape[0]), int(shape[1]),
                                                                rows_of(codec, rows, cols, raw)))

    def check_sums(self):
        if "snug.checksums" not in self.keys:
            return 0
        lib = ctypes.util.find_library("xxhash")
        if not lib:
            return 0
        hasher = ctypes.CDLL(lib).XXH3_64bits
        hasher.restype, hasher.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t]
        sums = self.keys["snug.checksums"]
        assert len(sums) == len(self.checks)
        for raw, expected in zip(self.checks, sums):
            assert hasher(raw.tobytes(), raw.size) == int(expected), "a checksum does not fit its tensor"
        return len(sums)

    def unpack_keys(self):
        """Keys that stand compressed."""
        if "snug.kv.zstd" not in self.keys:
            return {}
        lib = ctypes.CDLL(ctypes.util.find_library("zstd"))
        lib.ZSTD_decompress.restype = ctypes.c_size_t
        packed, size = self.keys["snug.kv.zstd"].tobytes(), int(self.keys["snug.kv.bytes"])
        out = ctypes.create_string_buffer(size)
        n = lib.ZSTD_decompress(out, ctypes.c_size_t(size), packed, ctypes.c_size_t(len(packed)))
        assert n == size, "the compressed keys do not unpack to snug.kv.bytes"
        r = Reader(np.frombuffer(out.raw, np.uint8))
        more = r.keys(int(self.keys["snug.kv.count"]))
        assert r.at == size and not set(more) & set(self.keys)
        return more

    def weight(self, name):
        """The sum of its terms, in float32 (each term's own numbers exact; the sum in the order of the terms, transformed ones first)."""
        terms = self.weights[name]
        total = np.zeros(terms[0][5:7], np.float32)
        for turned in (True, False):
            for codec, rows, cols, row0, col0, _, _, raw in terms:
                if codec.startswith("had:") == turned:
                    total[row0:row0 + rows, col0:col0 + cols] += decode(codec.removeprefix("had:"), rows, cols, raw)
            if turned and any(t[0].startswith("had:") for t in terms):
                total = turn_back(total)
        return total


# ----------------------------------------------------------- transforms ----
def signs(cols):
    """Section 3.9: +1 or -1 of each column."""
    out, mask = [], (1 << 64) - 1
    for k in range(-(-cols // 64)):
        z = (k + 1) * 0x9E3779B97F4A7C15 & mask
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        z ^= z >> 31
        out += [-1.0 if z >> i & 1 else 1.0 for i in range(64)]
    return np.array(out[:cols], np.float32)


def turn_back(rows):
    """Section 3.9: rows of W T^T to rows of W, in the order of float32 operations that the page gives."""
    cols = rows.shape[1]
    block = next(b for b in (128, 64, 32, 16) if cols % b == 0)
    x, h = rows.astype(np.float32).reshape(-1, block), 1
    while h < block:
        pairs = x.reshape(-1, block // (2 * h), 2, h)
        x = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2).reshape(-1, block)
        h *= 2
    return (x * np.float32(1 / np.sqrt(block))).reshape(rows.shape) * signs(cols)


# --------------------------------------------------------------- codecs ----
def bf16(raw):
    return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)


# Section 3.0: bits of a code, header fields as (place in ggml's block, elements, bytes of one)
PANELS = {"q8_0": (8, [(0, 1, 2)]), "q4_0": (4, [(0, 1, 2)]), "iq4_nl": (4, [(0, 1, 2)]), "iq4_xs": (4, [(0, 1, 2), (2, 1, 2), (4, 4, 1)]),
          "q2_k": (2, [(80, 1, 2), (82, 1, 2), (0, 16, 1)]), "q3_k": (3, [(108, 1, 2), (96, 12, 1)]),
          "q4_k": (4, [(0, 1, 2), (2, 1, 2), (4, 12, 1)]), "q5_k": (5, [(0, 1, 2), (2, 1, 2), (4, 12, 1)]),
          "q6_k": (6, [(208, 1, 2), (192, 16, 1)]), "tq1_0": (0, [(52, 1, 2)]), "tq2_0": (2, [(64, 1, 2)])}


def codes(body, bits):
    """Section 3.3: body (..., chunks, 4 bits) to codes (..., chunks, 32)."""
    i = np.arange(32)
    if bits == 8:
        return body.astype(np.int32)
    code, at, shift = np.zeros(body.shape[:-1] + (32,), np.int32), 0, 0
    if bits & 4:
        code |= (body[..., at + i % 16] >> np.where(i < 16, 0, 4)) & 15
        at, shift = at + 16, 4
    if bits & 2:
        code |= ((body[..., at + i % 8] >> (2 * (i // 8))) & 3).astype(np.int32) << shift
        at, shift = at + 8, shift + 2
    if bits & 1:
        code |= ((body[..., at + i % 4] >> (i // 4)) & 1).astype(np.int32) << shift
    return code


def ggml_block(codec, fields, code):
    """ggml's blocks (n, bytes) from header fields [(place, bytes (n, k))] and codes (n, chunks, 32)."""
    n = len(code)
    out = np.zeros((n, BLOCKS[codec][1]), np.uint8)
    for place, field in fields:
        out[:, place:place + field.shape[1]] = field
    if codec == "q8_0":
        out[:, 2:] = (code - 128).astype(np.int8).view(np.uint8).reshape(n, 32)
    elif codec in ("q4_0", "iq4_nl", "iq4_xs"):
        out[:, -16 * code.shape[1]:] = (code[:, :, :16] | code[:, :, 16:] << 4).reshape(n, -1)
    for c in range(8 if codec.endswith("_k") or codec == "tq2_0" else 0):
        u = code[:, c].astype(np.uint8)
        at = {"q2_k": 16, "q3_k": 32, "tq2_0": 0}.get(codec)
        if at is not None:
            out[:, at + 32 * (c // 4):][:, :32] |= (u & 3) << (2 * (c % 4))
        if codec == "q3_k":
            out[:, :32] |= (u >> 2) << c
        if codec in ("q4_k", "q5_k"):
            out[:, {"q4_k": 16, "q5_k": 48}[codec] + 32 * (c // 2):][:, :32] |= (u & 15) << (4 * (c % 2))
        if codec == "q5_k":
            out[:, 16:48] |= (u >> 4) << c
        if codec == "q6_k":
            out[:, 64 * (c // 4) + 32 * (c % 2):][:, :32] |= (u & 15) << (4 * (c % 4 // 2))
            out[:, 128 + 32 * (c // 4):][:, :32] |= (u >> 4) << (2 * (c % 4))
    return out


def rows_of(codec, rows, cols, raw):
    """Section 3.0: a payload's rows one after the other, (rows, bytes of a row)."""
    codec = codec.removeprefix("had:")
    if not codec.startswith("int") and codec not in PANELS:
        return raw
    raw, full = np.ascontiguousarray(raw).reshape(rows, -1), rows // 16 * 16
    if codec.startswith("int"):
        bits, group = (int(x) for x in codec[3:].split("g"))
        fields = [(0, 1, 2), (2, -(-cols // group), 1)]
        block = raw.shape[1]
    else:
        (bits, fields), block = PANELS[codec], BLOCKS[codec][1]
    at, parts, panels = 0, [], raw[:full].reshape(full // 16, -1, 16 * block)  # (panels, blocks, bytes)
    for place, k, size in fields:
        part = panels[:, :, at:at + 16 * k * size].reshape(*panels.shape[:2], k, 16, size)
        parts.append((place, part.transpose(0, 3, 1, 2, 4).reshape(-1, k * size)))
        at += 16 * k * size
    words = panels[:, :, at:].reshape(*panels.shape[:2], -1, 16, 4).transpose(0, 3, 1, 2, 4)
    if codec.startswith("int"):
        whole = np.concatenate([p for _, p in parts] + [words.reshape(full, -1)], axis=1)
    elif codec == "tq1_0":
        whole = np.concatenate([words.reshape(-1, 52), parts[0][1]], axis=1).reshape(full, -1)
    else:
        body = words.reshape(-1, BLOCKS[codec][0] // 32, 4 * bits)
        whole = ggml_block(codec, parts, codes(body, bits)).reshape(full, -1)
    return np.concatenate([whole, raw[full:]])


def decode_int(codec, rows, cols, raw):
    """Section 3.3: intBgG, rows one after the other."""
    bits, group = (int(x) for x in codec[3:].split("g"))
    chunks, groups = -(-cols // 32), -(-cols // group)
    row = raw.reshape(rows, -1)
    d = bf16(np.ascontiguousarray(row[:, :2]).reshape(-1))                     # (rows)
    meta = row[:, 2:2 + groups].astype(np.int32)
    code = codes(row[:, 2 + groups:].reshape(rows, chunks, 4 * bits), bits)
    q = (code.reshape(rows, chunks * 32)[:, :cols] - (1 << bits - 1)).astype(np.float32)
    steps = np.array([2.0 ** (-e / 8 if e <= 16 else -2 - (e - 16) / 3) for e in range(31)] + [0.0]).astype(np.float32)
    scale = d[:, None] * steps[meta >> 3]                                      # f32 products
    offset = ((meta & 7) - 4) * (1 if bits <= 3 else 13 / 16) * 2.0 ** (bits - 5) + 0.5
    least = scale * offset.astype(np.float32)
    which = np.arange(cols) // group
    return scale[:, which] * q + least[:, which]


def decode_vectors(bits, k, n, raw):
    """Section 3.4: k vectors of n numbers, a scale and codes each."""
    row = raw.reshape(k, -1)
    code = codes(row[:, 2:].reshape(k, -(-n // 32), 4 * bits), bits).reshape(k, -1)[:, :n]
    return bf16(np.ascontiguousarray(row[:, :2]).reshape(-1))[:, None] * (code - (1 << bits - 1)).astype(np.float32)


def decode_lowrank(codec, rows, cols, raw):
    """Section 3.4: W = U V, V first."""
    rank, _, bits = codec[len("lowrank"):].partition("b")
    rank = int(rank)
    if bits:
        bits, n = int(bits), rank * (2 + 4 * int(bits) * -(-cols // 32))
        v, ut = decode_vectors(bits, rank, cols, raw[:n]), decode_vectors(bits, rank, rows, raw[n:])
        return (ut.T.astype(np.float64) @ v.astype(np.float64)).astype(np.float32)
    numbers = bf16(np.ascontiguousarray(raw))
    v, u = numbers[:rank * cols].reshape(rank, cols), numbers[rank * cols:].reshape(rows, rank)
    return (u.astype(np.float64) @ v.astype(np.float64)).astype(np.float32)


# Section 3.5: magnitudes by bits, grid z and number
GRIDS = {
    2: """14 127
       25 127
       35 127
       44 127
       52 127
       61 127
       72 127
       85 127""",
    3: """10 24 45 127
       15 36 69 127
       22 39 62 127
       23 48 80 127
       32 57 88 127
       33 51 74 127
       44 65 91 127
       59 77 99 127""",
    4: """8 15 24 35 47 64 85 127
       12 21 32 44 58 76 100 127
       17 27 36 47 60 74 92 127
       20 30 41 54 68 85 105 127
       26 36 46 58 70 84 102 127
       30 40 51 65 80 97 113 127
       38 48 59 70 82 96 114 127
       44 54 64 75 87 101 115 127""",
    5: """6 9 12 16 20 25 30 35 41 47 55 64 74 88 108 127
       9 14 18 23 28 33 39 45 52 59 68 78 89 101 114 127
       14 18 23 27 32 36 41 47 53 59 66 73 82 94 111 127
       17 22 26 31 37 42 49 55 62 69 77 86 96 106 116 127
       22 27 32 37 41 47 52 58 64 70 77 84 93 103 115 127
       27 32 36 42 47 53 60 67 74 82 90 98 106 113 120 127
       35 39 44 49 55 60 66 71 77 83 90 98 107 114 121 127
       41 45 50 55 60 65 71 76 82 88 95 102 109 115 121 127""",
}
GRIDS = {bits: np.array([[int(x) for x in line.split()] for line in text.splitlines()]) for bits, text in GRIDS.items()}


def decode_sparse(codec, rows, cols, raw):
    """Section 3.5: the sparse and ternary codecs."""
    kind, numbers = re.fullmatch(r"(sp2of4b|sp3of4b|sp|tern34|tern)(.*)", codec).groups()
    numbers = [int(x) for x in re.findall(r"\d+", numbers)]
    group = numbers[-1]
    bits = numbers[-2] if kind.startswith("sp") else 1
    kept = {"sp": numbers[0], "sp2of4b": 16, "sp3of4b": 24, "tern34": 24, "tern": 32}[kind]
    mask_bytes = {"sp": 4, "sp2of4b": 3, "sp3of4b": 2, "tern34": 2, "tern": 0}[kind]
    chunks, groups = -(-cols // 32), -(-cols // group)
    row = raw.reshape(rows, -1)
    d = bf16(np.ascontiguousarray(row[:, :2]).reshape(-1))
    at = 2
    if bits >= 2:
        byte = row[:, at:at + groups].astype(np.int32)
        steps = np.array([2.0 ** (-e / 8 if e <= 16 else -2 - (e - 16) / 3) for e in range(31)] + [0.0]).astype(np.float32)
        scale, z = d[:, None] * steps[byte >> 3], byte & 7
        at += groups
    else:
        byte = row[:, at:at + -(-groups // 2)].astype(np.int32)
        e = np.stack([byte & 15, byte >> 4], -1).reshape(rows, -1)[:, :groups]
        steps = np.array([2.0 ** (-k / 4) for k in range(15)] + [0.0]).astype(np.float32)
        scale, z = d[:, None] * steps[e], np.zeros((rows, groups), np.int32)
        at += -(-groups // 2)
    masks, body = row[:, at:at + mask_bytes * chunks], row[:, at + mask_bytes * chunks:]
    which = np.arange(cols) // group
    if kind == "tern":
        parts, at, left = [], 0, chunks
        while left:
            n = 5 if left >= 5 else 1
            b = 32 if n == 5 else 8
            x = body[:, at:at + b].astype(np.int64)
            digits = np.stack([3 * (x * 3 ** k % 256) // 256 for k in range(5)], 1)  # (rows, 5, b): digit k of byte i is trit k b + i
            parts.append(digits.reshape(rows, -1)[:, :32 * n])
            at, left = at + b, left - n
        assert body.shape[1] == at
        return scale[:, which] * (np.concatenate(parts, 1)[:, :cols] - 1).astype(np.float32)
    bit = np.unpackbits(np.ascontiguousarray(masks), axis=1, bitorder="little")
    if kind == "sp":
        present = bit.reshape(rows, chunks, 32).astype(bool)
        present &= np.cumsum(present, 2) <= kept
    elif kind == "sp2of4b":
        index = bit.reshape(rows, chunks, 8, 3) @ np.array([1, 2, 4])
        pairs = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1], [0, 0, 1, 1]] + [[1, 1, 0, 0]] * 2, bool)
        present = pairs[index].reshape(rows, chunks, 32)
    else:
        index = bit.reshape(rows, chunks, 8, 2) @ np.array([1, 2])
        present = (np.arange(4) != index[..., None]).reshape(rows, chunks, 32)
    stream = np.unpackbits(np.ascontiguousarray(body), axis=1, bitorder="little")[:, :chunks * kept * bits]
    code = stream.reshape(rows, chunks, kept, bits).astype(np.int64) @ (1 << np.arange(bits))
    order = np.where(present, np.cumsum(present, 2) - 1, 0)
    code = np.take_along_axis(code, order, 2).reshape(rows, -1)[:, :cols]
    half, z = 1 << bits - 1, z[:, which]
    if bits == 8:
        q = code - 128
    else:
        k = np.where(code >= half, code - half, half - 1 - code)
        if bits == 1:
            m = np.ones_like(k)
        elif bits == 6:
            m = 2 * k + 1 + 4 * z
        else:
            m = GRIDS[bits][z, k]
        q = np.where(code >= half, m, -m)
    q = np.where(present.reshape(rows, -1)[:, :cols], q, 0)
    return scale[:, which] * q.astype(np.float32)


def decode_out(codec, rows, cols, raw):
    """Section 3.6: outP."""
    rate, blocks = int(codec[len("out"):]), -(-cols // 256)
    n, starts = -(-rows * cols * rate // 1000), -(-rows // 16)
    scale, at = bf16(np.ascontiguousarray(raw[:2 * rows])), 2 * rows
    start, at = np.ascontiguousarray(raw[at:at + 4 * starts]).view("<u4"), at + 4 * starts
    count, at = raw[at:at + rows * blocks].reshape(rows, blocks).astype(np.int64), at + rows * blocks
    column, code = raw[at:at + n].astype(np.int64), raw[at + n:]
    assert code.size == -(-n // 2) and count.sum() == n
    assert all(int(start[j]) == count[:16 * j].sum() for j in range(starts))
    code = np.stack([code & 15, code >> 4], 1).reshape(-1)[:n].astype(np.int64)
    code = np.where(code >= 8, code - 16, code)
    row, block = np.divmod(np.repeat(np.arange(rows * blocks), count.reshape(-1)), blocks)
    out = np.zeros((rows, cols), np.float32)
    out[row, 256 * block + column] = scale[row] * code.astype(np.float32)
    return out


def decode_gs(codec, rows, cols, raw):
    """Section 3.7: gsNbBgG, brought to rows of intBgG."""
    kept, bits, group = (int(x) for x in re.findall(r"\d+", codec))
    groups, chunks = -(-cols // group), -(-cols // 32)
    spans = [min(8, groups - at) for at in range(0, groups, 8)]
    most = [-(-kept * n // 8) for n in spans]
    row = raw.reshape(rows, -1)
    head, per = 2 + len(spans), 4 * bits * group // 32
    assert row.shape[1] == head + sum(most) * (1 + per)
    whole = np.zeros((rows, 2 + groups + groups * per), np.uint8)
    whole[:, :2] = row[:, :2]
    whole[:, 2:2 + groups] = 31 << 3 | 4                                       # scale 0
    for r in range(rows):
        for g in range(groups):
            mask = int(row[r, 2 + g // 8])
            before = bin(mask & (1 << g % 8) - 1).count("1")
            if mask >> g % 8 & 1 and before < most[g // 8]:
                number = kept * (g // 8) + before
                whole[r, 2 + g] = row[r, head + number]
                at = head + sum(most) + number * per
                whole[r, 2 + groups + g * per:][:per] = row[r, at:at + per]
    return decode_int(f"int{bits}g{group}", rows, cols, np.ascontiguousarray(whole[:, :2 + groups + 4 * bits * chunks]))


def decode_tcqf(rows, cols, raw):
    """Section 3.10: a stream of overlapping states per 16 rows."""
    panels, words = -(-rows // 16), 4 * -(-cols // 32)
    stream = raw.reshape(panels, 32 + 32 * words)
    d = bf16(np.ascontiguousarray(stream[:, :32]).reshape(-1)).reshape(panels, 1, 16, 1)
    x = stream[:, 31:-1].astype(np.int64) + 256 * stream[:, 32:].astype(np.int64)
    p = (x ^ x // 512) * 46193 % 65536
    level = np.array([-25, -16, -12, -9, -7, -5, -3, -1, 1, 3, 5, 7, 9, 12, 16, 25], np.float32)
    w = level[(p[:, :, None] >> np.array([0, 4, 8, 12])) & 15].reshape(panels, words, 16, 2, 4)  # row, h, i
    columns = np.empty((panels, words, 16, 8), np.float32)
    columns[..., [0, 4, 1, 5]], columns[..., [2, 6, 3, 7]] = w[..., 0, :], w[..., 1, :]
    return (d * columns).transpose(0, 2, 1, 3).reshape(16 * panels, 8 * words)[:rows, :cols]


def decode_tcq(rate, band, rows, cols, raw):
    """Section 3.11: the same with steps of so many bits, a weight a state. band: columns."""
    panels, chunks = -(-rows // 16), -(-cols // 32)
    band //= 32
    states, mask_at = 512 * chunks, 32 + -(-chunks // (2 * band))
    stream = raw.reshape(panels, mask_at + 2 + int(states * rate) // 8)
    d = bf16(np.ascontiguousarray(stream[:, :32]).reshape(-1)).reshape(panels, 1, 16, 1)
    mask = stream[:, mask_at].astype(np.int64) + 256 * stream[:, mask_at + 1].astype(np.int64)
    bits = np.unpackbits(np.ascontiguousarray(stream[:, mask_at:]), axis=1, bitorder="little").astype(np.int64)
    chunk = np.arange(chunks)
    nibble = stream[:, 32 + chunk // (2 * band)].astype(np.int64) >> 4 * (chunk // band % 2) & 15
    quarters = int(4 * rate) + nibble - 8                                      # of each panel's chunks
    own = (quarters.min(1) >= 4) & (quarters.max(1) <= 24) & (quarters.sum(1) == int(4 * rate) * chunks)
    quarters = np.where(own[:, None], quarters, int(4 * rate))
    begin = 128 * (np.cumsum(quarters, 1) - quarters)
    first = (begin[:, :, None] + (np.arange(512) + 1) * quarters[:, :, None] // 4).reshape(panels, states)  # 16 bits in front of the stream
    x = sum(np.take_along_axis(bits, first + i, 1) << i for i in range(16)) & mask[:, None]
    a = (x ^ x // 512) * 31851 % 65536
    b = a * 50141 // 65536
    field = 16 if rate < 3.5 else 32 if rate <= 5 else 64
    u = a % field + a // 256 % field + b % field + b // 256 % field - 2 * (field - 1)
    w = u.reshape(panels, -1, 16, 4).astype(np.float32)                        # word, row, column
    return (d * w).transpose(0, 2, 1, 3).reshape(16 * panels, -1)[:rows, :cols]


def e8_points():
    """Section 3.13: P[a, s] in eight columns."""
    digit = np.arange(65536)[:, None] >> 2 * np.arange(8) & 3
    c = 2 * digit + 1
    cost = (c * c - 1).sum(1) // 8
    order = [np.flatnonzero(cost == k) for k in range(5)] + [np.flatnonzero((cost == 5) & (c.max(1) == 3))]
    c = c[np.concatenate(order)[:256]]
    minus = np.arange(256)[:, None] >> np.arange(8) & 1
    last = (minus[:, :7].sum(1)[None] + c.sum(1)[:, None] // 2) % 2
    minus = np.concatenate([np.broadcast_to(minus[None, :, :7], (256, 256, 7)), last[:, :, None]], 2)
    return np.where(minus, -2, 2) * c[:, None] + np.where(np.arange(256) < 128, -1, 1)[None, :, None]


def e8_rest():
    """Section 3.13: E."""
    rest = [np.zeros(8, int)]
    for u in range(8):
        for t in range(u):
            for a, b in ((18, 18), (-18, 18), (18, -18), (-18, -18)):
                rest.append(np.eye(8, dtype=int)[t] * a + np.eye(8, dtype=int)[u] * b)
    for s in range(128):
        sign = [s >> t & 1 for t in range(7)]
        rest.append(np.where(sign + [sum(sign) % 2], -9, 9))
    rest += [np.eye(8, dtype=int)[k // 2] * (-36 if k % 2 else 36) for k in range(256 - len(rest))]
    return np.array(rest)


def words_of_panels(books, rows, cols, raw):
    """Of 3.13 and 3.14: d (panels, 16 rows), indices (panels, words, books, 16 rows)."""
    panels, words = -(-rows // 16), 4 * -(-cols // 32)
    raw = raw.reshape(panels, 32 + 16 * books * words)
    d = bf16(np.ascontiguousarray(raw[:, :32]).reshape(-1)).reshape(panels, 16)
    return d, raw[:, 32:].reshape(panels, words, books, 16)


def weights_of_words(d, q, rows, cols):
    """q (panels, words, 16 rows, 8 columns)"""
    w = d[:, None, :, None] * q.astype(np.float32)
    return w.transpose(0, 2, 1, 3).reshape(16 * len(d), -1)[:rows, :cols]


def decode_e8(books, rows, cols, raw):
    d, i = words_of_panels(books, rows, cols, raw)
    points = e8_points()
    first = points[i[:, :, 0], i[:, :, 1]]
    if books == 2:
        return weights_of_words(d, first, rows, cols)
    if books == 3:
        return weights_of_words(d, 8 * first + e8_rest()[i[:, :, 2]], rows, cols)
    return weights_of_words(d, 4 * first + points[i[:, :, 2], i[:, :, 3]], rows, cols)


def decode_aq(books, rows, cols, raw):
    """Section 3.14: K books of 256 vectors, then indices."""
    n = 2048 * books
    entry = raw[:n].reshape(books, 256, 8).astype(int)
    d, i = words_of_panels(books, rows, cols, raw[n:])
    u = sum(entry[k][i[:, :, k]] for k in range(books))
    return weights_of_words(d, u % 256 - 128, rows, cols)


def decode_dict(codec, rows, cols, raw):
    """Section 3.8: dictKsSbB, W = A V."""
    atoms, most, bits = (int(x) for x in re.findall(r"\d+", codec))
    n = atoms * (2 + 4 * bits * -(-cols // 32))
    v, row = decode_vectors(bits, atoms, cols, raw[:n]), raw[n:].reshape(rows, -1)
    scale = bf16(np.ascontiguousarray(row[:, :2]).reshape(-1))
    width = max(1, (atoms - 1).bit_length())
    stream = np.unpackbits(np.ascontiguousarray(row[:, 2:]), axis=1, bitorder="little").astype(np.int64)
    places = min(atoms, most * width)
    assert row.shape[1] == 2 + -(-(places + most * bits) // 8)
    code = stream[:, places:places + most * bits].reshape(rows, most, bits) @ (1 << np.arange(bits)) - (1 << bits - 1)
    a = np.zeros((rows, atoms), np.float32)
    for r in range(rows):
        if atoms <= most * width:
            where = np.flatnonzero(stream[r, :atoms])[:most]
        else:
            where = stream[r, :places].reshape(most, width) @ (1 << np.arange(width))
        for t, k in enumerate(where):
            if k < atoms:
                a[r, k] += scale[r] * np.float32(code[r, t])
    return (a.astype(np.float64) @ v.astype(np.float64)).astype(np.float32)


def unpack_scales_k4(s):
    """ggml's q4_k and q5_k: eight 6-bit scales and minima in 12 bytes; s (blocks, 12)."""
    scale, least = np.empty((len(s), 8), np.float32), np.empty((len(s), 8), np.float32)
    for j in range(8):
        if j < 4:
            scale[:, j], least[:, j] = s[:, j] & 63, s[:, j + 4] & 63
        else:
            scale[:, j] = (s[:, j + 4] & 15) | (s[:, j - 4] >> 6) << 4
            least[:, j] = (s[:, j + 4] >> 4) | (s[:, j] >> 6) << 4
    return scale, least


IQ4 = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)


def f16(raw):
    return np.ascontiguousarray(raw).view("<f2").astype(np.float32)


def decode_blocks(codec, raw):
    """Section 3.2: ggml's blocks; raw (n, block bytes) to (n, block weights)."""
    n = len(raw)
    nibbles = lambda b: np.concatenate([b & 15, b >> 4], axis=-1)
    if codec == "q8_0":
        return f16(raw[:, :2]) * np.ascontiguousarray(raw[:, 2:]).view(np.int8).astype(np.float32)
    if codec == "q4_0":
        return f16(raw[:, :2]) * (nibbles(raw[:, 2:]).astype(np.float32) - 8)
    if codec == "iq4_nl":
        return f16(raw[:, :2]) * IQ4[nibbles(raw[:, 2:])]
    if codec == "iq4_xs":
        high = np.ascontiguousarray(raw[:, 2:4]).view("<u2").astype(np.int32)
        low = np.stack([raw[:, 4 + j // 2] >> (4 * (j % 2)) & 15 for j in range(8)], 1).astype(np.int32)
        scale = low | (high >> (2 * np.arange(8)) & 3) << 4
        values = IQ4[nibbles(raw[:, 8:].reshape(n, 8, 16))]
        return ((f16(raw[:, :2]) * (scale - 32).astype(np.float32))[:, :, None] * values).reshape(n, 256)
    if codec in ("q4_k", "q5_k"):
        d, dmin = f16(raw[:, :2]), f16(raw[:, 2:4])
        scale, least = unpack_scales_k4(raw[:, 4:16])
        low = raw[:, -128:].reshape(n, 4, 32)
        q = np.stack([low & 15, low >> 4], 2).reshape(n, 8, 32).astype(np.float32)
        if codec == "q5_k":
            bits = raw[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[None, :, None] & 1
            q += 16 * bits.astype(np.float32)
        return ((d * scale)[:, :, None] * q - (dmin * least)[:, :, None]).reshape(n, 256)
    if codec == "q2_k":
        scales, q = raw[:, :16], raw[:, 16:80].reshape(n, 2, 1, 32)
        d, dmin = f16(raw[:, 80:82]), f16(raw[:, 82:84])
        code = (q >> (2 * np.arange(4, dtype=np.uint8))[None, None, :, None] & 3).reshape(n, 16, 16).astype(np.float32)
        return ((d * (scales & 15))[:, :, None] * code - (dmin * (scales >> 4))[:, :, None]).reshape(n, 256).astype(np.float32)
    if codec == "q3_k":
        mask, q, s = raw[:, :32], raw[:, 32:96].reshape(n, 2, 1, 32), raw[:, 96:108].astype(np.int32)
        low = np.concatenate([s[:, :8] & 15, s[:, :8] >> 4], 1)
        high = np.concatenate([s[:, 8:12] >> 2 * k & 3 for k in range(4)], 1)
        scale = (low | high << 4) - 32
        code = (q >> (2 * np.arange(4, dtype=np.uint8))[None, None, :, None] & 3).astype(np.int32)
        present = (mask[:, None, :] >> np.arange(8, dtype=np.uint8)[None, :, None] & 1).reshape(n, 2, 4, 32).astype(np.int32)
        code = (code - 4 * (1 - present)).reshape(n, 16, 16).astype(np.float32)
        return ((f16(raw[:, 108:110]) * scale.astype(np.float32))[:, :, None] * code).reshape(n, 256)
    if codec == "q6_k":
        low, high = raw[:, :128].reshape(n, 2, 2, 32), raw[:, 128:192].reshape(n, 2, 1, 32)
        scale = np.ascontiguousarray(raw[:, 192:208]).view(np.int8).astype(np.float32)
        four = np.concatenate([low & 15, low >> 4], 2)                          # (n, 2, 4, 32)
        two = high >> (2 * np.arange(4, dtype=np.uint8))[None, None, :, None] & 3
        code = ((four | two << 4).astype(np.int32) - 32).reshape(n, 16, 16).astype(np.float32)
        return ((f16(raw[:, 208:210]) * scale)[:, :, None] * code).reshape(n, 256)
    if codec == "tq2_0":
        code = (raw[:, :64].reshape(n, 2, 1, 32) >> (2 * np.arange(4, dtype=np.uint8))[None, None, :, None]) & 3
        return f16(raw[:, 64:]) * (code.reshape(n, 256).astype(np.float32) - 1)
    if codec == "tq1_0":
        powers = (3 ** np.arange(5, dtype=np.int32))[None, :, None]
        digits = [(3 * (raw[:, None, a:b].astype(np.int32) * powers[:, :k] % 256) >> 8).reshape(n, -1) for a, b, k in ((0, 32, 5), (32, 48, 5), (48, 52, 4))]
        return f16(raw[:, 52:]) * (np.concatenate(digits, axis=1).astype(np.float32) - 1)
    raise AssertionError(f"no such codec: {codec}")


def ec_tables():
    """Section 3.12: of each shape and t the symbol that has a slot, and by symbol (q + 128, 0: the escape) its slots and the first."""
    p, y = [], 1 << 62
    for _ in range(256):
        p.append(y >> 32)
        y = (y >> 32) * 4283353945 + ((y & 0xffffffff) * 4283353945 >> 32)
    u = []
    for t in range(65):
        a = [q * q * (12102203, 10176699, 8557550, 7196013)[t % 4] >> 12 + t // 4 for q in range(128)]
        g = [0 if x // 256 >= 30 else p[x % 256] >> x // 256 for x in a]
        total = g[0] + 2 * sum(g[1:])
        u.append([(x << 24) // total for x in g])
    symbol, slots, first = np.zeros((4, 65, 4096), np.int64), np.zeros((4, 65, 256), np.int64), np.zeros((4, 65, 256), np.int64)
    for h in range(4):
        for t in range(65):
            low, high = u[max(t - (0, 4, 8, 13)[h], 0)], u[min(t + (0, 3, 6, 8)[h], 64)]
            m = [(x + y) // 2 for x, y in zip(low, high)]
            most = max(q for q in range(128) if m[q] >= 2048)
            total = m[0] + 2 * sum(m[1:most + 1])
            n = {q: 1 + m[abs(q)] * (4094 - 2 * most) // total for q in range(-most, most + 1)}
            n[0] += 4095 - sum(n.values())
            at = 1
            slots[h, t, 0] = 1
            for q in range(-most, most + 1):
                slots[h, t, q + 128], first[h, t, q + 128] = n[q], at
                symbol[h, t, at:at + n[q]] = q + 128
                at += n[q]
    return symbol, slots, first


EC = []


def decode_ec(rate, rows, cols, raw):
    """Section 3.12: all panels at once, a symbol at a time."""
    if not EC:
        EC.extend(ec_tables())
    symbol_of, slots_of, first_of = EC
    quarters, n, limit = int(4 * rate), -(-cols // 64), (1 << (int(np.ceil(rate)) + 1)) - 1
    n_words = -(-cols * quarters // 4)
    panel = raw.reshape(-1, 2 + 16 + n + 20 + 2 * n_words)
    base = bf16(np.ascontiguousarray(panel[:, :2]).reshape(-1))
    row, band = panel[:, 2:18].astype(np.int64), panel[:, 18:18 + n].astype(np.int64)
    state = (panel[:, 18 + n:38 + n].reshape(-1, 4, 5).astype(np.int64) << (8 * np.arange(5))).sum(axis=2)
    words = np.ascontiguousarray(panel[:, 38 + n:]).view("<u2").astype(np.int64)
    words = np.concatenate([words, np.zeros((len(panel), 1), np.int64)], axis=1) # 0 behind the last
    steps = np.array([2.0 ** (-e / 8 if e <= 16 else -2 - (e - 16) / 3) for e in range(31)] + [0.0]).astype(np.float32)
    down = np.array([e if e <= 16 else 16 + round(8 * (e - 16) / 3) for e in range(31)] + [0])
    at, out = np.zeros(len(panel), np.int64), np.zeros((len(panel), 16, cols), np.float32)

    def refill(x, at, among):
        need = among & (x < 1 << 24)
        x = np.where(need, x << 16 | words[np.arange(len(panel)), np.minimum(at, n_words)], x)
        return x, at + need

    for c in range(cols):
        e, z = band[:, c // 64] >> 3, band[:, c // 64] & 7
        for r in range(16):
            v, h = row[:, r] & 63, row[:, r] >> 6
            stored, t = (v > 0) & (e < 31), np.clip(v - 1 + down[e] + 2 * (z - 4), 0, 64)
            x = state[:, r % 4]
            slot = x % 4096
            symbol = symbol_of[h, t, slot]
            y = slots_of[h, t, symbol] * (x // 4096) + slot - first_of[h, t, symbol]
            y, at = refill(np.where(stored, y, x), at, stored)
            escaped = stored & (symbol == 0)
            q = np.where(escaped, y % 256, symbol) - 128
            y, at = refill(np.where(escaped, y // 256, y), at, escaped)
            state[:, r % 4] = y
            q = np.where(stored, np.clip(q, -limit, limit), 0)
            out[:, r, c] = base * steps[e] * q.astype(np.float32)
    return out.reshape(-1, cols)[:rows]


def decode(codec, rows, cols, raw):
    raw = np.ascontiguousarray(raw)
    if codec == "f32":
        return raw.view("<f4").reshape(rows, cols)
    if codec == "f16":
        return raw.view("<f2").reshape(rows, cols).astype(np.float32)
    if codec == "bf16":
        return bf16(raw).reshape(rows, cols)
    if codec.startswith("int"):
        return decode_int(codec, rows, cols, raw)
    if codec.startswith("lowrank"):
        return decode_lowrank(codec, rows, cols, raw)
    if codec.startswith(("sp", "tern")):
        return decode_sparse(codec, rows, cols, raw)
    if codec.startswith("out"):
        return decode_out(codec, rows, cols, raw)
    if codec.startswith("gs"):
        return decode_gs(codec, rows, cols, raw)
    if codec.startswith("dict"):
        return decode_dict(codec, rows, cols, raw)
    if codec == "tcqf2":
        return decode_tcqf(rows, cols, raw)
    if codec.startswith("tcq"):
        rate, _, band = codec[3:].partition("g")
        return decode_tcq(float(rate), int(band or 64), rows, cols, raw)
    if codec.startswith("ec"):
        return decode_ec(float(codec[2:]), rows, cols, raw)
    if codec.startswith("e8b"):
        return decode_e8(int(codec[3:]), rows, cols, raw)
    if codec.startswith("aq"):
        return decode_aq(int(codec[2:]), rows, cols, raw)
    weights, size = BLOCKS[codec]
    per_row = -(-cols // weights)
    assert raw.size == rows * per_row * size, f"{codec}: {raw.size} bytes for {rows} x {cols}"
    return decode_blocks(codec, raw.reshape(-1, size)).astype(np.float32).reshape(rows, per_row * weights)[:, :cols]


# --------------------------------------------------------------- source ----
HF_NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
            "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
            "ffn_norm": "post_attention_layernorm"}


class Source:
    """A Hugging Face folder of the llama family in bf16."""

    def __init__(self, folder):
        self.data = np.memmap(folder / "model.safetensors", np.uint8, "r")
        n = struct.unpack("<Q", self.data[:8].tobytes())[0]
        self.head, self.begin = json.loads(self.data[8:8 + n].tobytes()), 8 + n
        self.config = json.loads((folder / "config.json").read_text())

    def weight(self, name):
        parts = name.split(".")
        if parts[0] == "blk":
            hf = f"model.layers.{parts[1]}.{HF_NAMES[parts[2]]}.weight"
        else:
            hf = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight", "output": "lm_head.weight"}[parts[0]]
        info = self.head[hf]
        assert info["dtype"] == "BF16"
        begin, end = (self.begin + x for x in info["data_offsets"])
        w = bf16(self.data[begin:end])
        shape = info["shape"] if len(info["shape"]) == 2 else [1, info["shape"][0]]
        w = w.reshape(shape)
        if len(parts) > 2 and parts[2] in ("attn_q", "attn_k"): # llama.cpp's order: pairs (i, i + half) of a head become neighbours
            heads = self.config["num_attention_heads" if parts[2] == "attn_q" else "num_key_value_heads"]
            w = w.reshape(heads, 2, shape[0] // heads // 2, shape[1]).swapaxes(1, 2).reshape(shape)
        return w


# ---------------------------------------------------------------- tests ----
def oracle_decode(oracle, codec, rows, cols, raw):
    p = subprocess.run([oracle, "dequantize", codec, str(rows), str(cols)], input=raw.tobytes(), capture_output=True)
    if p.returncode != 0:
        return None
    return np.frombuffer(p.stdout, np.float32).reshape(rows, cols)


def expected_error(codec):
    """Relative error, mean square, that a codec stays under on weights like these (a Gaussian has 2^-2R at best)."""
    codec = codec.removeprefix("had:")
    if codec in ("f32", "bf16"):
        return 0.0
    if codec == "f16":
        return 1e-5 # exact but for what is below f16's smallest number
    bits = {"q8_0": 8, "q4_0": 4, "iq4_nl": 4, "iq4_xs": 4, "q2_k": 2, "q3_k": 3, "q4_k": 4, "q5_k": 5, "q6_k": 6}.get(codec)
    if codec.startswith("int"):
        bits = int(codec[3:].split("g")[0])
    if codec.startswith("gs"):
        return 0.7
    if codec.startswith("sp"): # what is left out is lost whatever the bits
        return {"sp8": 0.5, "sp12": 0.35}.get(codec.split("b")[0], 0.3)
    if codec.startswith("ec"):
        return 2 * 4.0 ** -float(codec[2:])
    return 4.0 ** -(bits - 1) if bits else 1.0 # generous: a uniform step over a range of 7 standard deviations at most


def check(artifact, source, oracle, seen):
    names = list(artifact.weights)
    assert "token_embd.weight" in names and "output_norm.weight" in names
    for name in names:
        mine, true = artifact.weight(name), source.weight(name)
        assert mine.shape == true.shape, (name, mine.shape, true.shape)
        assert np.isfinite(mine).all(), name
        codec = "+".join(t[0] for t in artifact.weights[name])
        error = float(((mine - true).astype(np.float64) ** 2).sum() / (true.astype(np.float64) ** 2).sum())
        assert error <= min(expected_error(t[0]) for t in artifact.weights[name] if not t[0].startswith(("lowrank", "out", "dict"))), (name, codec, error)
        for term in artifact.weights[name]:
            kind, rows, cols, raw = term[0], term[1], term[2], term[7]
            exact = "not compared"
            if oracle:
                theirs, own = oracle_decode(oracle, kind, rows, cols, raw), decode(kind.removeprefix("had:"), rows, cols, raw)
                own = turn_back(own) if kind.startswith("had:") else own
                if theirs is not None and kind.startswith(("lowrank", "dict")):
                    assert np.allclose(theirs, own, rtol=1e-4, atol=1e-6), name
                    exact = "close to the oracle"
                elif theirs is not None:
                    assert np.array_equal(theirs.view(np.uint32), own.view(np.uint32)), (name, kind)
                    exact = "equal to the oracle, bit for bit"
            seen.setdefault(kind, [0, 0.0, exact])
            seen[kind][0] += 1
            seen[kind][1] = max(seen[kind][1], error)


def write_importances(path, source, names):
    """llama.cpp's legacy form: channels that matter by stretches of 64, so that what follows importances differs along a row."""
    with open(path, "wb") as f:
        f.write(struct.pack("<i", len(names)))
        for name in names:
            v = np.exp(0.6 * np.sin(np.arange(source.weight(name).shape[1]) // 64)).astype("<f4")
            f.write(struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", 1, v.size) + v.tobytes())
        f.write(struct.pack("<i", 1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--snug", required=True)
    parser.add_argument("--oracle")
    parser.add_argument("--model", required=True, type=Path)
    args = parser.parse_args()
    source, seen = Source(args.model), {}
    ints = [f"int{b}g{g}" for b in range(2, 9) for g in (32, 64, 128)]
    native = ["q8_0", "q4_0", "iq4_nl", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs", "tq1_0", "tq2_0", "bf16", "f16", "f32"]
    plain = ints + native
    sparse = [f"sp{n}b{b}g64" for n in (8, 12, 16, 20, 24) for b in (2, 3, 4)] + ["sp16b5g32", "sp16b6g128", "sp16b8g32", "sp12b5g64"]
    sparse += [f"sp{k}of4b{b}g{g}" for k in (2, 3) for b, g in ((2, 64), (3, 32), (4, 128), (5, 64), (6, 64), (8, 64))]
    sparse += ["gs4b4g32", "gs6b2g32", "gs7b3g64", "gs5b8g128", "gs3b6g32"]
    sparse += [f"{t}g{g}" for t in ("tern34", "tern") for g in (32, 64, 128)]
    with tempfile.TemporaryDirectory() as folder:
        env = dict(os.environ, XDG_CACHE_HOME=folder)
        # Each file gives every matrix a codec of its own, so that a few files show all of them; the first is the planner's choice.
        files = [["--ratio", "30%"]]
        matrices = [n for n in (f"blk.{i}.{m}.weight" for i in range(4) for m in HF_NAMES if "norm" not in m)]
        for at in range(0, len(plain), len(matrices)):
            files.append([x for m, c in zip(matrices, plain[at:] + plain) for x in ("--pin", f"{m}={c}")] + ["--pin", "token_embd.weight=q8_0"])
        for at in range(0, len(sparse), len(matrices)):
            files.append([x for m, c in zip(matrices, sparse[at:] + sparse) for x in ("--pin", f"{m}={c}")] + ["--pin", "token_embd.weight=q8_0"])
        files.append(["--pin", "*=int3g64", "--pin", "blk.0.*=out10+int2g64", "--pin", "blk.1.*=tern34g64+out100", "--pin", "blk.2.attn_q.weight=out1+sp16b3g64"])
        files.append(["--pin", "*=int3g64", "--pin", "blk.1.*=int2g64+lowrank16", "--pin", "blk.2.attn_q.weight=lowrank64+int4g128"])
        files.append(["--pin", "*=int3g64", "--pin", "blk.1.*=int2g64+lowrank16b8", "--pin", "blk.2.*=int2g64+lowrank33b3+lowrank8b4"])
        files.append(["--pin", "*=had:int3g64", "--pin", "blk.1.*=out10+had:q2_k", "--pin", "blk.2.attn_*=had:int2g32+had:terng64", "--pin", "blk.3.ffn_*=had:sp16b3g64"])
        files.append(["--pin", "*=int3g64", "--pin", "blk.1.*=dict96s12b4+int2g64", "--pin", "blk.2.*=int3g64+dict40s30b8", "--pin", "blk.3.attn_q.weight=dict300s5b3+int2g32"])
        files.append(["--pin", "*=had:tcqf2", "--pin", "blk.1.*=tcqf2", "--pin", "blk.2.*=out10+tcqf2", "--pin", "blk.3.*=had:tcqf2+int2g32"])
        importances = ["--imatrix", Path(folder) / "importances.dat"]  # bands of columns have rates and steps of their own
        write_importances(importances[1], source, matrices)
        files.append(["--pin", "*=had:tcq2.25", "--pin", "blk.1.*=tcq1g128", "--pin", "blk.2.*=out10+tcq3.75", "--pin", "blk.3.ffn_*=had:tcq6", "--pin", "blk.3.attn_*=tcq4.5+int2g32", *importances])
        files.append(["--pin", "*=had:ec2.25", "--pin", "blk.1.*=ec1.5", "--pin", "blk.2.*=out10+ec3.75", "--pin", "blk.3.ffn_*=had:ec6", "--pin", "blk.3.attn_*=ec4.5+int2g32", *importances])
        files.append(["--pin", "*=had:e8b2", "--pin", "blk.1.*=e8b3", "--pin", "blk.2.*=e8b4", "--pin", "blk.3.*=had:e8b4+int2g32",
                      "--pin", "blk.0.attn_q.weight=aq1", "--pin", "blk.0.attn_k.weight=aq2", "--pin", "blk.1.attn_q.weight=aq3+int2g32", "--pin", "blk.2.attn_q.weight=aq4"])
        for i, options in enumerate(files):
            path = Path(folder) / f"{i}.snug"
            p = subprocess.run([args.snug, "fit", args.model, "-o", path, "--effort", "quick", *([] if "--imatrix" in options else ["--calib", "none"]), *options], env=env,
                               capture_output=True, text=True)
            assert p.returncode == 0, p.stderr
            artifact = Artifact(path)
            sums = artifact.check_sums()
            more = artifact.unpack_keys()
            check(artifact, source, args.oracle, seen)
            print(f"file {i}: {len(artifact.weights)} weights, {sums} checksums, {len(more)} compressed keys")
    for kind in sorted(seen):
        print(f"{kind:10} {seen[kind][0]:4} payloads, largest relative error {seen[kind][1]:.3e}, {seen[kind][2]}")
    missing = [c for c in plain + sparse + ["lowrank16", "lowrank16b8", "lowrank33b3", "lowrank8b4", "out1", "out10", "out100", "had:int3g64", "had:q2_k",
                                          "had:terng64", "had:sp16b3g64", "dict96s12b4", "dict40s30b8", "dict300s5b3", "tcqf2",
                                          "had:tcqf2", "had:tcq2.25", "tcq1g128", "tcq3.75", "had:tcq6", "tcq4.5", "had:ec2.25", "ec1.5", "ec3.75",
                                          "had:ec6", "ec4.5", "had:e8b2", "e8b3", "e8b4", "had:e8b4",
                                          "aq1", "aq2", "aq3", "aq4"] if c not in seen]
    assert not missing, f"not seen: {missing}"


if __name__ == "__main__":
    main()
