"""The seed prompts that the project ships: reproducible, checkable, varied."""

import json
import subprocess
import sys
from collections import Counter

import pytest

from arena_assets.config.places import PROJECT
from arena_assets.config.profile import load_profile
from arena_assets.config.prompts import Source
from arena_assets.curation.near_duplicates import near_duplicates
from arena_assets.curation.sources import read_source
from arena_assets.curation.words import words_of
from arena_assets.verifying.constraints import parse_constraints
from arena_assets.verifying.verifier import verify

SEED = PROJECT / "data" / "seed"


def rows(name):
    return [json.loads(line) for line in (SEED / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def prompts():
    return rows("prompts.jsonl")


def test_the_files_are_what_the_builder_builds(tmp_path):
    subprocess.run([sys.executable, SEED / "build.py", tmp_path], check=True)
    for name in ("prompts.jsonl", "responses.jsonl"):
        assert (tmp_path / name).read_bytes() == (SEED / name).read_bytes(), f"rebuild {name}"


def test_there_are_enough_prompts_of_enough_kinds(prompts):
    families = Counter(row["category"] for row in prompts if row["constraints"])
    plain = [row for row in prompts if not row["constraints"]]
    multi_turn = [row for row in prompts if len(row["messages"]) > 1]
    assert len(prompts) >= 600 and len(families) >= 8 and min(families.values()) >= 30
    assert len(plain) >= 20 and len(multi_turn) >= 50
    assert len({row["prompt_id"] for row in prompts}) == len(prompts)
    assert len({json.dumps(row["messages"]) for row in prompts}) == len(prompts)
    assert all(0 <= row["difficulty"] <= 10 for row in prompts)


def test_the_recorded_author_answers_every_prompt_and_meets_every_constraint(prompts):
    answers = {row["prompt_id"]: row["text"] for row in rows("responses.jsonl")}
    assert set(answers) == {row["prompt_id"] for row in prompts}
    failing = {
        row["prompt_id"]: found.explanation
        for row in prompts
        if row["constraints"]
        for found in [
            verify(parse_constraints(json.dumps(row["constraints"])), answers[row["prompt_id"]])
        ]
        if found.score < 10
    }
    assert failing == {}


def test_few_of_them_repeat_each_other(prompts):
    table, quarantine = read_source(Source(name="seed", path="x"), SEED / "prompts.jsonl")
    settings = load_profile("profiles/pocket.yaml").prompts.near_duplicates
    repeated = near_duplicates(words_of(table), settings.threshold, settings.words)
    assert quarantine.num_rows == 0 and table.num_rows == len(prompts)
    assert repeated.num_rows < 0.02 * len(prompts)
