#!/usr/bin/env python3
"""Writes the hand-made seeds of the corpora (stdlib only). The files with hexadecimal names are what libFuzzer found beyond them,
reduced to one per edge of the code:  fuzz_NAME -set_cover_merge=1 -use_counters=0 -max_len=600 NEW_FOLDER SCRATCH_FOLDER"""
import json, os, struct

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")


def put(path, data):
    with open(os.path.join(HERE, path), "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())


def s(text):
    b = text.encode()
    return struct.pack("<Q", len(b)) + b


NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"}


def kv(key, kind, value):
    if kind == 8:
        return s(key) + struct.pack("<I", 8) + s(value)
    return s(key) + struct.pack("<I", kind) + struct.pack(NUMBERS[kind], value)


def array(key, kind, values):
    body = b"".join(s(v) if kind == 8 else struct.pack(NUMBERS[kind], v) for v in values)
    return s(key) + struct.pack("<IIQ", 9, kind, len(values)) + body


def tensor(name, kind, dims, offset):
    return s(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d) for d in dims) + struct.pack("<IQ", kind, offset)


def gguf(version, kvs, tensors, n_data, align=32):
    b = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(kvs)) + b"".join(kvs) + b"".join(tensors)
    return b + bytes(-len(b) % align) + bytes(range(256)) * (n_data // 256) + bytes(n_data % 256)


every = [kv("k%d" % t, t, 1) for t in NUMBERS] + [array("a%d" % t, t, [0, 1]) for t in NUMBERS]
put("gguf/empty.gguf", gguf(3, [], [], 0))
put("gguf/every_type.gguf", gguf(3, every + [kv("s", 8, "text"), array("as", 8, ["a", "", "bc"])], [], 0))
put("gguf/tensors.gguf", gguf(3, [kv("general.architecture", 8, "llama")],
    [tensor("blk.0.attn_q.weight", 12, [256, 2], 0), tensor("norm", 0, [5], 288), tensor("x", 24, [3, 2, 1, 2], 320)], 352))
put("gguf/v2.gguf", gguf(2, [kv("general.alignment", 4, 8)], [tensor("b", 8, [32, 2], 72), tensor("a", 30, [3], 64)], 144, 8))
put("gguf/overlap.gguf", gguf(3, [], [tensor("a", 0, [16], 0), tensor("b", 0, [8], 32)], 64))
put("gguf/twice.gguf", gguf(3, [kv("k", 4, 1), kv("k", 4, 1)], [], 0))
put("gguf/big_endian.gguf", b"GGUF" + struct.pack(">IQQ", 3, 0, 0))
put("gguf/huge_array.gguf", gguf(3, [s("k") + struct.pack("<IIQ", 9, 8, 1 << 61)], [], 0))
put("gguf/huge_dims.gguf", gguf(3, [], [tensor("w", 28, [1 << 33, 1 << 33], 0)], 32))


def st(header, n_data):
    h = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(h)) + h + bytes(n_data)


def t(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


put("safetensors/empty.st", st({}, 0))
put("safetensors/good.st", st({"__metadata__": {"format": "pt"}, "a": t("F32", [1], 0, 4), "b": t("BF16", [2, 3], 4, 16),
    "c": t("F16", [0, 5], 8, 8), "d": t("I64", [], 16, 24), "e": t("F4", [4], 24, 26), "f": t("NEW", [9], 26, 27)}, 27))
put("safetensors/overlap.st", st({"a": t("F32", [2], 0, 8), "b": t("F32", [1], 4, 8)}, 8))
put("safetensors/twice.st", st('{"a":%s,"a":%s}' % ((json.dumps(t("U8", [1], 0, 1)),) * 2), 2))
put("safetensors/dims.st", st({"a": t("U8", [1 << 32, 1 << 32], 0, 1)}, 1))
put("safetensors/nine.st", st({"a": t("U8", [1] * 9, 0, 1)}, 1))
put("safetensors/many.json", json.dumps({"w%d" % i: t(d, [b], 6 * i, 6 * i + n) for i, (d, b, n) in enumerate(
    [("F64", 0, 0), ("F32", 1, 4), ("F16", 2, 4), ("BF16", 3, 6), ("U8", 6, 6), ("BOOL", 1, 1), ("F6_E2M3", 4, 3), ("C64", 0, 0)])}))
put("safetensors/nested.json", '{"__metadata__":{"a":"b"},"x":{"dtype":"F32","shape":[2,2,1],"data_offsets":[0,16]},"y":{"dtype":[],"shape":{}}}')
put("safetensors/long.st", struct.pack("<Q", 1 << 62) + b"{}")

put("st_index/good.json", '{"metadata":{"total_size":8},"weight_map":{"a":"s1","b":"s2"}}')
put("st_index/missing.json", '{"weight_map":{"a":"s2"}}')
put("st_index/climb.json", '{"weight_map":{"a":"../s1","b":"/etc/passwd"}}')
put("st_index/nul.json", '{"weight_map":{"a":"s1\\u0000"}}')
put("st_index/kinds.json", '{"weight_map":{"a":1,"b":[],"c":null}}')

put("json/config.json", json.dumps({"architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "rms_norm_eps": 1e-05,
    "rope_scaling": {"factor": 8.0, "rope_type": "llama3"}, "tie_word_embeddings": False, "rope_theta": 500000.0, "x": None,
    "eos_token_id": [1, 2]}))
put("json/python.json", '{"model_max_length": 1000000000000000019884624838656, "l": [0.0, Infinity, -Infinity], "a": -9223372036854775809,'
    ' "b": 9223372036854775807, "f": 3.14159265358979323846264338, "e": 1E-00000000000000000000001, "s": "Infinity \\" 99999999999999999999"}')
put("json/bom.json", b'\xef\xbb\xbf{"a": 1, "a": 2, "n": "a\\u0000b", "u": "\\ud83d\\ude00"}')
put("json/deep.json", "[" * 100 + "]" * 100)
put("json/odd.json", '{"-": -, "I": Inf, "n": 00, "x": 1e999}')

listed = {"type": "file", "path": "model.safetensors", "size": 1000, "oid": "0" * 40, "lfs": {"oid": "ab" * 32, "size": 1000, "pointerSize": 134}}
put("hub/page.json", json.dumps([{"type": "directory", "path": "a"}, {"type": "file", "path": "a/b", "size": 5, "oid": "c" * 40}, listed]))
put("hub/climb.json", json.dumps([{**listed, "path": "a/../../b"}, {**listed, "path": "x\\y"}]))
put("hub/nul.json", '[{"type":"file","path":"a\\u0000b","size":1,"oid":"%s"}]' % ("0" * 40))
put("hub/commit.json", '{"id":"org/name","sha":"0123456789abcdef0123456789abcdef01234567","gated":false}')
put("hub/index.json", '{"weight_map":{"a":"model.safetensors","b":"../x"}}')
put("hub/link.txt", '<https://hub/api?a=1>; rel="prev", <https://hub/api?recursive=true&cursor=Zm9v%3D>; rel="next"')
put("hub/ranges.journal", "snug pull 1 sha256 %s 1000\n0 10\n990 1000\n5 500\n1000 1001\n" % ("ab" * 32))

def varint(v):
    out = b""
    while v > 127:
        out += bytes([v & 127 | 128])
        v >>= 7
    return out + bytes([v])


def field(number, value):
    """A field of a protocol buffer: int as varint, float, bytes or text."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def pieces(rows):
    return b"".join(field(1, field(1, text) + field(2, float(score)) + (field(3, kind) if kind != 1 else b"")) for text, score, kind in rows)


def charsmap():
    """A double array of 512 units with one rule: "a" becomes "bc"."""
    unit = [0] * 512
    unit[0] = 256 << 10
    unit[0x161] = ord("a") | 0x100 | (0x161 ^ 0x1F0) << 10
    unit[0x1F0] = 0x80000000
    return struct.pack("<I512I", 2048, *unit) + b"bc\0"


special = [("<unk>", 0, 2), ("<s>", 0, 3), ("</s>", 0, 3)]
normal = [("▁", -1, 1), ("t", -2, 1), ("h", -3, 1), ("e", -3, 1), ("th", -4, 1), ("the", -5, 1), ("▁the", -5.5, 1), ("a", -3, 1), ("b", -3, 1), ("ab", -6, 1)]
byte = [("<0x%02X>" % b, 0, 6) for b in range(256)]
put("spm/bpe.model", pieces(special + byte + normal + [("<ud>", 0, 4), ("  ", 0, 4)]) + field(2, field(3, 2) + field(35, 1))
    + field(3, field(1, "identity") + field(4, 0)))
put("spm/unigram.model", pieces(special + normal + [("<ud>", 0, 4)]) + field(2, field(3, 1)) + field(3, field(2, charsmap())))
put("spm/plain.model", pieces(special + normal) + field(2, field(3, 2) + field(41, 2**64 - 1)) + field(3, field(3, 0) + field(4, 0)))
put("spm/word.model", pieces(special + normal) + field(2, field(3, 3)))
base64_of = lambda b: __import__("base64").b64encode(b).decode()
ranked = [bytes([b]) for b in range(256)] + [b"th", b"the", b" t", b" the", b"  ", b"ab"]
put("spm/ranks.model", "".join("%s %d\n" % (base64_of(t), i) for i, t in enumerate(ranked)))
put("spm/tekken.json", json.dumps({"config": {"pattern": " ?\\w+|\\s+|[^\\s\\w]+", "default_vocab_size": 270, "default_num_special_tokens": 10},
    "vocab": [{"rank": i, "token_bytes": base64_of(t)} for i, t in enumerate(ranked)],
    "special_tokens": [{"rank": 0, "token_str": "<unk>"}, {"rank": 1, "token_str": "<s>"}]}, separators=(",", ":")))
put("tokenizer/unigram.json", json.dumps({"model": {"type": "Unigram", "unk_id": 0, "byte_fallback": False,
    "vocab": [["<unk>", 0.0], ["▁", -1.5], ["t", -2.25], ["he", -3.125e0], ["the", -5], ["▁the", -4.0625], ["b", -7.1e-2], ["c", -2]]},
    "normalizer": {"type": "Precompiled", "precompiled_charsmap": base64_of(charsmap())},
    "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
    "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
    "added_tokens": [{"id": 0, "content": "<unk>", "special": True}, {"id": 8, "content": "<s>", "special": True}]}, ensure_ascii=False))
put("tokenizer/t5.gguf", gguf(3, [kv("tokenizer.ggml.model", 8, "t5"), array("tokenizer.ggml.tokens", 8, [p[0] for p in special + normal]),
    array("tokenizer.ggml.scores", 6, [p[1] for p in special + normal]), array("tokenizer.ggml.token_type", 5, [p[2] for p in special + normal]),
    kv("tokenizer.ggml.add_space_prefix", 7, 1), kv("tokenizer.ggml.remove_extra_whitespaces", 7, 1),
    array("tokenizer.ggml.precompiled_charsmap", 0, list(charsmap()))], [], 0))

for golden in ("gemma2", "gemma3", "gemma3_vision", "gpt_oss", "gpt_oss_mxfp4", "granite", "granitehybrid", "granitehybrid_moe", "granitemoe", "llama3", "mamba2", "ministral3", "mistral", "olmo3", "qwen2vl", "olmoe", "phi3_long", "qwen2_yarn", "qwen3moe", "smollm3", "starcoder2", "bitnet_packed"):
    put(f"config/{golden}.json", open(os.path.join(HERE, "..", "..", "golden", golden, "config.json"), encoding="utf-8").read())
put("config/dynamic.json", json.dumps({**json.loads(open(os.path.join(HERE, "..", "..", "golden", "llama2", "config.json"), encoding="utf-8").read()), "rope_scaling": {"type": "dynamic", "factor": 2.5}}))
