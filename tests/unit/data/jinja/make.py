"""Writes cases.json: what Jinja2 makes of the templates here and of some hundred expressions, with the environment that transformers
uses for chat templates. Needs jinja2 (PyPI). Run in this folder: python make.py

The templates are written for this project in the manner of the models they are named after."""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "interop"))
import jinja_oracle

env = jinja_oracle.environment()

call = {"id": "abc123def", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": 3, "deep": {"a": [1, 2.5, None, True]}}}}
tools = [{"type": "function", "function": {"name": "get_weather", "description": "The weather \"now\"", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 1}, "unit": {"type": "object", "properties": {
        "zeta": {"type": "string"}, "Alpha": {}}}}, "required": ["city"]}, "return": {"type": "string"}}}]
chats = {
    "one": [{"role": "user", "content": "Hi"}],
    "system": [{"role": "system", "content": " You are a cat. "}, {"role": "user", "content": "  What's up?\n"}, {"role": "assistant", "content": "Meow ✨\n"},
               {"role": "user", "content": "再来一次"}],
    "thought": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "<think>\nEasy: 4.\n</think>\n\n4"}, {"role": "user", "content": "3+3?"},
                {"role": "assistant", "content": "<think>\nhm\n</think>\n\n6"}],
    "tools": [{"role": "system", "content": "S"}, {"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "", "tool_calls": [call]},
              {"role": "tool", "content": "{\"t\": 20}", "tool_call_id": "abc123def"}, {"role": "assistant", "content": "20 °C"}, {"role": "user", "content": "ok"}],
    "wrong": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
    "empty": [],
}
data = {"messages": chats["system"], "tools": tools, "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True, "n": 7, "x": 2.5, "text": "  Hello, Wörld! it's \"fine\"\n", "none": None,
        "yes": True, "list": [3, 1, 2, 1], "mixed": ["b", "A", "c"], "dict": {"b": 1, "a": {"c": [1, 2]}}, "deep": {"items": 5, "k": None}, "zero": 0, "empty": "", "lines": "a\nbb\n\n  c"}

snippets = r"""
{{ 1 + 2 * 3 }}|{{ (1 + 2) * 3 }}|{{ 7 // 2 }}|{{ -7 // 2 }}|{{ 7 % 3 }}|{{ -7 % 3 }}|{{ 7 / 2 }}|{{ 6 / 2 }}|{{ 2 ** 10 }}|{{ 2 ** -1 }}|{{ 1_000 }}
{{ 1.0 }}|{{ 0.1 }}|{{ 1e16 }}|{{ 1e-5 }}|{{ 123456789.123 }}|{{ 1.5e300 }}|{{ x * 2 }}|{{ 7.5 // 2 }}|{{ -7.5 % 2 }}|{{ 1e15 }}|{{ 0.0001 }}
{{ -n }}|{{ +n }}|{{ -n|abs }}|{{ not n }}|{{ not not n }}|{{ n == 7 and x > 2 or zero }}|{{ zero or 'b' }}|{{ '' or none }}|{{ 1 and 'a' }}
{{ 1 < 2 < 3 }}|{{ 1 < 3 < 2 }}|{{ 'a' < 'b' }}|{{ [1, 2] < [1, 3] }}|{{ 1 == 1.0 }}|{{ true == 1 }}|{{ 'a' == 1 }}|{{ n != 7 }}|{{ (1, 2) == [1, 2] }}
{{ 'ell' in text }}|{{ 3 in list }}|{{ 4 not in list }}|{{ 'a' in dict }}|{{ 'z' in dict }}|{{ none in [none] }}|{{ not 'x' in 'xyz' }}
{{ 'a' ~ 1 ~ none ~ true ~ 2.0 }}|{{ 'ab' * 3 }}|{{ [0] * 3 }}|{{ 3 * 'x' }}|{{ [1] + [2] }}|{{ (1,) + (2, 3) }}|{{ 'a' 'b' "c" }}
{{ list[0] }}|{{ list[-1] }}|{{ list[9] is defined }}|{{ list[1:3] }}|{{ list[::-1] }}|{{ list[:-1] }}|{{ list[-2:] }}|{{ list[::2] }}|{{ list[5:] }}|{{ text[2:7] }}|{{ 'héllo'[1] }}|{{ 'héllo'[::-1] }}
{{ dict.b }}|{{ dict['b'] }}|{{ dict.a.c[1] }}|{{ dict.zzz is undefined }}|{{ dict.zzz }}|{{ messages[0].role }}|{{ messages[-1]['content'] }}|{{ messages.0.role }}
{{ deep.items is callable }}|{{ deep['items'] }}|{% for k, v in deep.items() %}{{ k }}={{ v }};{% endfor %}|{{ deep.keys() | list }}|{{ deep.values() | list }}|{{ deep.get('k', 1) }}|{{ deep.get('q', 1) }}|{{ deep.get('q') }}
{{ none }}|{{ yes }}|{{ list }}|{{ mixed }}|{{ dict }}|{{ (1, 'a') }}|{{ (1,) }}|{{ () }}|{{ {} }}|{{ [none, true, 1.0, "it's", 'a"b', "\n\t\\"] }}|{{ {'k': undefined_thing} is mapping }}
{{ text | trim }}|{{ text | upper }}|{{ text | lower }}|{{ text | title }}|{{ text | trim | capitalize }}|{{ text | length }}|{{ text | replace('l', 'L') }}|{{ text | replace('l', 'L', 1) }}|{{ text | wordcount }}|{{ 'xxaxx' | trim('x') }}
{{ list | sort }}|{{ list | sort(reverse=true) }}|{{ mixed | sort }}|{{ mixed | sort(case_sensitive=true) }}|{{ list | unique | list }}|{{ list | reverse | list }}|{{ 'abc' | reverse }}|{{ list | sum }}|{{ list | min }}|{{ list | max }}|{{ list | first }}|{{ list | last }}|{{ [] | first is defined }}
{{ list | join(', ') }}|{{ list | join }}|{{ messages | join(' ', attribute='role') }}|{{ messages | map(attribute='role') | join('-') }}|{{ mixed | map('upper') | list }}|{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list }}|{{ messages | rejectattr('role', 'eq', 'user') | list | length }}|{{ list | select('odd') | list }}|{{ list | reject('gt', 1) | list }}|{{ [0, 1, '', 'a'] | select | list }}
{{ dict | tojson }}|{{ tools | tojson }}|{{ 'é"\\/<>&\u0001' | tojson }}|{{ [1.0, 1e100, none, true] | tojson }}|{{ {} | tojson }}|{{ [] | tojson(indent=2) }}
{{ dict | tojson(indent=2) }}|{{ {'b': 1, 'a': [{}, [], {'x': ()}]} | tojson(indent=4, sort_keys=true) }}|{{ dict | tojson(separators=(',', ':')) }}|{{ {1: 2, none: 3, true: 4} | tojson }}
{{ missing | default('d') }}|{{ empty | default('d') }}|{{ empty | default('d', true) }}|{{ none | default('d') }}|{{ missing | d }}|{{ missing }}|{{ missing is defined }}|{{ missing is none }}|{{ missing == missing2 }}|{{ missing | length }}|{{ missing | list }}|{{ 'a' in (missing | default([])) }}
{{ '3' | int + 1 }}|{{ 'x' | int }}|{{ 'x' | int(5) }}|{{ 3.9 | int }}|{{ '2.5' | float }}|{{ 3 | string + 'a' }}|{{ 2.567 | round(1) }}|{{ 2.5 | round }}|{{ 2.1 | round(method='ceil') }}|{{ true | int }}
{{ lines | indent }}|{{ lines | indent(2, true) }}|{{ lines | indent(2, blank=true) }}|{{ lines | indent('> ') }}|{{ lines.splitlines() }}|{{ '<a & "b">' | e }}
{{ text.strip() }}|{{ text.lstrip() }}|{{ text.rstrip() }}|{{ 'xxabxx'.strip('x') }}|{{ 'a,b,,c'.split(',') }}|{{ ' a  b c '.split() }}|{{ 'a b c d'.split(' ', 1) }}|{{ 'a-b-c'.rsplit('-', 1) }}|{{ 'a b c'.split(None, 1) }}|{{ ''.split() }}|{{ ''.split(',') }}
{{ 'abc'.startswith('ab') }}|{{ 'abc'.endswith('bc') }}|{{ 'abc'.startswith(('x', 'a')) }}|{{ 'hello world'.title() }}|{{ "it's o'clock".title() }}|{{ 'HELLO'.lower() }}|{{ 'straße'.upper() }}|{{ 'hELLO wORLD'.capitalize() }}|{{ 'aXbX'.replace('X', '-') }}|{{ 'abc'.find('c') }}|{{ 'abc'.find('z') }}|{{ 'ababab'.rfind('ab') }}|{{ 'ababab'.count('ab') }}|{{ ', '.join(['a', 'b']) }}|{{ 'abc'.replace('', '-') }}
{{ '12'.isdigit() }}|{{ 'a1'.isdigit() }}|{{ 'ab'.isalpha() }}|{{ ' '.isspace() }}|{{ 'AB'.isupper() }}|{{ 'ab'.islower() }}|{{ 'prefix-x'.removeprefix('prefix-') }}|{{ 'a.txt'.removesuffix('.txt') }}|{{ [1, 2, 1].count(1) }}|{{ [1, 2].index(2) }}
{{ n is number }}|{{ x is float }}|{{ n is integer }}|{{ yes is boolean }}|{{ yes is true }}|{{ yes is number }}|{{ text is string }}|{{ list is sequence }}|{{ dict is mapping }}|{{ dict is sequence }}|{{ dict is iterable }}|{{ n is iterable }}|{{ text is iterable }}|{{ none is none }}|{{ n is odd }}|{{ n is even }}|{{ n is divisibleby 7 }}|{{ n is eq 7 }}|{{ n is not none }}|{{ n is in list }}|{{ n is ge(7) }}|{{ 'a' is lower }}|{{ false is false }}|{{ n is sameas 7 }}
{{ 'a' if n > 5 else 'b' }}|{{ 'a' if n < 5 }}|{{ 'a' if n < 5 else 'b' if n < 6 else 'c' }}|{{ ('x' if yes else 'y') ~ 'z' }}|{{ 1 if yes and not none else 2 }}
{% for i in list %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.cycle('a', 'b') }}{{ loop.changed(i) }} {% endfor %}
{% for i in list %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }} {% endfor %}|{% for i in [] %}x{% else %}none{% endfor %}|{% for i in list if i > 1 %}{{ loop.index }}:{{ i }} {% endfor %}|{% for i in list if i > 9 %}a{% else %}b{% endfor %}
{% for a, b in [(1, 2), [3, 4]] %}{{ a }}-{{ b }} {% endfor %}|{% for c in 'añb' %}{{ c }}.{% endfor %}|{% for k in dict %}{{ k }}{% endfor %}|{% for i in range(3) %}{{ i }}{% endfor %}|{{ range(1, 10, 3) | list }}|{{ range(5, 0, -2) | list }}
{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}|{% for i in range(2) %}{% for j in range(2) %}{{ loop.depth }}{{ i }}{{ j }} {% endfor %}{% endfor %}
{% set a = 1 %}{% for i in range(3) %}{% set a = a + i %}{{ a }}{% endfor %}{{ a }}|{% set b, c = 1, 2 %}{{ b }}{{ c }}|{% set ns = namespace(t=0) %}{% for i in list %}{% set ns.t = ns.t + i %}{% endfor %}{{ ns.t }}|{% if yes %}{% set d = 5 %}{% endif %}{{ d }}
{% set t %} a {{ n }} {% endset %}[{{ t }}]|{% set t2 | trim | upper %} b {% endset %}[{{ t2 }}]|{% filter upper %}abc {{ n }}{% endfilter %}|{% with q = 5, r = 6 %}{{ q + r }}{% endwith %}{{ q is defined }}
{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, 3) }}|{{ m(1, c='z') }}|{{ m(b=1, a=0) }}|{{ m() }}|{% macro w() %}<{{ caller() }}>{% endmacro %}{% call w() %}in{{ n }}{% endcall %}
{% macro fact(k) %}{% if k <= 1 %}1{% else %}{{ k * (fact(k - 1) | int) }}{% endif %}{% endmacro %}{{ fact(5) }}|{% macro outer() %}{% set v = 1 %}{{ n }}{{ v }}{% endmacro %}{{ outer() }}{{ v is defined }}
{# a comment #}x{#- y -#} z {#
  over lines #}
w
  {% if yes %}
    indented
  {% endif %}
end
  {%- if yes -%}
    tight
  {%- endif -%}
  end
{% if yes %}a{% endif %} b
  {% if yes %} c {% endif %}
d
  {%+ if yes %}kept{% endif +%}
e
{{ n }}
{{ n }} {% set q = 1 %}
f{% raw %}{{ not }} {% neither %}{% endraw %}g
   {%- raw -%}   {{ x }}   {%- endraw -%}   h
{{- n -}}   i   {{- n -}}
{{ "a\nb" }}{{ 'tab\there' }}{{ "\u00e9\x41\\\'" }}{{ 'q"q' }}{{ "un\known" }}
{{ {'a': {'b': 1}}.a.b }}|{{ {'a': 1}['a'] }}|{{ [[1, 2], [3]][0][1] }}|{{ {'x': [1, {'y': 2}]} }}|{{ {'a': 1, 'a': 2} }}
{{ namespace(a=1).a }}|{{ namespace({'b': 2}, a=1).b }}|{% set ns = namespace({'z': 1}, y=2) %}{{ ns.z }}{{ ns.y }}{{ ns.w is defined }}|{{ messages | length > 3 and 'many' or 'few' }}
{% if messages[0].role == 'system' and messages[0]['content'] | length > 0 %}S{% elif false %}E{% else %}N{% endif %}|{% if not tools is defined %}u{% else %}d{% endif %}|{% if none is defined and none is not none %}v{% else %}w{% endif %}
{{ 'a' | upper ~ 'b' }}|{{ ('a' ~ 'b') | upper }}|{{ 'a' + 'b' | upper }}|{{ -1 | abs }}|{{ (n, x) | first }}|{{ 1, 2 }}|{{ not n is odd }}|{{ 2 * n is odd }}
{{ missing.attr }}
{{ none.attr is defined }}|{{ n.attr is defined }}|{{ text.nope is defined }}|{{ list.nope is defined }}
{{ missing + 1 }}
{{ 1 + 'a' }}
{{ none | length }}
{{ missing.attr.more }}
{{ 1 / 0 }}
{{ text.nope() }}
{{ missing() }}
{{ raise_exception('own ' ~ n) }}
{{ 'a' < 1 }}
{% for i in n %}{% endfor %}
{% set n.x = 1 %}
{{ [1, 2, 3
{% if x %}
{% endif %}
{{ a b }}
{% unknown %}
{{ x | nofilter }}
{{ x is notest }}
{{ }}
{% for %}{% endfor %}
{{ '{} {}'.format(1, 'a') }}|{{ '{1}{0}{1}'.format('a', n) }}|{{ '{a.role} {a[role]!r} {b}'.format(a=messages[0], b=none) }}|{{ '{:>6}|{:<6}|{:^7}|{:*^7}|{:é>4}'.format('ab', 'cd', 'ef', 'gh', 'i') }}|{{ '{:5}|{:05}|{:+}|{: }|{:,}|{:_}|{:x}|{:#X}|{:b}|{:o}|{:<5}|{:=+6}|{:c}'.format(42, 42, 42, 42, 1234567, -1234567, 255, 255, 5, 8, 7, 7, 65) }}|{{ '{:.2f}|{:8.3f}|{:e}|{:g}|{:%}|{:,.1f}|{}|{:9}|{:.3}'.format(2.5, -3.14159, 12345.678, 0.0001, 0.25, 1234567.25, 1e16, 2.5, 'abcdef') }}|{{ '{{}} {}'.format(true) }}
{{ '%s %r %d %i' % ('a', 'b', 3, 4.7) }}|{{ '%5s|%-5s|%.2s' % ('ab', 'cd', 'efg') }}|{{ '%05d|%+d|% d|%-4d|%x|%#o' % (42, 42, 42, 42, 255, 8) }}|{{ '%.2f|%8.3f|%e|%g' % (2.5, 3.14159, 12345.678, 0.0001) }}|{{ '%(b)s-%(a)s' % dict }}|{{ '%s' % n }}|{{ '%s' % [1, 2] }}|{{ '%%' % () }}|{{ '%c%c' % ('x', 66) }}|{{ '%*d' % (5, 3) }}|{{ '%s: %s' | format('a', 1) }}|{{ '%(k)s' | format(k='v') }}
{{ '{} {}'.format(1) }}
{{ '{'.format(1) }}
{{ '{:d}'.format('a') }}
{{ '%s %s' % 'a' }}
{{ '%s' % (1, 2) }}
{{ '%d' % 'a' }}
{% set g = list | select('odd') %}{{ 'yes' if g else 'no' }}{{ g | list }}{{ g | list }}|{{ 'full' if list | select('gt', 9) else 'empty' }}|{{ list | select('odd') is sequence }}|{% set h = list | map('string') %}{{ h | first }}{{ h | join }}|{{ (list | reverse)[0] is defined }}|{% for i in list | reverse %}{{ i }}{% if loop.last %}.{% endif %}{% endfor %}
{{ list | select('odd') | length }}
{{ list | map('string') | tojson }}
{{ list | map('string') | last }}
{{ range(3) }}|{{ range(1, 7, 2) }}|{{ range(3) | length }}|{{ range(3)[1] }}|{{ range(3)[1:] | list }}|{{ 2 in range(3) }}|{{ [range(2)] }}|{{ range(3) is sequence }}
{{ dict.keys() }}|{{ dict.values() }}|{{ dict.items() }}|{{ dict.items() | length }}|{{ dict.keys() is sequence }}|{{ dict.items()[0] is defined }}|{{ dict.items() | list | last }}|{{ dict.items() | last }}|{{ dict.copy() }}|{{ 'b' in dict.keys() }}
{{ dict.items() | tojson }}
{{ range(3) | tojson }}
{{ '<a>' | safe + '<b>' }}|{{ '<b>' + '<a>' | safe }}|{{ '<a>' | e + '<b>' }}|{{ '<a>' | safe ~ '<b>' }}|{{ ('<a>' | safe) * 2 + '&' }}|{{ ('<a>,<b>' | safe).split(',')[0] + '<c>' }}|{{ ('<' | safe).join(['<', '>']) }}|{{ ('<a>' | safe | upper) + '<' }}|{{ ('<a>' | safe | title) + '<' }}|{{ ('<{}>' | safe).format('<') }}|{{ ('<a>' | safe)[0] + '<' }}|{{ ['<' | safe] }}|{{ ('a' | safe).replace('a', '<') }}|{{ ('a' | safe) | replace('a', '<') }}|{{ ['<', '>' | safe] | join('&') }}|{{ ('<' | e) | tojson }}|{{ '<' | e | e }}
{% macro v(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ v(1, 2, 3, q=4) }}|{{ v(*list) }}|{{ v(**{'a': 1, 'z': 2}) }}|{{ v(1, *[5], k=2, **{'y': 3}) }}|{% macro w(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ w(*[1, 2]) }}|{{ dict(*[{'k': 1}]) }}|{{ dict([('x', 1)], y=2) }}|{{ namespace([('x', 1)]).x }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{% call m(1) %}x{% endcall %}
{% for i in list %}{% continue %}{% else %}all cut short{% endfor %}|{% for i in list %}{% break %}{% else %}cut{% endfor %}|{% for i in list %}{% if i == 2 %}{% break %}{% endif %}{% else %}no{% endfor %}
{{ 3 | round }}|{{ 2.675 | round(2) }}|{{ 0.5 | round }}|{{ 1.5 | round }}|{{ 2.34 | round(1, 'floor') }}|{{ true | round }}|{{ 2.5 is odd }}|{{ 3.0 is odd }}|{{ ['B', 'a'] | min }}|{{ ['B', 'a'] | max }}|{{ messages | map(attribute='role') | max }}|{{ messages | min(attribute='role') }}|{{ ' ' | float(1.5) }}|{{ '0x10' | int }}|{{ dict | sort }}
{{ 'ﬁne straße' | upper }}|{{ 'ﬁne ßa'.title() }}|{{ 'ﬁ ß' | title }}|{{ 'STRASSE ß'.casefold() }}|{{ 'aBc'.swapcase() }}|{{ 'a\r\nb\x0bc\u2028d'.splitlines() }}|{{ 'a\r\nb' | indent(1) }}|{{ 'ab'.ljust(4, '.') }}|{{ 'ab'.rjust(4) }}|{{ 'ab'.center(5, '-') }}|{{ 'ab' | center(6) }}|{{ '-7'.zfill(4) }}|{{ 'a-b-c'.partition('-') }}|{{ 'a-b-c'.rpartition('-') }}|{{ 'abc'.partition('x') }}|{{ 'abc'.index('c') }}|{{ 'é'.isascii() }}
{{ 'abc'.index('x') }}
{{ 'é😀<' | tojson(ensure_ascii=true) }}|{{ {'é': 1} | tojson(true, 2) }}|{{ dict | tojson(separators=(',', ':'), sort_keys=true) }}
{{ missing is callable }}|{{ missing | upper }}|{{ (none, 1.0) }}|{{ {1: 'a', none: 'b', (1, 2): 'c'} }}|{{ [1] in dict | list }}
{{ [1] in dict }}
{{ missing | dictsort }}
{%- raw +%}x{% endraw %}
""".strip("\n").split("\n")
# lines above that belong together
blocks, held = [], []
for line in snippets:
    held.append(line)
    opened = "\n".join(held)
    multi = opened.startswith("{# a comment")
    if multi and not line.startswith("{{ \"a\\nb\""):
        continue
    if multi:
        blocks.append("\n".join(held[:-1]))
        held = [line]
    blocks.append("\n".join(held))
    held = []

cases = []


def add(name, template, variables):
    try:
        result = {"text": env.from_string(template).render(**variables)}
    except Exception as error:  # the kind differs; that there is one must agree
        result = {"error": str(error)}
    cases.append({"name": name, "template": template, "vars": "snippets" if variables is data else variables, **result})


for path in sorted(pathlib.Path(__file__).parent.glob("*.jinja")):
    for chat, messages in chats.items():
        for prompt in (False, True):
            for with_tools in (None, tools) if chat in ("tools", "one") else (None,):
                variables = {"messages": messages, "add_generation_prompt": prompt, "bos_token": "<s>", "eos_token": "</s>"}
                if with_tools:
                    variables["tools"] = with_tools
                if prompt and chat == "one":
                    variables["enable_thinking"] = False
                add(f"{path.stem}, {chat}", path.read_text(), variables)
for i, block in enumerate(blocks):
    add(f"snippet {i}", block, data)
pathlib.Path("cases.json").write_text(json.dumps({"snippets": data, "cases": cases}, ensure_ascii=False, indent=0) + "\n")
print(len(cases), "cases,", sum("error" in c for c in cases), "of them errors")
