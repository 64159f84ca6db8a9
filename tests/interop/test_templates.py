"""Chat templates: does snug make of real ones, byte for byte, what Jinja2 makes of them?

    test_templates.py [--templates FOLDER]... [--list]

Each template of the Python packages in templates.txt (which ship those of published models as files) and of the given folders (*.jinja) is
rendered over every conversation of conversations.json, with and without add_generation_prompt. Texts must be the same; so must the texts of
the errors that a template raises itself (raise_exception). Where Jinja2 fails otherwise, snug must fail."""
import json
import pathlib
import sys
import sysconfig

from common import arguments, skip
from jinja_oracle import agree, by_jinja2, by_snug, describe, environment

HERE = pathlib.Path(__file__).resolve().parent
# Folders of the packages in templates.txt that hold *.jinja. The packages are not imported: they need far more than is installed.
PACKAGED = ("trl/chat_templates", "axolotl/utils/chat_templates/templates")


def contexts():
    """(name, variables) of every conversation, without and with the generation prompt."""
    data = json.loads((HERE / "conversations.json").read_text(encoding="utf-8"))
    for c in data["conversations"]:
        for prompt in (False, True):
            yield f"{c['name']}{', prompt' if prompt else ''}", {
                "messages": c["messages"], "tools": data["tools"].get(c.get("tools")), "documents": None,
                "add_generation_prompt": prompt, "bos_token": "<s>", "eos_token": "</s>", **c.get("vars", {})}


def add_options(parser):
    parser.add_argument("--templates", action="append", default=[], type=pathlib.Path, help="a folder of *.jinja")
    parser.add_argument("--list", action="store_true", help="print a line for every template")


def main():
    args = arguments(__doc__, add_options)
    packages = [pathlib.Path(sysconfig.get_paths()["purelib"]) / folder for folder in PACKAGED]
    if not args.templates and not all(folder.is_dir() for folder in packages):
        skip("the packages of tests/interop/templates.txt are missing: pip install --no-deps -r tests/interop/templates.txt")
    files = sorted(p for folder in args.templates or packages for p in folder.glob("*.jinja"))
    templates = [p.read_text(encoding="utf-8") for p in files]
    names, variables = zip(*contexts())
    env, n_bad, count = environment(), 0, {"text": 0, "raised": 0, "error": 0}
    for file, template, ours in zip(files, templates, by_snug(args.oracle, templates, variables), strict=True):
        theirs = by_jinja2(env, template, variables)
        for r in theirs:
            count[next(iter(r))] += 1
        bad = [k for k in range(len(names)) if not agree(theirs[k], ours[k])]
        n_bad += len(bad)
        if args.list:
            print(f"{file.stem}: {sum('text' in r for r in theirs)} texts, {sum('raised' in r for r in theirs)} raised, {len(bad)} differ")
        for k in bad[:4]:
            print(f"  {file.stem} / {names[k]}: {describe(theirs[k], ours[k])}")
    print(f"{len(files)} templates, {len(names)} contexts: {count['text']} texts, {count['raised']} errors raised, {count['error']} other errors; {n_bad} differ")
    sys.exit(n_bad > 0 or count["text"] == 0 or (not args.templates and len(files) < 90))


main()
