"""Chat templates by Jinja2, in the environment that transformers sets up for them, and by `snug-oracle render`."""
import copy
import datetime
import json
import subprocess

from common import skip

try:
    import jinja2.ext
    import jinja2.sandbox
except ImportError as e:
    skip(f"{e}: pip install -r tests/interop/requirements.txt")

SNUG_ERR_ARG = -5  # include/snug.h


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


def one_by_jinja2(template, variables):
    try:
        return {"text": template.render(**copy.deepcopy(variables))}  # a copy, since some filters change lists in place
    except Raised as e:
        return {"raised": str(e)}
    except Exception as e:  # Jinja2's and Python's own: TypeError, UndefinedError ...
        return {"error": f"{type(e).__name__}: {e}"}


def by_jinja2(env, source, contexts):
    """For each of the contexts {"text"}, {"raised"}: the template's own error, or {"error"}: any other."""
    try:
        template = env.from_string(source)
    except Exception as e:  # TemplateSyntaxError, and what constants give that are no use
        return [{"error": f"{type(e).__name__}: {e}"}] * len(contexts)
    return [one_by_jinja2(template, variables) for variables in contexts]


def by_snug(oracle, templates, contexts):
    """For each template and each of the contexts {"text"} or {"error", "code"}."""
    request = json.dumps({"templates": templates, "vars": contexts}).encode()
    return json.loads(subprocess.run([oracle, "render"], input=request, capture_output=True, check=True).stdout)


def agree(theirs, ours):
    if "text" in theirs:
        return ours.get("text") == theirs["text"]
    if "raised" in theirs:
        return ours.get("error") == theirs["raised"] and ours["code"] == SNUG_ERR_ARG
    return "error" in ours


def first_difference(a, b):
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return f"at {at}: jinja2 {a[max(0, at - 30):at + 50]!r}, snug {b[max(0, at - 30):at + 50]!r}"


def describe(theirs, ours):
    if "text" in theirs and "text" in ours:
        return first_difference(theirs["text"], ours["text"])
    return f"jinja2 {str(theirs)[:200]}, snug {str(ours)[:200]}"
