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
    gemma       byte fallback, spaces become U+2581 and nothing goes in front, runs of spaces and line ends as added tokens (Gemma)
    phi3        llama2 with special tokens that take the white space behind them (Phi-3)
    gptneox     NFC, then ByteLevel (GPT-NeoX, Pythia, OLMo)
    deepseek    DeepSeek-V3's three patterns
    deepseek1   DeepSeek-LLM's six
    o200k       GPT-4o's pattern (gpt-oss, Llama 4)
    t5          Unigram: Precompiled charsmap, Metaspace (T5, XLM-R)
    llmjp       Unigram with byte fallback (LLM-jp)

Each entry of MODELS is the same for folders without a tokenizer.json: a function (lines, vocab_size) -> ({file name: bytes}, oracle),
where the oracle gives the ids of a line and the text of ids.

    spm-llama   SentencePiece BPE, byte fallback, user-defined and control symbols (Llama 2, Mistral 7B)
    spm-gemma   the same without a space in front, runs of spaces user-defined (Gemma)
    spm-nfkc    SentencePiece Unigram, nmt_nfkc, extra spaces removed, user-defined symbols (T5)
    spm-bytes   SentencePiece Unigram with byte fallback, spaces as they are (Sarashina)
    tiktoken-llama3, tiktoken-qwen, tiktoken-cl100k, tiktoken-kimi
                ranks for tiktoken (Llama 3's original files, Qwen 1, cl100k_base, Kimi K2)
    tekken-json Mistral's tekken.json

Every family also gets a few added tokens with the flags that change what text is matched: lstrip, rstrip, normalized,
single_word.  They are the same strings everywhere (SPECIALS), so one set of lines serves all families.
"""
import base64
import collections
import io
import json
import re
import unicodedata

import sentencepiece
import tiktoken
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
          r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
          r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
          r"|\s+(?!\S)|\s")
KIMI = (r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
        r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+")
DEEPSEEK3 = [r"\p{N}{1,3}", "[一-龥\u3040-\u309f\u30a0-\u30ff]+",
             "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*"
             "|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]
# GGUF's "deepseek-llm" has a long list of letters where this one has \p{L}: a pretokenizer without a name.
DEEPSEEK1 = ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"\s+$", "[一-龥ࠀ-一가-퟿]+", r"\p{N}+"]

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
        patterns = [split] if isinstance(split, str) else split
        tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(p), "isolated") for p in patterns] + [byte_level])
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


def _gemma(lines, vocab_size):
    """Ids and flags as in Gemma's tokenizer.json: its own tokens first, then runs, then bytes."""
    out = _sentencepiece(lines, vocab_size, metaspace=False)
    own = {"<unk>": "<pad>", "<s>": "<eos>", "</s>": "<bos>"}
    out["model"]["vocab"] = {own.get(k, k): v for k, v in out["model"]["vocab"].items()}
    out["model"]["vocab"]["<unk>"] = len(out["model"]["vocab"])
    n = len(out["model"]["vocab"])
    turns = [("<start_of_turn>", {}), ("<end_of_turn>", {})]
    runs = [(c * k, {"special": False}) for c in "\n▁" for k in range(2, 6)]
    out["added_tokens"] = ([added(i, c) for i, c in enumerate(["<pad>", "<eos>", "<bos>"])] + [added(n - 1, "<unk>")]
                           + [added(n + i, c, **f) for i, (c, f) in enumerate(turns + runs + SPECIALS)])
    out["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    out["pre_tokenizer"] = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    out["decoder"]["decoders"].pop()
    bos = {"SpecialToken": {"id": "<bos>", "type_id": 0}}
    out["post_processor"] = {"type": "TemplateProcessing", "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
                             "pair": [bos, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                             "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}}}
    return out


def _phi3(lines, vocab_size):
    out = _sentencepiece(lines, vocab_size, metaspace=False)
    for token in out["added_tokens"]:
        if token["content"] == "</s>" or token["content"].startswith("<|"):
            token["rstrip"] = True
    return out


def _unigram(lines, vocab_size, normalizer, pretok, decoder, rules, byte_fallback):
    """Pieces and scores that SentencePiece's trainer finds; special tokens are pieces, too."""
    model = _trained(lines, vocab_size, model_type="unigram", normalization_rule_name=rules, byte_fallback=byte_fallback)
    charsmap = base64.b64encode(_field(_field(model, 3), 2)).decode()
    sp = sentencepiece.SentencePieceProcessor(model_proto=model)
    vocab = [[sp.id_to_piece(i), sp.get_score(i)] for i in range(len(sp))]
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [added(i, sp.id_to_piece(i)) for i in range(3)]
                            + [added(len(vocab) + i, c, **f) for i, (c, f) in enumerate(SPECIALS)],
            "normalizer": json.loads(json.dumps(normalizer).replace("@map@", charsmap)), "pre_tokenizer": pretok,
            "post_processor": None, "decoder": decoder,
            "model": {"type": "Unigram", "unk_id": sp.unk_id(), "vocab": vocab, "byte_fallback": byte_fallback}}


METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
BYTES_BACK = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
                                               {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
T5_NORMALIZER = {"type": "Sequence", "normalizers": [
    {"type": "Precompiled", "precompiled_charsmap": "@map@"}, {"type": "Strip", "strip_left": False, "strip_right": True},
    {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}]}
MARKS = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}


def _field(message, number):
    """The bytes of a length-delimited field of a protocol buffer (the last of that number)."""
    def varint(at):
        value = shift = 0
        while True:
            value |= (message[at] & 0x7F) << shift
            shift += 7
            at += 1
            if message[at - 1] < 0x80:
                return value, at
    at, found = 0, b""
    while at < len(message):
        tag, at = varint(at)
        if tag & 7 == 2:
            n, at = varint(at)
            if tag >> 3 == number:
                found = message[at:at + n]
            at += n
        elif tag & 7 == 0:
            _, at = varint(at)
        else:
            at += {1: 8, 5: 4}[tag & 7]
    return found


def _trained(lines, vocab_size, **options):
    out = io.BytesIO()
    lines = [line for line in lines if line.strip() and "\0" not in line]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, vocab_size=vocab_size, num_threads=1, character_coverage=0.98,
        max_sentence_length=100000, minloglevel=2, hard_vocab_limit=False, **options)
    return out.getvalue()


def _spm(strip=True, **options):
    """Ids are SentencePiece's; text is what `tokenizers` makes of its pieces (SentencePiece writes another text for unknown ones)."""
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()] + [decoders.Strip(" ", 1, 0)] * strip

    def make(lines, vocab_size):
        model = _trained(lines, vocab_size, **options)
        sp = sentencepiece.SentencePieceProcessor(model_proto=model)
        decode = decoders.Sequence(steps).decode
        return {"tokenizer.model": model}, Oracle(sp.encode, lambda ids: decode([sp.id_to_piece(i) for i in ids]), len(sp), [sp.bos_id()] * (sp.bos_id() >= 0), False)
    return make


# encode: text -> ids; decode: ids -> text; special: special tokens in the text are matched
Oracle = collections.namedtuple("Oracle", "encode decode n_vocab prefix special")


def _ranks(lines, vocab_size, split):
    """Tokens of a byte-level BPE in order of rank, as bytes."""
    vocab = _byte_level(lines, vocab_size + len(SPECIALS) + 1, split=split)["model"]["vocab"]
    visible = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    byte = {chr(c): c for c in visible}
    byte.update({chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in visible)})
    return [bytes(byte[c] for c in token) for token in sorted(vocab, key=vocab.get)]


def _tiktoken(name, pattern, specials, train=LLAMA3, nfc=False, bos=False):
    def make(lines, vocab_size):
        ranks = _ranks(lines, vocab_size, train)
        special = {token: len(ranks) + at for token, at in specials.items()}
        enc = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks={t: i for i, t in enumerate(ranks)}, special_tokens=special)
        text = "".join(f"{base64.b64encode(t).decode()} {i}\n" for i, t in enumerate(ranks))
        prepare = (lambda s: unicodedata.normalize("NFC", s)) if nfc else (lambda s: s)
        return ({name + ".tiktoken": text.encode()},
                Oracle(lambda s: enc.encode(prepare(s), allowed_special="all"), enc.decode, enc.n_vocab, [len(ranks)] * bos, True))
    return make


def _tekken_json(lines, vocab_size):
    n_special = 30
    ranks = _ranks(lines, vocab_size + 50, TEKKEN)  # more than are in use, as in the real file
    enc = tiktoken.Encoding("tekken", pat_str=TEKKEN, mergeable_ranks={t: i for i, t in enumerate(ranks[:vocab_size])}, special_tokens={})
    content = {"config": {"pattern": TEKKEN, "num_vocab_tokens": len(ranks), "default_vocab_size": vocab_size + n_special,
                          "default_num_special_tokens": n_special, "version": "v11"},
               "vocab": [{"rank": i, "token_bytes": base64.b64encode(t).decode()} for i, t in enumerate(ranks)],
               "special_tokens": [{"rank": i, "token_str": t, "is_control": True} for i, t in enumerate(["<unk>", "<s>", "</s>", "[INST]"])]}
    return ({"tekken.json": (json.dumps(content, separators=(",", ":")) + "\n").encode()},
            Oracle(lambda s: [i + n_special for i in enc.encode_ordinary(s)], lambda ids: enc.decode([i - n_special for i in ids]),
                   vocab_size + n_special, [1], False))


LLAMA3_SPECIALS = {"<|begin_of_text|>": 0, "<|end_of_text|>": 1, "<|start_header_id|>": 6, "<|eot_id|>": 9, "<|reserved_special_token_245|>": 255}
QWEN_SPECIALS = {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2, "<|extra_204|>": 207}

MODELS = {
    "spm-llama": _spm(model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
                      split_digits=True, allow_whitespace_only_pieces=True, control_symbols=["<ctl>"],
                      user_defined_symbols=["<ud>", "snug", "▁▁▁▁▁▁▁▁", "\t\t", "im_"]),
    "spm-gemma": _spm(strip=False, model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
                      add_dummy_prefix=False, split_digits=True, user_defined_symbols=["▁▁", "▁▁▁", "▁▁▁▁", "\n", "\n\n", "<|im_start|>"]),
    "spm-nfkc": _spm(model_type="unigram", normalization_rule_name="nmt_nfkc", pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
                     user_defined_symbols=["<ud>", "snug", "the t", "ａｂ", "im_"]),
    "spm-bytes": _spm(model_type="unigram", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
                      allow_whitespace_only_pieces=True, user_defined_symbols=["  "]),
    "tiktoken-llama3": _tiktoken("llama3", LLAMA3, LLAMA3_SPECIALS, bos=True),
    "tiktoken-qwen": _tiktoken("qwen", QWEN2, QWEN_SPECIALS, train=QWEN2, nfc=True),
    "tiktoken-cl100k": _tiktoken("cl100k_base", CL100K, {"<|endoftext|>": 1, "<|fim_prefix|>": 2, "<|endofprompt|>": 20}),
    "tiktoken-kimi": _tiktoken("kimi", KIMI, {}, train=KIMI),
    "tekken-json": _tekken_json,
}

# Of these only hashes of the ids are kept (tests/golden/README.md).
MORE_FAMILIES = {
    "gemma": _gemma,
    "phi3": _phi3,
    "gptneox": lambda lines, n: _byte_level(lines, n, normalizer=normalizers.NFC()),
    "deepseek": lambda lines, n: _byte_level(lines, n, split=DEEPSEEK3, bos="<｜begin▁of▁sentence｜>"),
    "deepseek1": lambda lines, n: _byte_level(lines, n, split=DEEPSEEK1),
    "o200k": lambda lines, n: _byte_level(lines, n, split=O200K),
    "t5": lambda lines, n: _unigram(lines, n, T5_NORMALIZER, METASPACE, METASPACE, "nmt_nfkc", False),
    "llmjp": lambda lines, n: _unigram(lines, n, MARKS, None, BYTES_BACK, "identity", True),
}

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
    merges = json.dumps(tokenizer["model"].get("merges"), ensure_ascii=False, separators=(",", ":"))
    shell = json.loads(json.dumps(tokenizer))
    shell["model"]["vocab"] = "@vocab@"
    if "merges" in shell["model"]:
        shell["model"]["merges"] = "@merges@"
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
