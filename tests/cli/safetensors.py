"""Reading and writing safetensors, with Python's standard library only: tensors are (dtype, shape, bytes) by name."""
import json
import struct


def read(folder):
    """All tensors of a folder's files."""
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        data = path.read_bytes()
        n = struct.unpack_from("<Q", data)[0]
        for name, t in json.loads(data[8:8 + n]).items():
            if name != "__metadata__":
                begin, end = t["data_offsets"]
                tensors[name] = t["dtype"], t["shape"], data[8 + n + begin:8 + n + end]
    return tensors


def write(path, tensors):
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def floats(tensor):
    """Of a tensor of type F32, BF16 or F16."""
    dtype, _, data = tensor
    if dtype == "F32":
        return list(struct.unpack(f"<{len(data) // 4}f", data))
    if dtype == "F16":
        return list(struct.unpack(f"<{len(data) // 2}e", data))
    raw = bytearray(2 * len(data))
    raw[2::4], raw[3::4] = data[0::2], data[1::2]
    return list(struct.unpack(f"<{len(data) // 2}f", bytes(raw)))


def f32(values, shape):
    return "F32", list(shape), struct.pack(f"<{len(values)}f", *values)


def bf16(values, shape):
    """Cut, not rounded: numbers that bf16 has stay what they are."""
    raw = struct.pack(f"<{len(values)}f", *values)
    out = bytearray(len(raw) // 2)
    out[0::2], out[1::2] = raw[2::4], raw[3::4]
    return "BF16", list(shape), bytes(out)
