"""Chat templates: does snug make of real ones, byte for byte, what Jinja2 makes of them?

    test_templates.py [--templates FOLDER]... [--list]

Each template of the Python packages in templates.txt (which ship those of published models as files) and of the given folders (*.jinja) is
rendered over every conversation of conversations.json, with and without add_generation_prompt, by Jinja2 in the environment that
transformers sets up for chat templates, and by `snug-oracle render`. Texts must be the same; so must the texts of the errors that a template
raises itself (raise_exception). Where Jinja2 fails otherwise, snug must fail."""
import copy
import datetime
import json
import pathlib
import subprocess
import sys
import sysconfig

from common import ROOT, arguments, skip

try:
    import jinja2.ext
    import jinja2.sandbox
except ImportError as e:
    skip(f"{e}: pip install -r tests/interop/requirements.txt")

HERE = pathlib.Path(__file__).resolve().parent
SNUG_ERR_ARG = -5  # include/snug.h
# Folders of the packages in templates.txt that hold *.jinja. The packages are not imported: they need far more than is installed.
PACKAGED = ("trl/chat_templates", "axolotl/utils/chat_templates/templates")


class Generation(jinja2.ext.Extension):
    """{% generation %}: its text, unchanged."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_text"), [], [], body).set_lineno(line)

    def _text(self, caller):
        return caller()


class Raised(jinja2.exceptions.TemplateError):
    """What raise_exception raises."""


def raise_exception(message):
    raise Raised(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return env


def contexts():
    """(name, variables) of every conversation, without and with the generation prompt."""
    data = json.loads((HERE / "conversations.json").read_text(encoding="utf-8"))
    for c in data["conversations"]:
        for prompt in (False, True):
            yield f"{c['name']}{', prompt' if prompt else ''}", {
                "messages": c["messages"], "tools": data["tools"].get(c.get("tools")), "documents": None,
                "add_generation_prompt": prompt, "bos_token": "<s>", "eos_token": "</s>", **c.get("vars", {})}


def one_by_jinja2(template, variables):
    try:
        return {"text": template.render(**variables)}
    except Raised as e:
        return {"raised": str(e)}
    except Exception as e:  # Jinja2's and Python's own: TypeError, UndefinedError ...
        return {"error": f"{type(e).__name__}: {e}"}


def by_jinja2(env, source, variables):
    try:
        template = env.from_string(source)
    except Exception as e:  # TemplateSyntaxError, and what constants give that are no use
        return [{"error": str(e)}] * len(variables)
    return [one_by_jinja2(template, copy.deepcopy(v)) for v in variables]  # some filters change lists in place


def agree(theirs, ours):
    if "text" in theirs:
        return ours.get("text") == theirs["text"]
    if "raised" in theirs:
        return ours.get("error") == theirs["raised"] and ours["code"] == SNUG_ERR_ARG
    return "error" in ours


def first_difference(a, b):
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return f"at {at}: jinja2 {a[max(0, at - 30):at + 50]!r}, snug {b[max(0, at - 30):at + 50]!r}"


def report(name, context, theirs, ours):
    if "text" in theirs and "text" in ours:
        print(f"  {name} / {context}: {first_difference(theirs['text'], ours['text'])}")
    else:
        print(f"  {name} / {context}: jinja2 {str(theirs)[:200]}, snug {str(ours)[:200]}")


def add_options(parser):
    parser.add_argument("--templates", action="append", default=[], type=pathlib.Path, help="a folder of *.jinja")
    parser.add_argument("--list", action="store_true", help="print a line for every template")


def main():
    args = arguments(__doc__, add_options)
    packages = [pathlib.Path(sysconfig.get_paths()["purelib"]) / folder for folder in PACKAGED]
    if not args.templates and not all(folder.is_dir() for folder in packages):
        skip("the packages of tests/interop/templates.txt are missing: pip install --no-deps -r tests/interop/templates.txt")
    files = sorted(p for folder in args.templates or packages for p in folder.glob("*.jinja"))
    # as Python's text files are read, so that both get the same line ends
    templates = [p.read_text(encoding="utf-8") for p in files]
    names, variables = zip(*contexts())
    request = json.dumps({"templates": templates, "vars": variables})
    done = subprocess.run([args.oracle, "render"], input=request.encode(), capture_output=True, check=True)
    env, n_bad, count = environment(), 0, {"text": 0, "raised": 0, "error": 0}
    for file, template, row in zip(files, templates, json.loads(done.stdout), strict=True):
        results = by_jinja2(env, template, variables)
        for r in results:
            count[next(iter(r))] += 1
        bad = [k for k, (a, b) in enumerate(zip(results, row, strict=True)) if not agree(a, b)]
        n_bad += len(bad)
        if args.list:
            print(f"{file.stem}: {sum('text' in r for r in results)} texts, {sum('raised' in r for r in results)} raised, {len(bad)} differ")
        for k in bad[:4]:
            report(file.stem, names[k], results[k], row[k])
    print(f"{len(files)} templates, {len(names)} contexts: {count['text']} texts, {count['raised']} errors raised, {count['error']} other errors; {n_bad} differ")
    sys.exit(n_bad > 0 or count["text"] == 0 or (not args.templates and len(files) < 90))


main()
