"""Families of prompts, the split of the test set by them, and what is held out whole."""

from __future__ import annotations

import json
import random
from collections import Counter

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from conftest import PROJECT
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_assets.config.prompts import Testset as Settings
from arena_assets.curation.families import asked_last, families
from arena_assets.curation.held_out import held_out_by, held_out_drops
from arena_assets.curation.split import FEWEST, reporting_families, with_purposes
from arena_assets.curation.testset import build_testset
from arena_assets.lake.lake import Lake
from arena_assets.lake.tables import PROMPTS

TOPICS = ("otters", "bread", "the sea", "violins")


def own_words(n):
    """Three words that no other number has, and no digit, which would be masked."""
    spelt = "".join("abcdefghij"[int(digit)] for digit in f"{n:03d}")
    return f"ask{spelt} of{spelt} what{spelt}"


def table_of(texts, **columns):
    rows = [
        {"prompt_id": f"p{n:03d}", "messages": [{"role": "user", "content": text}]}
        | {"category": "c", "cluster": 0, "held_out": None, "source": "s", "constraints": "[]"}
        | {name: values[n] for name, values in columns.items()}
        for n, text in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows)


def test_prompts_of_one_wording_are_a_family_whatever_topic_number_or_quotation_is_put_in():
    wordings = (
        "Tell me about {}. Write exactly {} short lines and end each of them with a full stop.",
        'My neighbour likes {}. Put the words "{}" somewhere in a reply of two sentences.',
        "Why do people care for {}? In {} words or fewer, please, and without any number in it.",
    )
    texts = [w.format(topic, n + 3) for w in wordings for n, topic in enumerate(TOPICS)]
    found = families(table_of(texts))
    assert found == ["p000"] * 4 + ["p004"] * 4 + ["p008"] * 4


def test_prompts_with_nothing_in_common_are_families_of_their_own():
    texts = ["How do bees find home?", "Translate this poem into Welsh.", "What is 7 times 8?"]
    assert families(table_of(texts)) == ["p000", "p001", "p002"]


def test_earlier_turns_do_not_join_families():
    asked = [
        {"role": "user", "content": "Name three rivers of Spain on one line."},
        {"role": "assistant", "content": "Ebro, Tagus, Duero"},
        {"role": "user", "content": "Shorter."},
    ]
    assert asked_last(asked) == "Shorter."
    assert asked_last([asked[0], asked[2]]) == f"{asked[0]['content']}\nShorter.", "both are open"


def test_families_may_be_clusters_or_categories():
    table = table_of(["a b c", "d e f"], cluster=[4, 5], category=["x", "x"])
    assert families(table, "cluster") == ["cluster 4", "cluster 5"]
    assert families(table, "category") == ["category x", "category x"]


def test_the_wordings_of_the_seed_prompts_are_found():
    lines = (PROJECT / "data/seed/prompts.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    drawn = random.Random(3).sample(rows, 240)
    texts = [row["messages"][-1]["content"] for row in drawn]
    found = families(table_of(texts))
    mixed = {family: set() for family in found}
    for family, row in zip(found, drawn, strict=True):
        mixed[family].add(row["category"])
    assert all(len(categories) == 1 for categories in mixed.values()), "no two tasks are one family"
    assert 60 <= len(mixed) <= 110 and max(Counter(found).values()) <= 10


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from("xyz")), min_size=1, max_size=150),
    st.integers(0, 5),
    st.sampled_from([0.3, 0.5, 0.7]),
)
@settings(max_examples=60, deadline=None)
def test_a_split_takes_whole_families_about_the_share_and_is_the_same_in_any_order(
    prompts, seed, share
):
    family = [f"f{number}" for number, _ in prompts]
    category = [kind for _, kind in prompts]
    found = reporting_families(family, category, share, seed)
    turned = reporting_families(family[::-1], category[::-1], share, seed)
    assert found == turned
    if found is not None:
        reported = sum(name in found for name in family)
        assert reported >= FEWEST and len(family) - reported >= FEWEST
        assert abs(reported - share * len(family)) <= max(Counter(family).values()) / 2 + 1e-9


def test_too_small_a_test_set_is_not_split_and_a_share_of_nothing_neither():
    small = table_of([own_words(n) for n in range(2 * FEWEST - 1)])
    for table, share in ((small, 0.5), (table_of([own_words(n) for n in range(90)]), 0.0)):
        purposes = with_purposes(table, Settings(report_share=share), 1)["purpose"].to_pylist()
        assert set(purposes) == {"all"}
    large = table_of([own_words(n) for n in range(2 * FEWEST)])
    split = with_purposes(large, Settings(), 1)["purpose"].to_pylist()
    assert Counter(split) == {"select": FEWEST, "report": FEWEST}


def test_other_seeds_split_otherwise():
    family = [f"f{n // 2}" for n in range(100)]
    found = [reporting_families(family, ["c"] * 100, 0.5, seed) for seed in range(3)]
    assert found[0] != found[1] != found[2]


# -- what is held out ----------------------------------------------------------------------------

QUOTES, SHORT, BOTH = (
    json.dumps(kinds)
    for kinds in (
        [{"type": "wrapped_in_quotes"}],
        [{"type": "word_count", "maximum": 9}],
        [{"type": "word_count", "maximum": 9}, {"type": "wrapped_in_quotes"}],
    )
)


def pool(count=120):
    kinds = [QUOTES, SHORT, SHORT, BOTH]
    rows = [
        {"prompt_id": f"p{n:03d}", "source": "general" if n % 10 == 0 else "tasks"}
        | {"messages": [{"role": "user", "content": own_words(n)}], "category": "c"}
        | {"constraints": kinds[n % 4], "difficulty": float(n % 7), "reference": None}
        for n in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=PROMPTS.schema)


def vectors_of(prompts):
    vectors = np.random.default_rng(0).normal(size=(prompts.num_rows, 8)).astype("float32")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_type_that_is_held_out_is_in_the_test_set_apart_and_dropped_everywhere_else(tmp_path):
    asked = Settings(
        clusters=20, diverse_per_cluster=1, hard=21, hard_candidates_per_cluster=9,
        held_out_constraints=("wrapped_in_quotes",), held_out_prompts=12,
    )  # fmt: skip
    prompts = pool()
    drawn = build_testset(prompts, vectors_of(prompts), asked, 5, None)
    assert Counter(drawn["part"].to_pylist()) == {"diverse": 20, "hard": 21, "held out": 12}
    for row in drawn.to_pylist():
        quoted = "wrapped_in_quotes" in row["constraints"]
        assert (row["held_out"] == "constraint wrapped_in_quotes") is quoted
        assert (row["part"] == "held out") is quoted
    split = with_purposes(drawn, asked, 5)
    counted = Counter(split["purpose"].to_pylist())
    assert counted["held_out"] == 12 and {"select", "report"} < set(counted)

    lake = Lake(tmp_path)
    version = drawn.append_column("version", pa.array(["v001"] * drawn.num_rows))
    lake.write("testset_versions", version, "v001")
    with duckdb.connect() as connection:
        tested = drawn["prompt_id"].to_pylist()
        rest = prompts.filter(pa.array([p not in tested for p in prompts["prompt_id"].to_pylist()]))
        connection.register("outside", rest)
        drops = held_out_drops(connection, "outside", lake, "v001")
    assert {row["reason"] for row in drops.to_pylist()} == {
        "constraint wrapped_in_quotes is held out"
    }
    left = rest.num_rows - drops.num_rows
    assert left == sum("quotes" not in kinds for kinds in rest["constraints"].to_pylist()) > 0


def test_too_few_that_are_held_out_are_refused():
    asked = Settings(clusters=2, hard=0, held_out_sources=("general",), held_out_prompts=13)
    prompts = pool()
    with pytest.raises(ValueError, match="asks for 13 prompts, but only 12 are of what is held"):
        build_testset(prompts, vectors_of(prompts), asked, 1, None)
    assert asked.size == 2 * 2 + 13, "as the plan says"


def test_a_source_may_be_held_out_and_a_number_of_types_is_drawn_by_the_seed():
    prompts = pool()
    by_source = held_out_by(prompts, Settings(held_out_sources=("general",)), 1)
    assert Counter(by_source) == {None: 108, "source general": 12}
    drawn = {
        seed: {*held_out_by(prompts, Settings(held_out_constraints=1), seed)} for seed in range(9)
    }
    assert {"constraint wrapped_in_quotes", None} in drawn.values()
    assert {"constraint word_count", None} in drawn.values()
    again = held_out_by(prompts, Settings(held_out_constraints=1), 4)
    assert {*again} == drawn[4]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"held_out_constraints": ("quotes",)}, "no prompt has 'quotes' .there: word_count, wrapp"),
        ({"held_out_constraints": 3}, "3 types are to be held out, but the prompts have 2"),
        ({"held_out_sources": ("chat",)}, "no prompt of 'chat' qualifies"),
    ],
)
def test_what_cannot_be_held_out_is_told_with_what_is_there(asked, said):
    with pytest.raises(ValueError, match=said):
        held_out_by(pool(), Settings(**asked), 1)
