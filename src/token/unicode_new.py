"""Writes unicode_new.c: what `tokenizers` (PyPI, 0.23.3) knows of Unicode against what Python 3.11 (Unicode 14, as PCRE2 10.42) does.

Run with Python 3.11 and tokenizers 0.23.3:  python3.11 src/token/unicode_new.py"""
import pathlib
import sys
import unicodedata as U

from tokenizers import Regex, normalizers, pre_tokenizers

assert U.unidata_version == "14.0.0", "needs Python 3.11"
CHARS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def ranges(chars):
    out = []
    for c in sorted(chars):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def members(pattern):
    """The characters that a one-character pattern matches in the library."""
    text = "\n".join(chr(c) for c in CHARS if c != 10)
    split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    return {ord(ch) for part, _ in split.pre_tokenize_str(text) for ch in part}


def changed_categories():
    names = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co".split()
    category = {c: name for name in names for c in members(r"\p{%s}" % name)}
    rows = []
    for c in CHARS:
        new = category.get(c, "Cn")
        if c == 10 or new == U.category(chr(c)):
            continue
        if rows and rows[-1][1] == c - 1 and rows[-1][2] == new:
            rows[-1][1] = c
        else:
            rows.append([c, c, new])
    return rows


def stand_ins():
    three = {"Mn": 0x1AB0, "Mc": 0x0903, "Po": 0x1B5A, "Lu": 0xA7F5, "Ll": 0xA7F6, "So": 0x2400}
    four = {"Lo": 0x10380, "Nd": 0x104A0, "Lm": 0x16B40, "Lu": 0x1D400, "Ll": 0x1D41A, "Mn": 0x101FD, "Mc": 0x11000, "Pd": 0x10EAD,
            "Sm": 0x1D6C1, "Po": 0x10100, "Cf": 0x110BD, "So": 0x10137, "No": 0x10107}
    scripts = {p: members(r"\p{%s}" % p) for p in ("Han", "Hiragana", "Katakana")}
    by_script = {"Han": 0x20000, "Hiragana": 0x1B001, "Katakana": 0x1B000}
    for first, last, category in changed_categories():
        by = (three if last < 0x10000 else four)[category]
        for name, chars in scripts.items():
            if first in chars:
                by = by_script[name]
        assert U.category(chr(by)) == category
        yield first, last, by


def inert():
    nfd, nfkd, strip = normalizers.NFD(), normalizers.NFKD(), normalizers.StripAccents()
    out = {0x11A7}
    for c in CHARS:
        ch = chr(c)
        if U.combining(ch):
            text = "a" + ch + "\u0334" if U.combining(ch) != 1 else "a\u0301" + ch
            if nfd.normalize_str(text) == text != U.normalize("NFD", text):
                out.add(c)
        if nfkd.normalize_str(ch) == ch != U.normalize("NFKD", ch):
            out.add(c)
        if U.category(ch)[0] == "M" and strip.normalize_str("a" + ch) != "a":
            out.add(c)
    return ranges(out)


def lines(items):
    out, line = "", "   "
    for item in items:
        if len(line) + len(item) + 2 > 120:
            out, line = out + line + "\n", "   "
        line += " " + item + ","
    return out + line + "\n"


path = pathlib.Path(__file__).with_name("unicode_new.c")
source = path.read_text()
rows = list(stand_ins())
blocks = [0] * 16
for first, last, _ in rows:
    for c in range(first, min(last, 0xFFFF) + 1):
        blocks[c >> 12] |= 1 << (c >> 6 & 63)


def replace(source, opening, body):
    at = source.index(opening) + len(opening)
    return source[:at] + body + source[source.index("};", at):]


source = replace(source, "static const stand_in table[] = {\n", lines("{0x%X, 0x%X, 0x%X}" % row for row in rows))
source = replace(source, "static const uint64_t basic_blocks[16] = {\n", lines("0x%X" % b for b in blocks))
source = replace(source, "after_9[] = {\n", lines("{0x%X, 0x%X}" % tuple(r) for r in inert()))
if "--check" in sys.argv:
    sys.exit(source != path.read_text())
path.write_text(source)
