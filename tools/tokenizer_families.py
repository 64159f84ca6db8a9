"""Small tokenizers in the manner of each model family, trained with the `tokenizers` library.

Each entry of FAMILIES is a function (lines, vocab_size) -> dict, the content of a tokenizer.json whose normalizer,
pretokenizer, post-processor and decoder are those that the family ships; only the vocabulary is small.

    gpt2        byte-level BPE, ByteLevel's built-in pattern (GPT-2, and many of its descendants)
    smollm      single digits split off, then ByteLevel's pattern (SmolLM, StarCoder 2)
    llama3      Llama 3's pattern, ignore_merges, BOS by a template
    qwen2       NFC, then Qwen2's pattern (Qwen2, Qwen2.5, Qwen3)
    tekken      Mistral's Tekken pattern (Nemo and later)
    llama2      SentencePiece BPE with byte fallback: normalizer Prepend + Replace, no pretokenizer (Llama 2, TinyLlama)
    mistral     the same with a Metaspace pretokenizer, prepend_scheme first (newer conversions of Mistral 7B)

Every family also gets a few added tokens with the flags that change what text is matched: lstrip, rstrip, normalized,
single_word.  They are the same strings everywhere (SPECIALS), so one set of lines serves all families.
"""
import collections
import json
import re

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
          r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
          r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

# content, flags beyond the default (special, not normalized, no stripping)
SPECIALS = [
    ("<|im_start|>", {}),
    ("<|im_end|>", {}),
    ("<|left|>", {"lstrip": True}),
    ("<|right|>", {"rstrip": True}),
    ("<|both|>", {"lstrip": True, "rstrip": True}),
    ("<tool_call>", {"special": False}),
    ("[NORM]", {"special": False, "normalized": True}),
    ("snugword", {"special": False, "single_word": True}),
    ("\t\t\t", {"special": False}),
]


def added(token_id, content, **flags):
    out = {"id": token_id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
           "normalized": False, "special": True}
    out.update(flags)
    return out


def _byte_level(lines, vocab_size, split=None, digits=False, normalizer=None, ignore_merges=False, bos=None,
                specials_first=False):
    """Byte-level BPE. split: a pattern, or None for ByteLevel's own."""
    own = ([bos] if bos else []) + ["<|endoftext|>"]
    special = [(c, {}) for c in own] + SPECIALS
    tok = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        tok.normalizer = normalizer
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    if split:
        tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), "isolated"), byte_level])
    elif digits:
        tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    else:
        tok.pre_tokenizer = byte_level
    tok.decoder = decoders.ByteLevel()
    n_bpe = vocab_size - len(special)
    tok.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=n_bpe, show_progress=False, special_tokens=[], initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    out = json.loads(tok.to_str())
    vocab = out["model"]["vocab"]
    base = len(special) if specials_first else 0
    if specials_first:
        out["model"]["vocab"] = {k: v + base for k, v in vocab.items()}
    first = 0 if specials_first else len(vocab)
    out["added_tokens"] = [added(first + i, c, **f) for i, (c, f) in enumerate(special)]
    if specials_first:            # GPT-2 and SmolLM list their special tokens in the vocabulary too
        out["model"]["vocab"] = {**{c: i for i, (c, _) in enumerate(special)}, **out["model"]["vocab"]}
    if bos:
        template = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                    "pair": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                             {"SpecialToken": {"id": bos, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}],
                    "special_tokens": {bos: {"id": bos, "ids": [first + own.index(bos)], "tokens": [bos]}}}
        byte = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
        out["post_processor"] = {"type": "Sequence", "processors": [byte, template]}
    else:
        out["post_processor"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return out


def _sentencepiece(lines, vocab_size, metaspace):
    """SentencePiece-style BPE with byte fallback, merges listed as the Hugging Face conversion lists them."""
    head = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    # The commonest characters get pieces of their own; lines are cut at the others, which then fall back to bytes.
    # (The trainer's own limit_alphabet breaks ties at random.)
    count = collections.Counter(c for line in lines for c in line.replace(" ", "▁"))
    chars = sorted(sorted(count, key=lambda c: (-count[c], c))[:min(vocab_size // 3, 600)])
    known = set(chars)
    lines = [part for line in lines for part in "".join(c if c in known or c == " " else "\0" for c in line).split("\0")
             if part]
    n_pieces = vocab_size - len(head) - len(SPECIALS)
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tok.pre_tokenizer = pre_tokenizers.Split(Regex("▁+[^▁]*|[^▁]+"), "isolated")
    tok.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=n_pieces, show_progress=False, special_tokens=[], initial_alphabet=chars))
    learnt = json.loads(tok.to_str())["model"]
    merged = [a + b for a, b in (m if isinstance(m, list) else m.split(" ") for m in learnt["merges"])]
    merged = list(dict.fromkeys(merged))
    merged = merged[:n_pieces - len(chars)]
    vocab = {p: i for i, p in enumerate(head + merged + chars)}
    merges = []
    for piece in merged:           # all ways to make the piece out of two others, the merged piece's rank deciding
        ways = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in vocab and piece[i:] in vocab]
        merges += sorted(ways, key=lambda w: (vocab[w[0]], vocab[w[1]]))
    bos = {"type": "TemplateProcessing",
           "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
           "pair": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                    {"SpecialToken": {"id": "<s>", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}],
           "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    out = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [added(i, c) for i, c in enumerate(head[:3])]
                        + [added(len(vocab) + i, c, **f) for i, (c, f) in enumerate(SPECIALS)],
        "normalizer": None if metaspace else
            {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
            if metaspace else None,
        "post_processor": bos,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": vocab, "merges": [f"{a} {b}" for a, b in merges]},
    }
    return out


FAMILIES = {
    "gpt2": lambda lines, n: _byte_level(lines, n, specials_first=True),
    "smollm": lambda lines, n: _byte_level(lines, n, digits=True, specials_first=True),
    "llama3": lambda lines, n: _byte_level(lines, n, split=LLAMA3, ignore_merges=True, bos="<|begin_of_text|>"),
    "qwen2": lambda lines, n: _byte_level(lines, n, split=QWEN2, normalizer=normalizers.NFC()),
    "tekken": lambda lines, n: _byte_level(lines, n, split=TEKKEN, ignore_merges=True, bos="<s>"),
    "llama2": lambda lines, n: _sentencepiece(lines, n, metaspace=False),
    "mistral": lambda lines, n: _sentencepiece(lines, n, metaspace=True),
}


def dump(tokenizer):
    """tokenizer.json as text, indented but for the two long lists (indented they would triple the file)."""
    vocab = json.dumps(tokenizer["model"]["vocab"], ensure_ascii=False, separators=(",", ":"))
    merges = json.dumps(tokenizer["model"]["merges"], ensure_ascii=False, separators=(",", ":"))
    shell = json.loads(json.dumps(tokenizer))
    shell["model"]["vocab"], shell["model"]["merges"] = "@vocab@", "@merges@"
    text = json.dumps(shell, ensure_ascii=False, indent=1)
    return text.replace('"@vocab@"', vocab).replace('"@merges@"', merges) + "\n"


_ESCAPE = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape(line):
    """One line of lines.txt: UTF-8 with \\\\ \\n \\r \\t, and \\xHH for the other ASCII control characters."""
    return re.sub(r"[\\\x00-\x1f\x7f]", lambda m: _ESCAPE.get(m[0]) or f"\\x{ord(m[0]):02x}", line)


def unescape(line):
    back = {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}
    return re.sub(r"\\(x[0-9a-f]{2}|.)", lambda m: chr(int(m[1][1:], 16)) if m[1][0] == "x" else back[m[1]], line)


def read_lines(path):
    with open(path, encoding="utf-8", newline="\n") as f:
        return [unescape(line) for line in f.read().split("\n")[:-1]]
