#!/usr/bin/env python3
"""Writing text: reproducible, from every kind of prompt, ending where it should, exact to the byte."""
import json

import harness
from harness import FAILED, OK, TOO_BIG, USAGE

GREEDY = ["--temp", "0"]


def test_a_seed_repeats_a_text(t):
    texts = [t.run("run", t.demo, "-p", "The house", "-n", "30", "--seed", seed, expect=OK).stdout for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2] and len(texts[0]) > 20
    threads = [t.run("run", t.demo, "-p", "The house", "-n", "20", "--seed", 5, "--threads", n, expect=OK).stdout for n in (1, 2)]
    assert threads[0] == threads[1]
    r = t.run("run", t.demo, "-p", "The house", "-n", "20", expect=OK) # a seed of its own, which it names
    seed = r.stderr.split("seed ")[1].split("]")[0]
    assert t.run("run", t.demo, "-p", "The house", "-n", "20", "--seed", seed, expect=OK).stdout == r.stdout


def test_prompts(t):
    prompt = "It was the best of times,"
    file = t.path("prompt.txt")
    file.write_text(prompt + "\n")
    by_option = t.run("run", t.demo, "-p", prompt, "-n", "20", *GREEDY, expect=OK).stdout
    assert by_option == t.run("run", t.demo, "-f", file, "-n", "20", *GREEDY, expect=OK).stdout
    assert by_option == t.run("run", t.demo, "-n", "20", *GREEDY, stdin=(prompt + "\n").encode(), expect=OK).stdout
    assert by_option == t.run("run", t.demo, "-f", "-", "-n", "20", *GREEDY, stdin=prompt.encode(), expect=OK).stdout
    assert t.run("run", t.demo, "-p", prompt, "-n", "20", *GREEDY, "--echo", expect=OK).stdout == prompt + by_option
    assert t.run("run", t.demo, "-p", "-n", "-n", "3", *GREEDY, expect=OK).stdout # a prompt that looks like an option
    t.run("run", t.demo, "-p", "", "-n", "3", expect=OK) # from the beginning of a text
    t.run("run", t.demo, "-n", "5", stdin=b"bytes \xff\xfe\x00 that are \xe2\x82 no text", expect=OK)


def test_json_and_lengths(t):
    r = t.run("run", t.demo, "-p", "The house", "-n", "12", *GREEDY, "--json", expect=OK).json()
    assert r["tokens"] == 12 and r["stop"] == "length" and r["prompt_tokens"] >= 2 and r["text"]
    assert r["text"] + "\n" == t.run("run", t.demo, "-p", "The house", "-n", "12", *GREEDY, expect=OK).stdout
    assert t.run("run", t.demo, "-p", "The house", "-n", "100", "--ctx", "20", *GREEDY, "--json", expect=OK).json()["stop"] == "context"
    full = t.run("run", t.demo, "-p", "The house", "-n", "1000", *GREEDY, "--json", expect=OK).json() # more than the context holds
    assert full["stop"] in ("context", "end") and full["tokens"] + full["prompt_tokens"] <= 256


def test_stop_texts(t):
    text = t.run("run", t.demo, "-p", "The house", "-n", "60", *GREEDY, "--json", expect=OK).json()["text"]
    for begin, end in ((20, 23), (30, 31), (11, 40), (0, 1)):
        stop = text[begin:end]
        expected = text[:text.index(stop)]
        r = t.run("run", t.demo, "-p", "The house", "-n", "60", *GREEDY, "--stop", stop, "--json", expect=OK).json()
        assert r["text"] == expected and r["stop"] == "stop", (stop, r)
        plain = t.run("run", t.demo, "-p", "The house", "-n", "60", *GREEDY, "--stop", "never this", "--stop", stop, expect=OK).stdout
        assert plain == (expected + "\n" if expected else ""), (stop, plain)
    # The beginning of a stop text at the very end is no reason to lose it.
    r = t.run("run", t.demo, "-p", "The house", "-n", "60", *GREEDY, "--stop", text[-3:] + "\x01", expect=OK)
    assert r.stdout == text + "\n"


def test_what_does_not_fit(t):
    r = t.run("run", t.demo, "-p", "word " * 300, expect=TOO_BIG)
    assert "--ctx" in r.stderr, r
    t.run("run", t.demo, "-p", "word " * 300, "--ctx", "10", expect=TOO_BIG)
    t.run("run", t.demo, "-p", "a", "--ram", "100K", expect=TOO_BIG)
    t.run("run", t.demo, "-p", "a", "-n", "2", "--ram", "200M", expect=OK)


def test_sampling_options(t):
    greedy = t.run("run", t.demo, "-p", "The house", "-n", "20", *GREEDY, expect=OK).stdout
    assert t.run("run", t.demo, "-p", "The house", "-n", "20", "--temp", "2", "--top-k", "1", expect=OK).stdout == greedy
    assert t.run("run", t.demo, "-p", "The house", "-n", "20", "--temp", "1", "--min-p", "1", expect=OK).stdout == greedy
    assert t.run("run", t.demo, "-p", "The house", "-n", "20", "--temp", "1", "--top-p", "0.0001", "--top-k", "0", expect=OK).stdout == greedy
    other = t.run("run", t.demo, "-p", "The house", "-n", "80", *GREEDY, "--repeat-penalty", "1.5", expect=OK).stdout
    assert other != t.run("run", t.demo, "-p", "The house", "-n", "80", *GREEDY, expect=OK).stdout
    t.run("run", t.demo, "-p", "a", "--top-p", "1.5", expect=USAGE)
    t.run("run", t.demo, "-p", "a", "--temp", "-1", expect=USAGE)


def tall_model(t, layers=12):
    """The demo model with more layers, which add nothing (their o and down are 0): the demo model is a good draft for it."""
    folder = t.demo_copy("tall")
    config = json.loads((folder / "config.json").read_text())
    file = (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(file[:8], "little")
    head, data = json.loads(file[8:8 + size]), bytearray(file[8 + size:])
    for name, entry in list(head.items()):
        if name.startswith("model.layers.0."):
            begin, end = entry["data_offsets"]
            payload = bytes(end - begin) if "o_proj" in name or "down_proj" in name else data[begin:end]
            for layer in range(config["num_hidden_layers"], layers):
                head[name.replace(".0.", f".{layer}.", 1)] = {**entry, "data_offsets": [len(data), len(data) + len(payload)]}
                data += payload
    text = json.dumps(head).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}))
    return folder


def test_drafts_change_nothing_but_the_time(t):
    tall = tall_model(t)
    prompt = "The house on the hill, and the house by the sea, and the house on the hill, and the house"
    for options in (GREEDY, ["--seed", "4"], ["--temp", "0.3", "--seed", "5", "--repeat-penalty", "1.2"]):
        plain = t.run("run", tall, "-p", prompt, "-n", "80", *options, "--json", expect=OK).json()
        assert plain["drafted_tokens"] == plain["accepted_tokens"] == 0
        for draft in ("lookup", t.demo):
            r = t.run("run", tall, "-p", prompt, "-n", "80", *options, "--draft", draft, "--json", expect=OK).json()
            assert all(r[k] == plain[k] for k in ("text", "stop", "tokens")), (draft, r, plain)
            assert 0 <= r["accepted_tokens"] <= r["drafted_tokens"]
            if options is GREEDY:
                assert r["accepted_tokens"] > 0, (draft, r)
    r = t.run("run", tall, "-p", prompt, "-n", "60", *GREEDY, "--draft", "lookup", expect=OK)
    assert "drafted came true" in r.stderr and r.stdout == t.run("run", tall, "-p", prompt, "-n", "60", *GREEDY, expect=OK).stdout


def test_what_cannot_draft(t):
    r = t.run("run", t.demo, "-p", "a", "--draft", t.source / "tests" / "golden" / "llama3", expect=FAILED)
    assert "the draft model" in r.stderr and "the vocabularies differ" in r.stderr, r
    r = t.run("run", t.demo, "-p", "a", "--draft", "look-up", expect=FAILED)
    assert "--draft takes lookup, or the path of a model" in r.stderr, r
    # A draft is part of the memory that is promised.
    too_big = t.run("run", t.demo, "-p", "a", "-n", "50", "--ram", "1M", "--draft", t.demo, expect=TOO_BIG).stderr
    assert "drafts" in too_big, too_big
    least = int(too_big.split("one position would need ")[1].split("(")[1].split()[0])
    alone = int(t.run("run", t.demo, "-p", "a", "-n", "50", "--ram", "1M", expect=TOO_BIG).stderr.split("one position would need ")[1].split("(")[1].split()[0])
    assert least > alone + 8_393_216, (least, alone) # the draft's weights
    t.run("run", t.demo, "-p", "a", "-n", "50", "--ram", str(alone + 2_000_000), expect=OK)
    t.run("run", t.demo, "-p", "a", "-n", "50", "--ram", str(alone + 2_000_000), "--draft", t.demo, expect=TOO_BIG)


def chat_model(t):
    """The demo model with a chat template (it was never trained on one: only the mechanics are looked at)."""
    folder = t.demo_copy("chat")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = ("{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '\\n' }}{% endfor %}"
                               "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_chat(t):
    model = chat_model(t)
    options = ["-n", "12", *GREEDY]
    both = t.run("chat", model, *options, stdin=b"Who are you?\nAnd then?\n", expect=OK).stdout
    one = t.run("chat", model, *options, stdin=b"Who are you?\n", expect=OK).stdout
    assert both.startswith(one) and len(both) > len(one)
    # What was forgotten is as if it had never been said.
    again = t.run("chat", model, *options, stdin=b"Who are you?\n/reset\nWho are you?\n", expect=OK).stdout
    assert again == one + one
    ended = t.run("chat", model, *options, stdin=b"Who are you?\n/exit\nAnd then?\n", expect=OK).stdout
    assert ended == one
    helped = t.run("chat", model, *options, stdin=b"/help\n\n/nonsense\n", expect=OK)
    assert "/reset" in helped.stderr and "unknown command /nonsense" in helped.stderr and helped.stdout == ""
    for draft in ("lookup", t.demo): # several turns, with a memory of what was said
        for more in (GREEDY, ["--seed", "3", "--repeat-penalty", "1.3"]):
            lines = b"Who are you?\nWho are you?\nAnd then, who are you?\n"
            plain = t.run("chat", model, "-n", "30", *more, stdin=lines, expect=OK).stdout
            assert plain == t.run("chat", model, "-n", "30", *more, "--draft", draft, stdin=lines, expect=OK).stdout
    system = t.run("chat", model, *options, "--system", "Answer as a pirate.", stdin=b"Who are you?\n", expect=OK).stdout
    assert system != one


def test_a_chat_longer_than_the_context(t):
    model = chat_model(t)
    lines = "".join(f"Tell me number {i} of the many stories that you know.\n" for i in range(14))
    r = t.run("chat", model, "-n", "16", *GREEDY, stdin=lines.encode(), expect=OK)
    assert "forgotten" in r.stderr, r
    r = t.run("chat", model, "-n", "16", *GREEDY, stdin=("word " * 400 + "\n").encode())
    assert r.code == TOO_BIG and "--ctx" in r.stderr, r


def test_chat_without_a_template(t):
    r = t.run("chat", t.demo, stdin=b"hello\n", expect=FAILED)
    assert "template" in r.stderr and "snug run" in r.stderr, r


def test_bench(t):
    r = t.run("bench", t.demo, "-p", "32", "-n", "8", "--repeats", "2", "--threads", "1,2", "--depth", "128,0", "--json", expect=OK).json()
    assert [(x["threads"], x["depth"]) for x in r["runs"]] == [(1, 0), (1, 128), (2, 0), (2, 128)]
    for x in [r, *r["runs"]]:
        for phase in ("prefill", "decode"):
            samples = x[phase + "_samples_tps"]
            assert len(samples) == 2 and 0 < samples[0] <= x[phase + "_tps"] <= samples[1], x
        assert abs(x["bytes_per_s"] - x["decode_tps"] * x["bytes_per_token"]) <= 1e-6 * x["bytes_per_s"]
        # The demo: 4 layers of 2 key-value heads of 64, keys and values in f16; token i of 8 sees depth + i + 1 positions.
        assert x["kv_bytes_per_token"] == 4 * 2 * 64 * 2 * 2 * (2 * x["depth"] + 9) // 2, x
        assert x["bytes_per_token"] == 8393216 + x["kv_bytes_per_token"] # all weights: the embedding is the head
        assert x["bandwidth_bytes_per_s"] > 1e8 and x["bandwidth_share"] > 0
    table = t.run("bench", t.demo, "-p", "16", "--generate", "4", "--repeat", "1", expect=OK).stdout.splitlines() # older names
    assert table[1].startswith("threads   depth") and len(table) == 3, table # the default depths beyond 256 are left out


def test_bench_of_several_sequences(t):
    r = t.run("bench", t.demo, "-p", "16", "-n", "8", "-r", "2", "--depth", "100", "--sequences", "5", "--json", expect=OK).json()
    assert r["sequences"] == 5 and len(r["runs"]) == 1 and r["resident_bytes"] > 8393216, r
    assert t.sanitized or r["resident_bytes"] <= r["memory_bytes"], r
    # a pass reads the weights once for all, and the cache of each
    assert r["bytes_per_token"] == (8393216 + 5 * 4 * 2 * 64 * 2 * 2 * 209 // 2) // 5, r


def test_locked_memory(t):
    r = t.run("run", t.demo, "-p", "The house", "-n", "4", "--mlock", *GREEDY, "--json")
    if r.code == OK:
        r = r.json()
        assert r["resident_bytes"] >= 8393216 and r["peak_resident_bytes"] >= r["resident_bytes"] and 0 < r["first_token_s"] < 60, r
    else: # a limit of this user's
        assert r.code == TOO_BIG and "ulimit -l" in r.stdout, r


def test_bench_depths_that_do_not_fit(t):
    r = t.run("bench", t.demo, "--depth", "0,4096", expect=TOO_BIG)
    assert "--depth 4096" in r.stderr and "context has 256" in r.stderr and r.stdout == "", r
    r = t.run("bench", t.demo, "--depth", "250", "-p", "8", "-n", "1", "--json", expect=TOO_BIG).json()
    assert "needs 258 positions" in r["error"]["message"], r
    t.run("bench", t.demo, "--depth", "248", "-p", "8", "-n", "1", "-r", "1", expect=OK)
    t.run("bench", t.demo, "--depth", "-1", expect=USAGE)


if __name__ == "__main__":
    harness.main(globals())
