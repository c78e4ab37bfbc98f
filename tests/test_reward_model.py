"""A reward model is measured on pairs that it did not learn from, before it may reward."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reinforcing import job_of, pair_row, prompt_row

from arena_assets.training.making import RewardModelRefused, _run
from arena_assets.training.measuring import (
    HELD_OUT,
    Measured,
    held_out,
    measured,
    prompt_key,
    read_measured,
    refusal,
    write_measured,
)


def of(right: int, wrong: int) -> Measured:
    return Measured(80, (1.0,) * right + (-0.5,) * wrong, None)


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_the_accuracy_has_wilsons_interval():
    """Wilson, 1927: (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), here 15 of 20."""
    found = of(15, 5)
    assert found.accuracy == 0.75
    assert found.interval == pytest.approx((0.5313, 0.8881), abs=1e-4)
    assert found.summary() == {
        "learned_from": 80,
        "held_out": 20,
        "accuracy": 0.75,
        "lower": 0.5313,
        "upper": 0.8881,
        "mean_margin": 0.625,
        "length_correlation": None,
    }


def test_scores_that_follow_length_are_seen():
    found = measured(9, [3.0, 4.0], [1.0, 2.0], [30, 40, 10, 20])
    assert (found.margins, found.length_correlation) == ((2.0, 2.0), pytest.approx(1.0))
    assert measured(9, [1.0], [2.0], [30, 40]).length_correlation == pytest.approx(1.0)
    assert measured(9, [1.0], [1.0], [30, 40]).length_correlation is None
    assert measured(9, [1.0], [1.0], [30, 40]).accuracy == 0, "equal scores tell nothing apart"


def test_a_floor_refuses_what_is_below_it_and_says_how_it_did():
    assert refusal(of(15, 5), None) is None
    assert refusal(of(15, 5), 0.75) is None
    told = refusal(of(14, 6), 0.75)
    assert told and "right on 14 of 20 held-out pairs (0.70, 95 % interval 0.48 to 0.85)" in told
    assert "quality.reward_model_accuracy asks for 0.75: RL was not started" in told


def test_too_few_pairs_are_said_to_be_too_few_however_they_came_out():
    told = refusal(of(3, 0), 0.6)
    assert told and "fewer than 20 pairs cannot tell" in told
    assert refusal(of(3, 0), None) is None
    assert "not measured: no pair was held out" in str(Measured(5, (), None))
    assert Measured(5, (), None).summary() == {"learned_from": 5, "held_out": 0}


@settings(max_examples=30, deadline=None)
@given(count=st.integers(0, 60), share=st.sampled_from([0, 0.1, 0.15, 0.5, 0.99]))
def test_what_is_held_out_is_a_share_of_the_prompts_in_whatever_order(count, share):
    prompts = [asked(f"prompt {number}") for number in range(count)]
    kept = held_out(prompts, share, seed=1)
    assert kept == held_out([*reversed(prompts), *prompts], share, seed=1)
    assert kept <= {prompt_key(prompt, 1) for prompt in prompts}
    assert len(kept) < max(count, 1)
    if count > 1:
        assert len(kept) == (min(max(1, round(share * count)), count - 1) if share else 0)


def test_another_seed_holds_out_others():
    prompts = [asked(f"prompt {number}") for number in range(40)]
    sides = {
        seed: {prompt[0]["content"] for prompt in prompts if prompt_key(prompt, seed) in kept}
        for seed in (1, 2)
        for kept in [held_out(prompts, 0.2, seed)]
    }
    assert len(sides[1]) == len(sides[2]) == 8 and sides[1] != sides[2]


def test_a_measurement_is_read_as_it_was_written(tmp_path):
    assert read_measured(tmp_path) is None
    found = Measured(7, (0.25, -1.5), 0.5)
    write_measured(tmp_path, found)
    assert read_measured(tmp_path) == found


@pytest.fixture(scope="module")
def refused(tiny_model, tmp_path_factory) -> tuple[Path, RewardModelRefused]:
    """A stage of RL whose reward model cannot be right: half of its pairs say the opposite."""
    rows = [prompt_row(number) for number in range(4)]
    for number in range(50):
        turned = ("Yes it is", "no") if number % 2 else ("no", "Yes it is")
        rows.append(pair_row(number, *turned))
    job = job_of(tmp_path_factory.mktemp("refused"), tiny_model, rows, {"reward": "reward_model"})
    fitted = job.training.reward_model.model_copy(update={"held_out": 0.5})
    changed = job.training.model_copy(update={"reward_model": fitted})
    job = job.model_copy(update={"training": changed, "reward_model_accuracy": 0.95})
    said: list[str] = []
    with pytest.raises(RewardModelRefused) as error:
        _run(job, said.append)
    assert not any(line.startswith("rl: step") for line in said)
    return job.output, error.value


@pytest.mark.slow
def test_below_the_floor_the_stage_ends_before_rl_with_a_sentence(refused):
    output, error = refused
    assert "of 25 held-out pairs" in str(error) and "RL was not started" in str(error)
    assert "Traceback" not in str(error)
    assert error.measured == read_measured(output)
    assert error.measured.held_out == error.measured.learned_from == 25
    assert not (output / "model.safetensors").exists()


@pytest.mark.slow
def test_pairs_that_are_held_out_are_counted_and_named(refused):
    rows = json.loads((refused[0] / "rows.json").read_text("utf-8"))["reward_model"]
    assert rows["rows"] == 25 and len(rows["dropped"][HELD_OUT]) == 25
