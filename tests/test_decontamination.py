"""Altered copies of real benchmark prompts are found again, and clean prompts are left alone.

Half of the real prompts are the benchmark; altered copies of them are planted in a collection whose
clean rows are the other half (prompts of one template stay on one side) and the seed prompts. The
real prompts are not part of the project: without them the test is skipped.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arena_assets.config.places import PROJECT
from arena_assets.config.prompts import Decontamination, Encoder
from arena_assets.curation.contamination import Items, nearest
from arena_assets.curation.embeddings import encode, load_encoder
from arena_assets.curation.near_duplicates import near_duplicates
from arena_assets.curation.words import words_of
from arena_assets.lake.tables import MESSAGES

DATA = PROJECT.parent / "shared" / "data"
FILES = {
    "prompts/benchmark_prompts.parquet": "prompt",
    "alpaca_eval/prompts.parquet": "instruction",
}
pytestmark = pytest.mark.skipif(
    not all((DATA / file).exists() for file in FILES),
    reason=f"the real prompts are not in {DATA}: {', '.join(FILES)}",
)
LIGHT = ("case", "punctuation", "wrapped")


def as_table(rows):
    """A table of prompts or items from pairs of identifier and text."""
    messages = [[{"role": "user", "content": text}] for _, text in rows]
    ids = [name for name, _ in rows]
    return pa.table({"prompt_id": ids, "messages": pa.array(messages, MESSAGES)})


def altered(text, how, draw, words):
    """A copy: other case, no punctuation, an outer sentence, or every tenth word another one."""
    if how == "case":
        return text.upper()
    if how == "punctuation":
        return re.sub(r"[^\w\s]|_", "", text) + " ..."
    if how == "wrapped":
        return f"Hello! I have a question for you today. {text} Please answer it with care."
    said = text.split()
    for place in draw.sample(range(len(said)), max(1, round(len(said) / 10))):
        said[place] = draw.choice(words)
    return " ".join(said)


def halves(draw):
    """Two halves of the real prompts (identifier, text); no template is in both."""
    texts = []
    for file, column in FILES.items():
        texts += pq.read_table(DATA / file, columns=[column])[column].to_pylist()
    rows = [(f"r{number:04d}", text) for number, text in enumerate(texts)]
    template = {name: name for name, _ in rows}
    for row in near_duplicates(words_of(as_table(rows)), 0.3, 3).to_pylist():
        template[row["prompt_id"]] = row["match"]
    names = sorted(set(template.values()))
    draw.shuffle(names)
    first = set(names[: len(names) // 2])
    return [r for r in rows if template[r[0]] in first], [
        r for r in rows if template[r[0]] not in first
    ]


def found_in(benchmark, prompts, settings):
    """The prompts that any of the three rules finds, with the rule."""
    items = benchmark.rename_columns({"prompt_id": "item_id", "messages": "messages"})
    items = items.append_column("against", pa.array(["real"] * len(items)))
    known = Items(items, settings.words, settings.overlap)
    with duckdb.connect() as connection:
        connection.register("prompts", prompts)
        found = {row["prompt_id"]: row["reason"] for row in known.exact(connection, "prompts")}
    for part in words_of(prompts):
        for row in known.overlapping(part):
            found.setdefault(row["prompt_id"], row["reason"])
    encoder = load_encoder(Encoder(package="wordllama"))
    vectors = [
        encode(encoder, [m[0]["content"] for m in table["messages"].to_pylist()], 256)
        for table in (benchmark, prompts)
    ]
    names = [("real", name) for name in benchmark["prompt_id"].to_pylist()]
    ids = prompts["prompt_id"].to_numpy()
    parts = [(ids, vectors[1])]
    for row in nearest(names, vectors[0], parts, settings.neighbours, settings.similarity):
        found.setdefault(row["prompt_id"], row["reason"])
    return found


def test_altered_benchmark_prompts_are_found_and_clean_prompts_stay(capsys):
    draw = random.Random(1)
    benchmark, clean = halves(draw)
    words = [word for _, text in benchmark for word in text.split()]
    planted = [
        (f"{how}-{name}", altered(text, how, draw, words))
        for how in (*LIGHT, "words")
        for name, text in benchmark
    ]
    seeds = (PROJECT / "data/seed/prompts.jsonl").read_text("utf-8").splitlines()
    clean = [(f"clean-{name}", text) for name, text in clean]
    clean += [
        (f"clean-seed-{n}", json.loads(s)["messages"][-1]["content"]) for n, s in enumerate(seeds)
    ]
    prompts = planted + clean
    draw.shuffle(prompts)
    found = found_in(as_table(benchmark), as_table(prompts), Decontamination())
    total = Counter(name.split("-")[0] for name, _ in prompts)
    caught = Counter(name.split("-")[0] for name in found)
    share = {kind: caught[kind] / count for kind, count in total.items()}
    light = sum(caught[kind] for kind in LIGHT) / sum(total[kind] for kind in LIGHT)
    with capsys.disabled():
        print(f"\n{len(benchmark)} benchmark prompts, {total['clean']} clean prompts")
        for kind in (*LIGHT, "words", "clean"):
            rules = Counter(rule for name, rule in found.items() if name.startswith(kind))
            print(f"{kind:12} {share[kind]:7.2%} dropped  {dict(rules)}")
        print(f"light alterations caught: {light:.2%}; 10 % of the words: {share['words']:.2%}")
    assert light >= 0.99 and all(share[kind] >= 0.99 for kind in LIGHT)
    assert share["words"] >= 0.90
    assert share["clean"] < 0.01
