"""Random templates: does snug make of them what Jinja2 does?

    test_random_templates.py [--seed N] [--count N] [--list]

Half of them are one expression each (operators, filters, tests and methods upon each other over values of all kinds), half are statements within
statements, with every way of stripping white space. A text that differs is a failure, and so is a text where Jinja2 fails. What snug alone
refuses is counted: it refuses rather than guess, and it evaluates at once what Jinja2 leaves until somebody looks at it."""
import random
import re
import sys
import warnings

from common import arguments
from jinja_oracle import agree, by_jinja2, by_snug, describe, environment

VALUES = {
    "n": 7, "x": 2.5, "neg": -3, "zero": 0, "big": 123456789012, "none": None, "yes": True, "no": False, "e": "", "w": "abc", "num": "42", "fl": " 3.5 ",
    "s": "  Hello, Wörld! it's \"fine\"\n", "u": "日本語 ß Ǆ ﬁ İ", "lines": "a\nbb\n\n  c\r\nd", "html": "<a href=\"x\">&'</a>",
    "l": [3, 1, 2, 1], "ls": ["b", "A", "c", ""], "mix": [1, "a", None, 2.5, [1, 2], {"k": 1}], "d": {"b": 1, "a": {"c": [1, 2]}, "items": 5},
    "dd": [{"k": "v", "n": 2}, {"k": "w", "n": 1}, {"k": "v"}]}
NAMES = list(VALUES) + ["missing"]
LITERALS = """0|1|2|-1|3|1.5|0.1|'a'|''|' '|'l'|','|'\\n'|"k"|'é'|true|false|none|[]|[1, 2]|['a']|{}|{'a': 1}|(1, 2)|()|('a',)|range(3)|range(5, 0, -2)""".split("|")
FILTERS = """abs;capitalize;count;d("z");default("z", true);dictsort;dictsort(by="value");e;escape;first;float;float(1.5);format(1, "a");indent;indent(2);
indent(2, true);indent("> ", blank=true);int;int(9);items;join;join(", ");join("-", attribute="k");last;length;list;lower;map("upper");map("length");
map(attribute="k");map(attribute="n", default=0);max;min;reject;reject("odd");rejectattr("k","eq","v");replace("l","L");replace("a","");replace("l","L",1);
reverse;round;round(1);round(0,"floor");safe;select;select("string");selectattr("n");selectattr("k","equalto","v");sort;sort(reverse=true);
sort(attribute="k");string;sum;sum(attribute="n");title;tojson;tojson(indent=2);tojson(ensure_ascii=true);trim;trim("l ");unique;upper;wordcount;attr("k");
center(12)""".replace("\n", "").split(";")
TESTS = """boolean;callable;defined;divisibleby 2;eq 1;even;false;float;ge(2);in l;in "abc";integer;iterable;lower;lt 5;mapping;none;number;odd;sameas none;
sequence;string;true;undefined;upper;ne "a\"""".replace("\n", "").split(";")
METHODS = """strip();lstrip();rstrip();strip("a ");split();split(",");split("l", 1);rsplit(" ", 1);rsplit("l");splitlines();splitlines(true);startswith("a");
startswith(("a", " "));endswith("c");upper();lower();title();capitalize();swapcase();casefold();replace("l", "1");replace("", "-", 2);find("l");rfind("l");
index("b");count("l");join(ls);join(l);isdigit();isalpha();isalnum();isspace();isupper();islower();isascii();isnumeric();isdecimal();removeprefix("a");
removesuffix("c");ljust(8);rjust(8, "*");center(8);center(9, ".");zfill(6);partition("l");rpartition("l");items();keys();values();get("a");get("q", 1);
get("items");index(1);count(1);copy();format(1);k;b;items;0""".replace("\n", "").split(";")
OPERATORS = "+ - * / // % ~ == != < <= > >= in and or".split() + ["not in"]
SUBSCRIPTS = """0 -1 1: ::-1 :2 -2: 1:-1 9 "k" "a" ::2 none 1.0 true""".split()
FORMATS = """"{}".format(X)  "{:>8}|".format(X)  "{:<6}|{:^7}|{:05d}".format(X, X, n)  "{0!r} {0}".format(X)  "{:05d}".format(X)  "{:.2f}".format(X)
"{:,}".format(X)  "{a[k]} {a.k}".format(a=X)  "{{}} {}".format(X)  "%s" % (X,)  "%r|%5s|%-5s|" % (X, X, X)  "%d %i" % (X, X)  "%5.1f|%e|%g" % (X, X, X)
"%x %X %#o" % (X, X, X)  "%(k)s" % X  "%s" % X  "%+d % d %05d" % (X, X, X)  "%%" % X  "%s %s" % (X,)""".replace("\n", "  ").split("  ")
LOOP = """index first last length revindex0 previtem nextitem cycle("a","b") changed(i) depth index0""".split()
SPACE = ["", " ", "\n", "  ", "\n\n", "\n  ", "\t", "x", "x\n", " y ", "é", "\r\n", "}", "{", '"', "\\"]


class Writer:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.pick = self.random.choice

    def expression(self, depth):
        if depth <= 0:
            return self.pick(NAMES) if self.random.random() < 0.75 else self.pick(LITERALS)
        def sub():
            return f"({self.expression(depth - self.random.randrange(1, 3))})"
        forms = (
            (30, lambda: f"{sub()}|{self.pick(FILTERS)}"), (12, lambda: f"{sub()} is {self.pick(['', '', 'not '])}{self.pick(TESTS)}"),
            (18, lambda: f"{sub()}.{self.pick(METHODS)}"), (15, lambda: f"{sub()} {self.pick(OPERATORS)} {sub()}"), (1, lambda: f"{sub()} ** {self.pick(['2', '-1', '0.5'])}"),
            (5, lambda: f"{sub()}[{self.pick(SUBSCRIPTS)}]"),
            (4, lambda: f"{sub()} if {sub()} else {sub()}"), (3, lambda: f"not {sub()}"), (2, lambda: f"-{sub()}"), (4, lambda: self.pick(FORMATS).replace("X", sub())),
            (2, lambda: f"[{sub()}, {sub()}]"), (1, lambda: f"({sub()}, {sub()})"), (1, lambda: f"{{'k': {sub()}, 'l': 1}}"), (1, lambda: f"dict(k={sub()})"),
            (1, lambda: f"namespace(k={sub()}).k"))
        return self.random.choices([f for _, f in forms], [w for w, _ in forms])[0]()

    def one_expression(self):
        around = ["{{ E }}", "{{ E }}", "{{ E }}", "{% for i in E %}{{ loop.index }}{{ i }};{% else %}none{% endfor %}", "{% set v = E %}[{{ v }}|{{ v|string|length }}]",
                  "{% if E %}T{% else %}F{% endif %}", "{{ (E)|tojson }}"]
        return self.pick(around).replace("E", self.expression(self.random.randrange(1, 4)))

    def tag(self, inside):
        return f"{self.pick(['{%', '{%', '{%-', '{%-', '{%+'])} {inside} {self.pick(['%}', '%}', '-%}', '+%}'])}"

    def output(self, inside):
        return f"{self.pick(['{{', '{{-'])} {inside} {self.pick(['}}', '-}}'])}"

    def simple(self):
        return self.pick([self.expression(self.random.randrange(2)), *"a b i ns.q v n s l".split()])

    def body(self, depth):
        return "".join(self.pick(SPACE) + self.statement(depth - 1) + self.pick(SPACE) for _ in range(self.random.randrange(1, 4)))

    def loop(self, depth):
        over = self.pick(["l", "range(3)", "ls", "d.items()", "dd", "[[1,2],[3,4]]", "s", "[]", "missing", "d", "l|reverse", "ls|map('upper')", self.simple()])
        cut = self.tag(f"if {self.simple()}") + self.tag(self.pick(["break", "continue"])) + self.tag("endif")
        return (self.tag(f"for {self.pick(['i', 'a', 'a, b', 'v'])} in {over}{self.pick(['', '', ' if i'])}") + self.body(depth) + self.output(f"loop.{self.pick(LOOP)}")
                + self.pick(["", cut]) + self.pick(["", self.tag("else") + self.body(depth)]) + self.tag("endfor"))

    def block(self, opening, depth, closing):
        return self.tag(opening) + self.body(depth) + self.tag(closing)

    def macro(self, depth):
        beyond = self.pick(["", "{{ varargs }}", "{{ kwargs }}", "{{ caller() }}", "{{ caller is defined }}"])
        return self.tag(f"macro m{self.random.randrange(2)}{self.pick(['()', '(a)', '(a, b=2)', '(a=n, v=a)'])}") + self.body(depth) + beyond + self.tag("endmacro")

    def call(self):
        return f"m{self.random.randrange(2)}{self.pick(['()', '(1)', '(1, 2)', '(b=3)', '(*l)', '(**{chr(34)a{chr(34)}: 5})', '(a=v)', '(1, 2, 3)', '(q=4)'])}"

    def statement(self, depth):
        if depth <= 0:
            return self.output(self.simple())
        others = self.tag(f"elif {self.simple()}") + self.body(depth) + self.tag("else") + self.body(depth)
        forms = (
            (25, lambda: self.output(self.simple())), (15, lambda: self.tag(f"if {self.simple()}") + self.body(depth) + self.pick(["", others]) + self.tag("endif")),
            (20, lambda: self.loop(depth)), (7, lambda: self.macro(depth)), (7, lambda: self.output(self.call())),
            (12, lambda: self.tag(f"set {self.pick(['a', 'b', 'v', 'ns.q', 'a, b', 'x.y'])} = {self.pick([self.simple(), '1, 2', 'a', 'b ~ 1', '(v or 0)', 'ns.q ~ 2'])}")),
            (5, lambda: self.block(f"set {self.pick(['a', 'v'])}{self.pick(['', ' | trim', ' | upper | trim'])}", depth, "endset")),
            (3, lambda: self.block(f"call {self.call()}", depth, "endcall")), (2, lambda: self.pick(["{#", "{#-", "{#+"]) + " note " + self.pick(["#}", "-#}", "+#}"])),
            (2, lambda: self.block(f"filter {self.pick(['upper', 'trim', 'indent(2)'])}", depth, "endfilter")), (1, lambda: self.tag("raw") + " {{ x }} {% y %} " + self.tag("endraw")),
            (1, lambda: self.block(f"with {self.pick(['a=1', 'a=2, b=a', 'v=s', ''])}", depth, "endwith")), (1, lambda: self.block("generation", depth, "endgeneration")))
        return self.random.choices([f for _, f in forms], [w for w, _ in forms])[0]()

    def statements(self):
        return "{% set ns = namespace(q=0) %}" + self.pick(SPACE) + self.body(self.random.randrange(1, 4))


def prints_an_address(result):
    """An object as Python prints it, which nobody can want."""
    return re.search(r"0x[0-9a-f]{6}|built-in|bound method|<macro|<class|<function|&lt;class", result.get("text", "").lower())


def add_options(parser):
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--list", action="store_true", help="print what snug alone refuses")


def main():
    args = arguments(__doc__, add_options)
    writer = Writer(args.seed)
    templates = [writer.one_expression() if i % 2 else writer.statements() for i in range(args.count)]
    warnings.simplefilter("ignore", SyntaxWarning)  # of the code that Jinja2 makes
    env, count, n_bad = environment(), {"text": 0, "error": 0, "refused": 0, "address": 0}, 0
    for template, (ours,) in zip(templates, by_snug(args.oracle, templates, [VALUES]), strict=True):
        theirs, = by_jinja2(env, template, [VALUES])
        refused = "text" in theirs and "error" in ours
        kind = "address" if prints_an_address(theirs) else "refused" if refused else next(iter(theirs))
        count[kind] += 1
        if refused and kind == "refused" and args.list:
            print(f"refused: {template!r}: {describe(theirs, ours)}")
        if kind in ("text", "error") and not agree(theirs, ours):
            n_bad += 1
            print(f"DIFFERS: {template!r}: {describe(theirs, ours)}")
    print(f"{args.count} random templates: {count['text']} texts, {count['error']} errors; {n_bad} differ; snug alone refuses {count['refused']}")
    sys.exit(n_bad > 0 or count["text"] < args.count // 4)


main()
