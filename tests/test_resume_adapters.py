"""A training of an adapter that is killed goes on from its last saved step, as any other does."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file
from test_masters import job_of, settings, write_rows
from test_resume import Killed, end_after, logged

from arena_assets.config.training import LoRA
from arena_assets.training.kept_adapters import WEIGHTS
from arena_assets.training.progress import saved_step

KEPT = LoRA(rank=4, alpha=64, merge=False)
SHORT = {"epochs": 2, "batch": 4, "device_batch": 4}


@pytest.mark.parametrize(
    ("over", "stage", "phase", "step"),
    [
        pytest.param("adapter", "dpo", "dpo", 3, marks=pytest.mark.drill),
        pytest.param("base", "dpo", "dpo", 3, marks=pytest.mark.drill),
        pytest.param("adapter", "sft", "sft", 3, marks=pytest.mark.drill),
        pytest.param("base", "sft", "sft", 3, marks=pytest.mark.drill),
        pytest.param("adapter", "rl", "reward_model", 3, marks=pytest.mark.drill),
        pytest.param("base", "rl", "rl", 1, marks=pytest.mark.drill),
        pytest.param("adapter", "rl", "rl", 3, marks=pytest.mark.drill),
    ],
)
def test_an_adapter_goes_on_where_it_was(
    tiny_model, tmp_path, monkeypatch, over, stage, phase, step
):
    """Over the base, or one that the parent has, beside which TRL keeps a copy as the reference."""
    from arena_assets.training.trainers import train

    sections = dict.fromkeys(("sft", "dpo", "reward_model"), SHORT)
    training = settings(save_every=0, rl=SHORT | {"max_steps": 4}, **sections)
    training = training.model_copy(update={"lora": KEPT})
    rows = write_rows(tmp_path / "rows.parquet", 8)
    parent = None
    if over == "adapter":
        first = job_of("sft", tiny_model, rows, tmp_path / "parent", training)
        train(first)
        parent = first.output
    whole, cut = (
        job_of(stage, tiny_model, rows, tmp_path / name, training).model_copy(
            update={"adapter": parent}
        )
        for name in ("whole", "cut")
    )
    train(whole)
    with monkeypatch.context() as patch:
        end_after(patch, phase, step)
        with pytest.raises(Killed):
            train(cut)
    saved = saved_step(cut.output, phase)
    assert (saved and saved.step) == (step - 1 or None)
    train(cut)
    assert logged(cut.output) == logged(whole.output)
    found = load_file(cut.output / WEIGHTS)
    for name, weights in load_file(whole.output / WEIGHTS).items():
        assert (found[name] == weights).all(), name
