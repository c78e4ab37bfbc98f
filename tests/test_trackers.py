"""Trackers are asked for by name, run under the arena's, and told to a person where they lack."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import yaml
from conftest import TINY_PROFILE

from arena_assets.config import extras
from arena_assets.config.extras import missing_packages
from arena_assets.config.profile import load_profile
from arena_assets.config.settings_files import ProfileError
from arena_assets.config.training import LoRA
from arena_assets.lake.identity import canonical
from arena_assets.training.job import Job
from arena_assets.training.process import _for_trackers


def read(folder: Path, **settings):
    path = folder / "arena.yaml"
    training = TINY_PROFILE["training"] | settings
    path.write_text(yaml.safe_dump(TINY_PROFILE | {"training": training}), "utf-8")
    return load_profile(path).training


@pytest.mark.parametrize(
    ("written", "meant"),
    [("none", ()), (["none"], ()), ([], ()), ("trackio", ("trackio",)),
     (["tensorboard", "wandb"], ("tensorboard", "wandb"))],
)  # fmt: skip
def test_one_tracker_several_or_none_may_be_written(tmp_path, written, meant):
    found = read(tmp_path, report_to=written)
    assert found.report_to == meant
    assert canonical(found) == canonical(read(tmp_path)), "no part of what a checkpoint is"


def test_a_tracker_that_nobody_knows_is_refused(tmp_path):
    with pytest.raises(ProfileError, match="'tensorboard', 'trackio', 'wandb' or 'mlflow'"):
        read(tmp_path, report_to=["wandb", "weights"])


def test_a_package_that_lacks_is_told_with_its_name_for_pip(tmp_path, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    found = read(tmp_path, report_to=["wandb"], attention="flash_attention_2")
    found = found.model_copy(update={"lora": LoRA(quantise="4bit")})
    liger = found.dpo.model_copy(update={"trl": {"use_liger_kernel": True}})
    found = found.model_copy(update={"dpo": liger})
    lacks = "which is not installed here: pip install"
    assert missing_packages(found, ["sft"]) == [
        f"training.report_to: wandb wants the package wandb, {lacks} wandb",
        f"training.attention: flash_attention_2 wants the package flash-attn, {lacks} flash-attn",
        f"training.lora.quantise: 4bit wants the package bitsandbytes, {lacks} bitsandbytes",
    ]
    assert missing_packages(found, ["sft", "dpo"])[-1] == (
        f"training.dpo.trl.use_liger_kernel wants the package liger-kernel, {lacks} liger-kernel"
    )
    monkeypatch.setattr(extras, "find_spec", lambda name: object())
    assert missing_packages(found, ["sft", "dpo"]) == []


@pytest.fixture
def job(tmp_path):
    return Job(
        stage="rl",
        model=tmp_path,
        training_set=tmp_path,
        output=tmp_path / "out",
        training=read(tmp_path),
        seed=0,
        run="pocket/i01.3-rl",
        tracking=tmp_path / "lake/tracking/i01.3-rl",
    )


def test_runs_are_named_after_the_arena_and_its_round(job, monkeypatch):
    from arena_assets.training.fitting import shared_arguments

    told = job.model_copy(update={"training": read(job.model, report_to="wandb")})
    for phase, name in (
        ("rl", "pocket/i01.3-rl"),
        ("reward_model", "pocket/i01.3-rl/reward_model"),
    ):
        found = shared_arguments(told, told.training.rl, phase)
        assert (found["run_name"], found["project"]) == (name, "pocket")
        assert found["report_to"] == ["wandb"]


def test_what_trackers_keep_lies_beside_the_lake_and_no_key_goes_into_a_job(job):
    places = _for_trackers(job)
    assert places["TENSORBOARD_LOGGING_DIR"] == str(job.tracking)
    assert places["WANDB_PROJECT"] == places["MLFLOW_EXPERIMENT_NAME"] == "pocket"
    assert {Path(places[name]) for name in ("WANDB_DIR",)} == {job.tracking.parent}
    assert places["MLFLOW_TRACKING_URI"].startswith("file:///")
    assert not [name for name in places if "KEY" in name or "TOKEN" in name]
    assert "key" not in json.dumps(job.model_dump(mode="json")).lower()


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed"
)
def test_tensorboard_gets_every_step_of_a_run(tiny_model, job, tmp_path, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from arena_assets.training.trainers import train

    row = {"row_id": "r", "kind": "sft", "messages": [{"role": "user", "content": "Name a river"}],
           "chosen_turns": ["The Rhone"], "rejected_turns": None}  # fmt: skip
    pq.write_table(pa.Table.from_pylist([row] * 16), tmp_path / "rows.parquet")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "seen"))
    told = {"stage": "sft", "model": tiny_model, "training_set": tmp_path / "rows.parquet"}
    train(job.model_copy(update=told | {"training": read(tmp_path, report_to="tensorboard")}))
    seen = EventAccumulator(str(tmp_path / "seen")).Reload()
    assert [event.step for event in seen.Scalars("train/loss")] == [1, 2]
