"""Which adapters may be trained on, and how a checkpoint that is one is opened; no model is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from arena_assets.config.profile import load_profile
from arena_assets.config.rounds import rounds_in_order
from arena_assets.config.training import LoRA
from arena_assets.flywheel.weights import adapter_over
from arena_assets.lake.lake import Lake
from arena_assets.models.model import Local, _room_for
from arena_assets.training.making import Course, refuse_what_is_missing
from arena_assets.training.process import TrainingFailed

BASE = Local("tiny", Path("/base"), "d1", adapters=16)
KEPT = LoRA(rank=16, merge=False)


@pytest.fixture
def adapter(tmp_path):
    said = {"r": 16, "lora_alpha": 32, "target_modules": ["q_proj", "v_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(said), "utf-8")
    return tmp_path


def course(tmp_path, lora, parent, model):
    profile = load_profile()
    training = profile.training.model_copy(update={"lora": lora})
    rounds = rounds_in_order(profile.rounds)
    changed = profile.model_copy(update={"training": training})
    return Course(rounds["i01.2-dpo"], parent, model, Lake(tmp_path), changed)


def test_an_adapter_that_is_kept_is_of_the_base_or_goes_on(tmp_path, adapter):
    over = adapter_over(BASE, "i01.1-sft", adapter, "d2")
    refuse_what_is_missing(course(tmp_path, KEPT, "base", BASE))
    refuse_what_is_missing(course(tmp_path, KEPT, "i01.1-sft", over))
    whole = Local("i01.1-sft", Path("/whole"), "d3")
    with pytest.raises(TrainingFailed, match=r"i01\.1-sft has weights of its own: set merge to tr"):
        refuse_what_is_missing(course(tmp_path, KEPT, "i01.1-sft", whole))
    for lora in (None, LoRA(rank=4)):
        refuse_what_is_missing(course(tmp_path, lora, "i01.1-sft", whole))
        refuse_what_is_missing(course(tmp_path, lora, "i01.1-sft", over))


def test_an_adapter_of_another_shape_is_not_trained_on(tmp_path, adapter):
    over = adapter_over(BASE, "i01.1-sft", adapter, "d2")
    other = LoRA(rank=8, alpha=16, merge=False)
    with pytest.raises(TrainingFailed, match="rank 16, not 8; alpha 32, not 16: set that again"):
        refuse_what_is_missing(course(tmp_path, other, "i01.1-sft", over))


def test_what_an_adapter_says_is_its_own_and_its_weights_are_the_bases(adapter):
    over = adapter_over(BASE, "i01.1-sft", adapter, "d2")
    assert over.identity != BASE.identity and over.identity == Local("x", adapter, "d2").identity
    assert over.base == BASE, "so both are asked through one engine"
    older = replace(BASE, adapters=None)
    assert adapter_over(older, "i01.1-sft", adapter, "d2").base.adapters == 16


@pytest.mark.parametrize(("rank", "room"), [(1, 1), (2, 8), (16, 16), (17, 32), (600, 600)])
def test_the_engine_has_room_for_the_rank(rank, room):
    assert _room_for(rank) == room
