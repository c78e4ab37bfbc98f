"""Slices are drawn from prompts, seed and settings alone, and a round needs all of its own."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_assets.checks.expectations import failed_expectations, validate
from arena_assets.checks.suites import suites
from arena_assets.config.prompts import Slices
from arena_assets.curation.slices import draw_slices
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.handover import round_prompts
from arena_assets.flywheel.weights import BrokenChain

FIRST, THIRD = "i01.1-sft", "i01.3-rl"


def pool(names, source="web"):
    names = list(names)
    return pa.table({"prompt_id": pa.array(names, pa.string()), "source": [source] * len(names)})


def drawn(names, chosen, seed=5):
    found = {name: set() for name in chosen.names}
    for row in draw_slices(pool(names), chosen, seed).to_pylist():
        found[row["slice"]].add(row["prompt_id"])
    return found


NAMES = [f"p{number}" for number in range(100)]
THREE = Slices(names=("D1", "D2", "D3"), rows=10)


@settings(max_examples=15, deadline=None)
@given(
    st.sets(st.text("abcdef", min_size=1, max_size=4), min_size=6, max_size=40),
    st.integers(0, 3),
    st.sampled_from([2, None]),
    st.randoms(use_true_random=False),
)
def test_slices_are_disjoint_full_and_a_function_of_the_set_of_prompts(names, seed, rows, draw):
    chosen = Slices(names=("D1", "D2", "D3"), rows=rows)
    found = drawn(names, chosen, seed)
    wanted = rows or len(names) // 3
    assert [len(ids) for ids in found.values()] == [wanted] * 3
    assert len(set.union(*found.values())) == wanted * 3 and set.union(*found.values()) <= names
    shuffled = sorted(names)
    draw.shuffle(shuffled)
    assert drawn(shuffled, chosen, seed) == found
    half = set(shuffled[: len(shuffled) // 2])
    if len(half) >= wanted * 3:
        drawn(half, chosen, seed)  # whatever was drawn between changes nothing
    assert drawn(half | (names - half), chosen, seed) == found


def test_a_new_prompt_changes_a_slice_by_one_prompt_at_most_and_mostly_not_at_all():
    before, changed = drawn(NAMES, THREE), 0
    for number in range(25):
        after = drawn([*NAMES, f"new{number}"], THREE)
        lost = {name: len(before[name] - after[name]) for name in before}
        assert max(lost.values()) <= 1
        changed += sum(lost.values())
    assert 0 < changed < 25 * 3 / 4


def test_a_later_slice_leaves_the_earlier_ones_alone():
    longer = Slices(names=("D1", "D2", "D3", "D4"), rows=10)
    assert {n: ids for n, ids in drawn(NAMES, longer).items() if n != "D4"} == drawn(NAMES, THREE)
    assert drawn(NAMES, THREE, seed=6) != drawn(NAMES, THREE)


def test_too_few_prompts_are_one_sentence():
    message = r"prompts.slices asks for 3 slices of 10 prompts, but only 29 are left after curation"
    with pytest.raises(ValueError, match=message):
        draw_slices(pool(NAMES[:29]), THREE, 5)
    with pytest.raises(ValueError, match=r"asks for 3 slices of some prompts, but only 2 are left"):
        draw_slices(pool(NAMES[:2]), Slices(names=("D1", "D2", "D3")), 5)
    initial = Slices.model_validate({"names": ["D1"], "initial": {"rows": 3, "source": "chat"}})
    with pytest.raises(
        ValueError, match=r"initial asks for 3 prompts of chat, but only 0 are left"
    ):
        draw_slices(pool(NAMES), initial, 5)


# -- the round ---------------------------------------------------------------------------------


@pytest.fixture
def arena(tmp_path, tiny_profile) -> Arena:
    """The tests' arena (three slices of 16) on a lake with curated prompts and full slices."""
    arena = Arena(str(tiny_profile), str(tmp_path / "lake"))
    tested = {"part": "hard", "cluster": 0, "category": "x", "difficulty": None}
    tested |= {"family": "f", "purpose": "all"}
    arena.lake.write("arena_testset", [{"prompt_id": "t"} | tested])
    curate(arena, range(60))
    slices = draw_slices(pool(NAMES[:60]), arena.profile.prompts.slices, 3)
    arena.lake.write("slices", slices)
    return arena


def curate(arena, numbers):
    """Replace the curated prompts by p0, p1, ... and the test prompt."""
    texts = {f"p{n}": f"word{chr(97 + n % 26)} another{chr(97 + n // 26)} {n}" for n in numbers}
    arena.lake.write(
        "prompts_curated",
        [
            {"prompt_id": name, "source": "web", "messages": [{"role": "user", "content": text}]}
            | {"constraints": "[]", "category": "x"}
            for name, text in (texts | {"t": "quite another text"}).items()
        ],
    )


def lacking(arena):
    """What the check of full slices found."""
    (found,) = [
        result
        for result in validate(arena, suites(arena.profile)["slices"], "all").results
        if result.expectation_config.meta["name"] == "every_slice_is_full"
    ]
    return set() if found.success else set(found.result["partial_unexpected_list"])


def test_a_round_fights_over_the_whole_of_its_slice(arena):
    assert round_prompts(arena, FIRST).num_rows == 16
    assert round_prompts(arena, FIRST).column_names == ["prompt_id", "messages", "constraints"]
    assert failed_expectations(arena, "slices", "all") == []


def test_a_slice_that_lost_prompts_blocks_and_its_round_refuses(arena):
    table = arena.lake.read("slices").to_pylist()
    sizes = {
        name: sum(row["slice"] == name and int(row["prompt_id"][1:]) < 30 for row in table)
        for name in ("D1", "D2", "D3")
    }
    curate(arena, range(30))
    assert failed_expectations(arena, "slices", "all") == ["every_slice_is_full"]
    assert lacking(arena) == {", ".join(f"{name}: {n} of 16" for name, n in sizes.items())}
    with pytest.raises(BrokenChain, match=rf"slice D1, which has {sizes['D1']} of its 16 prompts"):
        round_prompts(arena, FIRST)
    curate(arena, range(60, 99))  # a replaced file
    assert lacking(arena) == {"D1: 0 of 16, D2: 0 of 16, D3: 0 of 16"}
    with pytest.raises(BrokenChain, match=r"Round i01.3-rl fights over slice D3, which has 0 of"):
        round_prompts(arena, THIRD)


def test_prompts_that_differ_from_the_test_set_in_a_number_may_be_in_a_slice(arena):
    curated = arena.lake.read("prompts_curated").to_pylist()
    said = "How many boxes of apples does Anna buy on the market if she has {} euros with her?"
    for row in curated:
        if row["prompt_id"] in ("t", "p1"):
            row["messages"][0]["content"] = said.format(5 if row["prompt_id"] == "t" else 7)
    arena.lake.write("prompts_curated", curated)
    slices = arena.lake.read("slices").to_pylist()
    slices[0]["prompt_id"] = "p1"
    unique = {row["prompt_id"]: row for row in slices}
    arena.lake.write("slices", list(unique.values()))
    assert "no_near_duplicate_of_testset" not in failed_expectations(arena, "slices", "all")
    for row in curated:
        if row["prompt_id"] == "p1":
            row["messages"][0]["content"] = said.format(5) + " Thanks"
    arena.lake.write("prompts_curated", curated)
    assert "no_near_duplicate_of_testset" in failed_expectations(arena, "slices", "all")
