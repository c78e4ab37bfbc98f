"""Rules that choose what a round learns: literal choices, sizes, a function of one's own."""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_assets.config.recipe import RoundSettings, Selection
from arena_assets.curation.selection import RULES, BadSelection, select
from arena_assets.lake.identity import canonical
from arena_assets.lake.lake import Lake, write_atomically

ROUND = "i01.1-sft"


def candidates(texts: list[str], embeddings: list[list[float] | None] | None = None) -> pa.Table:
    rows = [
        {
            "prompt_id": f"p{n}",
            "battle_id": f"b{n}",
            "kind": "sft",
            "messages": [{"role": "system", "content": "x" * 50}, {"role": "user", "content": t}],
            "embedding": embeddings[n] if embeddings else [1.0, 0.0],
            "rows_of_pair_judge": 2,
        }
        for n, t in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows)


@pytest.fixture
def lake(tmp_path) -> Lake:
    """Candidates of both kinds on four prompts; the pair judge would make 2 and 1 rows."""
    lake = Lake(tmp_path / "lake")
    found = candidates(["a", "a b c d", "a b", "a b c"]).drop_columns(["embedding"])
    both = found.to_pylist() + [
        row | {"kind": "preference", "rows_of_pair_judge": 1} for row in found.to_pylist()[:3]
    ]
    table = pa.Table.from_pylist(both).to_reader()
    write_atomically(table, lake.path("selection_candidates", ROUND))
    vectors = [{"prompt_id": f"p{n}", "embedding": [float(n % 2), 1.0]} for n in range(3)]
    lake.write("prompt_embeddings", vectors)
    return lake


def chosen(lake: Lake, rule: str, seed: int = 1, **more) -> dict[str, list[str]]:
    rows = select(lake, ROUND, Selection(rule=rule, **more), seed)
    kinds = ("sft", "preference")
    return {kind: [r["battle_id"] for r in rows if r["kind"] == kind] for kind in kinds}


def test_the_pair_judge_chooses_nothing_here(lake):
    assert select(lake, ROUND, Selection(), 1) == []


def test_as_many_rows_as_the_pair_judge_would_make_unless_told(lake):
    assert chosen(lake, "instruction-length") == {"sft": ["b1", "b3"], "preference": ["b1"]}
    assert chosen(lake, "instruction-length", rows=3)["sft"] == ["b1", "b3", "b2"]
    assert chosen(lake, "all") == {
        "sft": ["b0", "b1", "b2", "b3"],
        "preference": ["b0", "b1", "b2"],
    }
    assert len(chosen(lake, "random")["sft"]) == 2
    assert len(chosen(lake, "kmeans", rows=9)["sft"]) == 4, "also the one without an embedding"


def test_the_longest_instruction_is_the_users_and_of_equals_the_first():
    found = candidates(["two words", "a", "two words", "the longest of them"])
    assert RULES["instruction-length"](found, 3, 0) == ["b3", "b0", "b2"]


def test_prompts_unlike_each_other_come_first_by_kmeans():
    near, far = [1.0, 0.0], [0.0, 1.0]
    vectors = [near, near, near, near, far, [0.9, 0.1], None]
    first, second, *_ = RULES["kmeans"](candidates(["t"] * 7, vectors), 4, 0)
    sides = {"b4" in (first, second)}
    assert sides == {True}, "the lonely one is in the first turn"
    assert RULES["kmeans"](candidates(["t"] * 7, vectors), 7, 0)[-1] == "b6"


@settings(max_examples=30, deadline=None)
@given(
    st.sets(st.integers(0, 60), min_size=1, max_size=25),
    st.integers(1, 30),
    st.integers(0, 3),
    st.sampled_from(sorted(RULES)),
)
def test_every_rule_chooses_candidates_once_and_no_more_than_it_may(numbers, rows, seed, rule):
    draw = np.random.default_rng(len(numbers))
    table = candidates(["t"] * (max(numbers) + 1), draw.random((max(numbers) + 1, 3)).tolist())
    table = table.take(pa.array(sorted(numbers)))
    found = RULES[rule](table, rows, seed)
    assert len(set(found)) == len(found) and set(found) <= set(table["battle_id"].to_pylist())
    assert len(found) == (table.num_rows if rule == "all" else min(rows, table.num_rows))
    assert found == RULES[rule](table, rows, seed), "the same for the same seed"


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(1, 20), st.data())
def test_a_candidate_that_goes_changes_at_most_one_choice_at_random(count, rows, data):
    table = candidates(["t"] * count)
    gone = data.draw(st.integers(0, count - 1))
    rest = table.take(pa.array([n for n in range(count) if n != gone]))
    before, after = RULES["random"](table, rows, 5), RULES["random"](rest, rows, 5)
    assert len(set(before) - {f"b{gone}"} - set(after)) == 0
    assert len(set(after) - set(before)) <= 1


def test_another_seed_chooses_otherwise_at_random():
    table = candidates(["t"] * 30)
    assert len({tuple(RULES["random"](table, 5, seed)) for seed in range(6)}) > 4


# -- a function of the user's own ---------------------------------------------------------------

OWN = """
def shortest(candidates, rows, seed):
    told = [m[-1]["content"] for m in candidates["messages"].to_pylist()]
    order = sorted(range(len(told)), key=lambda n: len(told[n]))
    assert candidates["embedding"].to_pylist()[0] == [0.0, 1.0]
    return [candidates["battle_id"][n].as_py() for n in order[:rows]]

def strange(candidates, rows, seed):
    return ["b0", "b99"]

def doubled(candidates, rows, seed):
    return ["b0", "b0"]

def broken(candidates, rows, seed):
    return 1 / 0
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "my_rules_of_test.py").write_text(OWN, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "my_rules_of_test.py"
    sys.modules.pop("my_rules_of_test", None)


def test_a_function_of_ones_own_chooses(lake, own_module):
    assert chosen(lake, "my_rules_of_test:shortest") == {"sft": ["b0", "b2"], "preference": ["b0"]}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("strange", "my_rules_of_test:strange chose 'b99', no battle_id of its candidates"),
        ("doubled", "my_rules_of_test:doubled chose one twice"),
        ("broken", "my_rules_of_test:broken failed: ZeroDivisionError: division by zero"),
        ("missing", "has no function 'missing' (there: "),
    ],
)
def test_what_a_function_does_wrong_is_told_in_one_sentence(lake, own_module, name, told):
    with pytest.raises(BadSelection) as error:
        chosen(lake, f"my_rules_of_test:{name}")
    assert told in str(error.value) and "\n" not in str(error.value)


def test_the_source_of_a_function_is_part_of_what_a_round_is_made_from(own_module):
    before = canonical(Selection(rule="my_rules_of_test:shortest"))
    own_module.write_text(OWN + "\n# another\n", "utf-8")
    assert canonical(Selection(rule="my_rules_of_test:shortest")) != before


@pytest.mark.parametrize(
    ("selection", "told"),
    [
        ("best", "'best' is no rule of selection (valid: pair-judge, random, kmeans,"),
        ("no_such_module_here:f", "no module 'no_such_module_here'"),
        ({"rule": "all", "rows": 3}, "rows: all takes all that it finds; leave rows out"),
        ({"rule": "random", "rows": 0}, "greater than 0"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(selection, told):
    with pytest.raises(ValueError) as error:
        RoundSettings(slice="D1", minimum_gap=1, selection=selection)
    assert told in str(error.value)
