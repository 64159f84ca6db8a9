#!/usr/bin/env python3
"""Tokenizer goldens: lines of many kinds of text, and the ids that the `tokenizers` library gives them.

    tools/make_tokenizer_goldens.py                       # from the committed lines
    tools/make_tokenizer_goldens.py --new-lines TEXT      # makes new lines; TEXT is public-domain English prose

Writes tests/golden/tokenizers/lines.txt and, per family, tokenizer.json and ids.bin, or the files of another kind of tokenizer
and hashes.bin; tests/golden/README.md has the layout.  Code points are those assigned in Unicode 14 (with private use, noncharacters and planes never assigned): a later
one would test the age of the Unicode tables rather than the tokenizer.

Needs: tokenizers, sentencepiece, tiktoken, xxhash, numpy.
"""
import argparse
import pathlib
import random
import struct
import sys
import unicodedata

import numpy as np
import xxhash
from tokenizers import Tokenizer, normalizers

import tokenizer_families as tf

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "tests" / "golden" / "tokenizers"
VOCAB = {"gpt2": 2000, "smollm": 1536, "llama3": 4000, "qwen2": 3000, "tekken": 2500, "llama2": 2000, "mistral": 1500,
         "gemma": 1300, "phi3": 1200, "gptneox": 1000, "deepseek": 1200, "deepseek1": 1000, "o200k": 1100, "t5": 1200, "llmjp": 1200,
         "spm-llama": 1500, "spm-gemma": 1200, "spm-nfkc": 1500, "spm-bytes": 1200, "tiktoken-llama3": 1200, "tiktoken-qwen": 1000,
         "tiktoken-cl100k": 1000, "tiktoken-kimi": 1100, "tekken-json": 1000}

SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", "\v", "\f", "\x1c", "\x85", "\u00a0", "\u1680", "\u180e", "\u2000", "\u2003",
          "\u2007", "\u2009", "\u200a", "\u200b", "\u200c", "\u200d", "\u2028", "\u2029", "\u202f", "\u205f", "\u2060", "\u3000",
          "\ufeff", "\t\t", "\t\t\t", "        ", " \t ", " \n ", "\n\t\n"]

HAN = ("的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去法学"
       "如都同现当没动面起看定天分还进好小部其些主样理心本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高"
       "漢字變體臺灣學習圖書館龍龜鬱驛學校電氣國際")
KANA = "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをんがぎぐげござじずぜぞだでどばびぶべぼぱぴぷぺぽっゃゅょアイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワヲンー"
HANGUL = "가나다라마바사아자차카타파하거너더러머버서어저처커터퍼허고노도로모보소오조초코토포호한국어안녕하세요감사합니다배우는사람이많습니다"
CJK_PUNCT = "，。！？；：「」『』（）、・…〜《》【】"
WORDS = {
    "arabic": "السلام عليكم كتاب مدرسة قلم شمس قمر بَيْتٌ مُحَمَّد الْعَرَبِيَّة لغة جميلة ١٢٣ ٤٥٦ هذا الذي فيه ؟ ، ؛ لا إلى أنا ـــ ﷺ ﻻ".split(),
    "hebrew": "שלום עולם ספר בית שָׁלוֹם תורה ירושלים מים אור־ ״ ׳ לֶחֶם".split(),
    "devanagari": "नमस्ते दुनिया हिन्दी क्षत्रिय विज्ञान पुस्तक है में १२३ ॥ श्री कर्म".split(),
    "thai": "สวัสดี ชาวโลก ภาษาไทย น้ำ กิน ที่ ๑๒๓ ไป".split(),
    "greek": "καλημέρα κόσμε ΕΛΛΑΔΑ Ἀθῆναι λόγος ὁ ἄνθρωπος ς σ Σ ῥῆμα".split(),
    "cyrillic": "привет мир Война и мир ЁЛКА й и\u0306 язык Україна ў њ".split(),
    "other": "გამარჯობა ქართული Հայաստան ሰላም ᠮᠣᠩᠭᠣᠯ ᏣᎳᎩ བོད་ཡིག ខ្មែរ မြန်မာ தமிழ் తెలుగు සිංහල Việt Nam tiếng ngữ Straße İstanbul ıI ǅ ﬁ ﬃ Æsop naïve Ångström".split(),
}
EMOJI = ["😀", "😂", "❤", "❤️", "👍", "👍🏽", "👩‍👩‍👧‍👦", "👨🏿‍💻", "🏳️‍🌈", "🏴‍☠️", "🇩🇪", "🇯🇵", "🇺🇸🇫🇷", "1️⃣", "#️⃣", "☺️", "✈", "🤷🏻‍♀️", "🧑‍🚀", "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
         "©", "™", "⌚", "🫠", "🥹", "🐈‍⬛", "💯", "🔥🔥🔥"]
COMBINE = "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030c\u0323\u0327\u0328\u0331\u0345\u0338\u20d7\u05b0\u05b4\u064b\u0651\u093c\u094d\u3099\u309a"
SINGLETONS = "\u212b\u2126\u212a\u0340\u0341\u0343\u0374\u037e\u0387\u2000\u2001\u2329\u232a\uf900\uf902\uf9ff\ufa10\u0958\u095c\u09dc\u0a33\u0f43\ufb1d\ufb2a\u2adc\U0001d15e\U0001d1bb\U0002f800\U0002f81a"
CONTRACTIONS = ["'s", "'S", "'t", "'T", "'re", "'RE", "'Re", "'ve", "'VE", "'m", "'M", "'ll", "'LL", "'lL", "'d", "'D", "\u2019s", "'\u017f", "'\u212a",
                "'", "''", "'x", " 's", "'st", "'llama"]
NUMBERS = ["0", "7", "42", "123", "1234", "12345", "1234567", "3.14159", "1e-5", "0xdeadbeef", "1,000,000", "٣٤٥", "१२३४", "Ⅷ", "½", "²³", "⑳",
           "一二三", "２０２４", "\U0001d7d8\U0001d7d9\U0001d7da\U0001d7db", "12:34:56", "2024-02-30", "v1.2.3", "10%", "$5", "€9.99"]
IDENT = "i n row col buf size len ptr data model token get_value set_value HTTPServer myVariable _private __init__ CamelCase XMLHttpRequest snake_case_name kMax T x1 y2".split()
CODE = [
    "int {a} = {n};", "for (size_t {a} = 0; {a} < {b}; {a}++) {{", "\tif ({a} != NULL && {b}->{c} == {n}) return -1;", "#define {A} ({n}u << {m})",
    "    def {a}(self, {b}: int = {n}) -> None:", "        return [{a} for {a} in {b} if {a} % {m} == 0]", "import {a}.{b} as {c}",
    '{{"{a}": {n}, "{b}": [true, null, "{c}\\n"]}}', "<div class=\"{a}\">{b}&nbsp;{c}</div>", "SELECT {a}, COUNT(*) FROM {b} WHERE {c} > {n};",
    "$ {a} --{b}={c} | grep -v '{n}' > /dev/null 2>&1", "// {a}: {b} --> {c}  TODO({m})", "printf(\"%-10s|%5.2f\\n\", {a}, {n}.{m}f);",
    "fn {a}<'a, T: {b}>(x: &'a T) -> Option<{c}> {{ x?.{b}() }}", "@{a}\nclass {b}({c}):\n    \"\"\"{n}\"\"\"\n\n    pass\n", "\t\t\t\t{a} += {b}[{c}];  /* {n} */",
    "{a}::{b}<{c}> &&{a} = *{b}++ + ~{c} ^ 0x{n:x};", "https://example.org/{a}/{b}?{c}={n}&x=%20#top", "/usr/share/{a}/{b}.{c}", "a\\b\\{c} \\u{n:04x}",
    "{a} <- function({b}) {{ {c} %>% filter(x >= {n}) }}", "let {a} = `${{{b}}} is ${{{c}}}`;", "    \n        \n{a}:\n  - {b}: {n}\n  - {c}\n",
]


def prose(rng, text):
    n = int(rng.choice([20, 40, 80, 80, 120, 160, 240]))
    at = rng.randrange(len(text) - 400)
    return text[at:at + n]


def code(rng, _):
    pick = lambda: rng.choice(IDENT)
    a, b, c = pick(), pick(), pick()
    one = lambda: rng.choice(CODE).format(a=a, b=b, c=c, A=a.upper(), n=rng.randrange(10 ** rng.randrange(1, 7)), m=rng.randrange(10))
    return rng.choice(["", "", " ", "    ", "\t"]) + rng.choice(["\n", "\n    ", "; ", "\r\n"]).join(one() for _ in range(rng.randrange(1, 3)))


def cjk(rng, _):
    pool = rng.choice([HAN, HAN, KANA, KANA + HAN, HANGUL, HANGUL])
    out = []
    for _ in range(rng.randrange(3, 30)):
        r = rng.random()
        out.append(rng.choice(CJK_PUNCT) if r < 0.1 else rng.choice(["AI", " GPU ", "2024", "３", " ", "ok"]) if r < 0.16
                   else chr(rng.randrange(0x4E00, 0x9FF0)) if r < 0.22 else chr(rng.randrange(0xAC00, 0xD7A4)) if r < 0.25 else rng.choice(pool))
    return "".join(out)


def scripts(rng, _):
    words = WORDS[rng.choice(["arabic", "arabic", "arabic"] + list(WORDS))]
    return rng.choice(["", "", " ", "\u200f"]) + rng.choice([" ", " ", "  ", ", "]).join(rng.choice(words) for _ in range(rng.randrange(1, 10)))


def emoji(rng, text):
    return "".join(rng.choice([rng.choice(EMOJI), rng.choice(EMOJI), " ", rng.choice(["ok", "Hi", "!", "a"])]) for _ in range(rng.randrange(1, 12)))


def whitespace(rng, text):
    word = lambda: rng.choice(["a", "the", "x1", "Zug", "12", "!", "...", "über", "中", ",", "#", "/", "\u00a0b"])
    return "".join(rng.choice([rng.choice(SPACES), rng.choice(SPACES), " " * rng.randrange(1, 12), word(), word()]) for _ in range(rng.randrange(1, 14)))


def combining(rng, _):
    out = []
    for _ in range(rng.randrange(2, 14)):
        r = rng.random()
        base = rng.choice("aeiouyAEOUcnszåéñüΩакиعनかハ ")
        if r < 0.55:
            out.append(base + "".join(rng.choice(COMBINE) for _ in range(rng.randrange(0, 4))))
        elif r < 0.7:
            out.append(rng.choice(SINGLETONS))
        elif r < 0.85:      # Hangul jamo that compose, and some that do not
            out.append(chr(0x1100 + rng.randrange(19)) + chr(0x1161 + rng.randrange(21)) + (chr(0x11A7 + rng.randrange(28)) if rng.random() < 0.6 else ""))
        else:
            out.append(unicodedata.normalize("NFD", rng.choice(["Việt", "Ǘber", "ḗ", "ṩ", "각", "ガギグ", "ñandú", "Å"])))
    return "".join(out)


def unicode_pool():
    nfc = normalizers.NFC().normalize_str

    def stable(c):
        """Assigned, and, if it combines, old enough to be in the library's NFC tables, which lag some versions behind."""
        probe = "a\u0323" + chr(c) + "\u0301\u0327"
        return unicodedata.category(chr(c)) not in ("Cn", "Cs") and nfc(probe) == unicodedata.normalize("NFC", probe)
    assigned = [c for c in range(0x80, 0x32000) if stable(c)]
    never = [0xFFFE, 0xFFFF, 0x1FFFE, 0xFDD0, 0x5FFFF, 0x50000, 0x9ABCD, 0xE0001, 0xF0000, 0xFFFFD, 0x10FFFD, 0x10FFFF, 0xE000, 0xF8FF]
    return assigned, never


ASSIGNED, NEVER = unicode_pool()


def any_unicode(rng, _):
    out = []
    plane = rng.random() < 0.5
    start = rng.randrange(len(ASSIGNED) - 200)
    for _ in range(rng.randrange(1, 14)):
        r = rng.random()
        out.append(chr(rng.choice(NEVER)) if r < 0.03 else rng.choice("a1 .\n'") if r < 0.15 else chr(rng.randrange(0x80)) if r < 0.25
                   else chr(ASSIGNED[start + rng.randrange(200)]) if plane else chr(rng.choice(ASSIGNED)))
    return "".join(out)


def special(rng, text):
    word = lambda: rng.choice(["hello", "Mary", "user", "x", ".", "\n", "\n\n", "12", "é", "中文", "<|", "|>", "<", "im_start"])
    token = lambda: rng.choice(rng.choice([tf.SPECIALS, [("<s>", 0), ("</s>", 0), ("<unk>", 0), ("<|endoftext|>", 0), ("<|begin_of_text|>", 0), ("<0x0A>", 0)]]))[0]
    return "".join(rng.choice([token(), token(), word(), " ", "  ", rng.choice(SPACES)]) for _ in range(rng.randrange(1, 10)))


def numbers(rng, _):
    return "".join(rng.choice([rng.choice(NUMBERS), rng.choice(CONTRACTIONS), rng.choice([" ", " ", "", "I", "we", "They", "x"])]) for _ in range(rng.randrange(1, 10)))


def edge(rng, _):
    r = rng.randrange(6)
    if r == 0:
        return chr(rng.choice(ASSIGNED))
    if r == 1:
        return rng.choice("a1 .\n中é\x00") * rng.choice([1, 2, 3, 31, 64, 129, 500])
    if r == 2:
        return rng.choice(["", " ", "  ", "\n", "\t", "\x00", "\x7f", "a\x00b", "▁", "▁▁", " ▁", "a▁b", "Ġ", "ĊĊ", "Ā", "\\", "\\n"])
    if r == 3:
        return chr(rng.randrange(0x80)) + chr(rng.randrange(0x80))
    if r == 4:
        return rng.choice(["ab", " a", "a ", "xyz "]) * rng.randrange(2, 60)
    return rng.choice(SPACES) * rng.randrange(1, 9) + rng.choice(["", "a", " a", "1", "."])


KINDS = [(prose, 2600), (code, 1300), (cjk, 1200), (scripts, 900), (emoji, 600), (whitespace, 1000), (combining, 700),
         (any_unicode, 1000), (special, 350), (numbers, 250), (edge, 100)]


def make_lines(text):
    rng = random.Random(20)
    lines = [make(rng, text) for make, count in KINDS for _ in range(count)]
    assert len(lines) == 10000
    return lines


def write_ids(path, tokenizer, lines):
    """Layout in tests/golden/README.md."""
    plain = [tokenizer.encode(line, add_special_tokens=False).ids for line in lines]
    whole = tokenizer.encode("x").ids
    inner = tokenizer.encode("x", add_special_tokens=False).ids
    at = next(i for i in range(len(whole)) if whole[i:i + len(inner)] == inner)
    prefix, suffix = whole[:at], whole[at + len(inner):]
    hashes = [xxhash.xxh3_64_intdigest(tokenizer.decode(ids, skip_special_tokens=False).encode()) for ids in plain]
    with open(path, "wb") as f:
        f.write(b"SNGT" + struct.pack("<IIIII", 1, len(lines), tokenizer.get_vocab_size(), len(prefix), len(suffix)))
        f.write(np.array(prefix + suffix, "<u2").tobytes())
        f.write(np.array([len(p) for p in plain], "<u2").tobytes())
        f.write(np.array([i for p in plain for i in p], "<u2").tobytes())
        f.write(np.array(hashes, "<u8").tobytes())
    return sum(map(len, plain))


def write_hashes(path, oracle, lines):
    """Layout in tests/golden/README.md."""
    ids = [oracle.encode(line) for line in lines]
    of_ids = [xxhash.xxh3_64_intdigest(np.array(i, "<i4").tobytes()) & 0xFFFFFFFF for i in ids]
    of_text = [xxhash.xxh3_64_intdigest(oracle.decode(i).encode()) & 0xFFFFFFFF for i in ids]
    with open(path, "wb") as f:
        f.write(b"SNGH" + struct.pack("<IIIII", 1, len(lines), oracle.n_vocab, len(oracle.prefix), oracle.special))
        f.write(np.array(oracle.prefix, "<u4").tobytes() + np.array(of_ids, "<u4").tobytes() + np.array(of_text, "<u4").tobytes())
    return sum(map(len, ids))


def json_oracle(path):
    tokenizer = Tokenizer.from_file(str(path))
    prefix = [i for i in tokenizer.encode("").ids]
    return tf.Oracle(lambda s: tokenizer.encode(s, add_special_tokens=False).ids, lambda ids: tokenizer.decode(ids, skip_special_tokens=False),
                     tokenizer.get_vocab_size(), prefix, True)


def make_more(train, lines, only):
    """The families of which only hashes are kept."""
    for name in [n for n in (*tf.MORE_FAMILIES, *tf.MODELS) if not only or n in only]:
        folder = OUT / name
        folder.mkdir(exist_ok=True)
        if name in tf.MORE_FAMILIES:
            content = tf.dump(tf.MORE_FAMILIES[name](train, VOCAB[name]))
            (folder / "tokenizer.json").write_text(content, encoding="utf-8", newline="\n")
            oracle = json_oracle(folder / "tokenizer.json")
        else:
            files, oracle = tf.MODELS[name](train, VOCAB[name])
            for file, content in files.items():
                (folder / file).write_bytes(content)
        n_ids = write_hashes(folder / "hashes.bin", oracle, lines)
        print(f"{name}: {oracle.n_vocab} tokens in the vocabulary, {n_ids} ids", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--new-lines", metavar="TEXT", help="make new lines, with English prose out of this file")
    parser.add_argument("--only", nargs="*", metavar="FAMILY", help="make these families, of those with hashes")
    args = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    if args.new_lines:
        with open(args.new_lines, encoding="utf-8") as f:
            lines = make_lines(f.read())
        with open(OUT / "lines.txt", "w", encoding="utf-8", newline="\n") as f:
            f.writelines(tf.escape(line) + "\n" for line in lines)
    lines = tf.read_lines(OUT / "lines.txt")
    if args.new_lines:
        assert lines == make_lines(open(args.new_lines, encoding="utf-8").read())
    # A vocabulary that had learnt an added token's own text would give it two ids.
    train = [line for line in lines if not any(content in line for content, _ in tf.SPECIALS)]
    make_more(train, lines, args.only)
    for name, make in tf.FAMILIES.items() if not args.only else ():
        folder = OUT / name
        folder.mkdir(exist_ok=True)
        with open(folder / "tokenizer.json", "w", encoding="utf-8", newline="\n") as f:
            f.write(tf.dump(make(train, VOCAB[name])))
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        assert tokenizer.get_vocab_size() == VOCAB[name]
        n_ids = write_ids(folder / "ids.bin", tokenizer, lines)
        print(f"{name}: {tokenizer.get_vocab_size()} tokens in the vocabulary, {n_ids} ids", file=sys.stderr)


if __name__ == "__main__":
    main()
