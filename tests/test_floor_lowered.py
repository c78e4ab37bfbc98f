"""A reward model that was refused need not be fitted again where the floor is lowered."""

from __future__ import annotations

import pytest
from reinforcing import job_of, pair_row, prompt_row

from arena_assets.training.making import RewardModelRefused, _run
from arena_assets.training.measuring import read_measured


@pytest.mark.drill
def test_rl_goes_on_with_the_refused_model_once_the_floor_is_lower(tiny_model, tmp_path):
    rows = [prompt_row(number) for number in range(4)]
    turned = ("Yes it is", "no")
    rows += [pair_row(n, *(turned if n % 2 else turned[::-1])) for n in range(48)]
    job = job_of(tmp_path / "job", tiny_model, rows, {"reward": "reward_model"})
    fitted = job.training.reward_model.model_copy(update={"held_out": 0.5})
    changed = job.training.model_copy(update={"reward_model": fitted})
    job = job.model_copy(update={"training": changed, "reward_model_accuracy": 0.99})
    with pytest.raises(RewardModelRefused):
        _run(job, print)
    measured, weights = (
        read_measured(job.output),
        (job.output / "reward_model/model.safetensors").read_bytes(),
    )
    said: list[str] = []
    _run(job.model_copy(update={"reward_model_accuracy": 0.01}), said.append)
    assert not any(line.startswith("reward_model: step") for line in said)
    assert any(line.startswith("rl: step 2/2") for line in said)
    assert read_measured(job.output) == measured
    assert (job.output / "reward_model/model.safetensors").read_bytes() == weights
    assert (job.output / "model.safetensors").exists()
