"""What stands too near to the frozen test set goes, whatever an earlier step made of the two."""

import pytest

from arena_assets.config.prompts import Prompts
from arena_assets.curation.collection import STEPS, remaining
from arena_assets.curation.steps import near_testset
from arena_assets.lake.lake import Lake

TEST = "Explain why small birds often sing so loudly in spring mornings"
TEXTS = {
    # the earlier id: of the two, the step of near-duplicates keeps this one
    "a": TEST.replace("mornings", "evenings"),
    "b": "Write a haiku about a rusty old bicycle in the rain",
}


def row(prompt_id: str, text: str) -> dict:
    return {
        "prompt_id": prompt_id,
        "source": "s",
        "messages": [{"role": "user", "content": text}],
        "constraints": "[]",
        "category": "x",
    }


@pytest.mark.parametrize("lenient", [{"words": 8, "overlap": 0.5}, {"words": 3, "overlap": 0.9}])
def test_a_near_duplicate_of_a_test_prompt_goes_also_where_decontamination_lets_it_pass(
    tmp_path, lenient
):
    lake = Lake(tmp_path)
    lake.write("prompts", [row(name, text) for name, text in TEXTS.items()], "s")
    for step in STEPS:
        lake.write(step, [])
    held = row("t", TEST) | {"part": "diverse", "cluster": 0, "turns": 1, "version": "v001"}
    lake.write("testset_versions", [held], "v001")
    prompts = Prompts.model_validate(
        {
            "sources": [{"name": "s", "path": "s.jsonl"}],
            "decontamination": {**lenient, "neighbours": 0},
            "slices": {"names": ["D1"]},
        }
    )
    with remaining(lake, ["s"]) as connection:
        before, dropped = near_testset(connection, prompts, lake, "v001")
    assert before == 2
    (found,) = dropped.to_pylist()
    assert (found["prompt_id"], found["match"], found["against"]) == ("a", "t", "arena_testset")
    assert (found["step"], found["reason"]) == ("decontamination", "near-duplicate")
