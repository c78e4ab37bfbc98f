"""What makes a checkpoint another one is what puts it out of date: two places say it, as one.

A training is found again by its fingerprint (training/making), a checkpoint is out of date by what
it was made from (flywheel/made_from). Every setting of training is changed here, one at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import TINY_PROFILE

from arena_assets.config.profile import load_profile
from arena_assets.config.settings import Settings
from arena_assets.config.settings_files import ProfileError
from arena_assets.config.training import (
    Imitation,
    LoRA,
    PreferenceOptimisation,
    Reinforcement,
    RewardFitting,
    Training,
)
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.made_from import settings_of
from arena_assets.flywheel.moment import Moment
from arena_assets.flywheel.rewarding import judge_of_groups
from arena_assets.flywheel.weights import base_of, models
from arena_assets.lake.identity import NOT_IDENTITY, canonical
from arena_assets.training.making import Course

SFT, DPO, RL = ROUNDS = ("i01.1-sft", "i01.2-dpo", "i01.3-rl")
_SECTIONS: dict[str, tuple[type[Settings], set[str]]] = {
    "sft": (Imitation, {SFT}),
    "dpo": (PreferenceOptimisation, {DPO}),
    "reward_model": (RewardFitting, {RL}),
    "rl": (Reinforcement, {RL}),
}
# a value of each setting that the tests' profile does not have
_OTHERS: dict[str, Any] = {
    **{"epochs": 3, "learning_rate": 0.5, "batch": 16, "device_batch": 4, "max_length": 99},
    **{"warmup": 0.5, "trl": {"weight_decay": 0.1}, "packing": True, "beta": 0.7},
    **{"held_out": 0.3, "reward": "verifier", "algorithm": "rloo", "kl_coefficient": 0.5},
    **{"completions": 2, "max_completion": 9, "temperature": 0.5, "max_steps": 7},
    **{"seed": 77, "processes": 2, "nodes": 2, "launcher": ["srun"], "dtype": "bfloat16"},
    **{"accelerate": "profiles/accelerate/fsdp2.yaml", "keep_masters": False, "save_every": 1},
    **{"gradient_checkpointing": True, "attention": "sdpa", "report_to": ["tensorboard"]},
    **{"rank": 8, "alpha": 8, "dropout": 0.1, "target_modules": ["q_proj"], "merge": False},
    **{"quantise": "4bit", "lora": {"rank": 4}},
}
_IN_PAIRS = {"processes": {"device_batch": 4}, "nodes": {"device_batch": 4}}


def changes() -> Iterator[Any]:
    """Each setting with the rounds whose checkpoints another value of it makes others."""
    for name, field in Training.model_fields.items():
        if name in _SECTIONS:
            settings, rounds = _SECTIONS[name]
            for inner, of in settings.model_fields.items():
                touched = set() if NOT_IDENTITY in of.metadata else rounds
                yield pytest.param({name: {inner: _OTHERS[inner]}}, touched, id=f"{name}.{inner}")
        else:
            touched = set() if NOT_IDENTITY in field.metadata else {*ROUNDS}
            less = dict.fromkeys(_SECTIONS, _IN_PAIRS[name]) if name in _IN_PAIRS else {}
            yield pytest.param({name: _OTHERS[name]} | less, touched, id=name)
    for inner in LoRA.model_fields:
        yield pytest.param({"lora": {inner: _OTHERS[inner]}}, {*ROUNDS}, id=f"lora.{inner}")
    neutral = {"trl": {"logging_steps": 5, "dataloader_num_workers": 2}}
    yield pytest.param(dict.fromkeys(_SECTIONS, neutral), set(), id="trl, neutral")
    yield pytest.param({"rl": {"reward": "arena"}}, {RL}, id="rl.reward: arena")


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """For a change of training: what the two places say of each round."""
    folder = tmp_path_factory.mktemp("identity-of-training")

    def said(change: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
        return _said(folder, change)

    return said


def _said(folder: Path, change: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    profile = yaml.safe_load(yaml.safe_dump(TINY_PROFILE))
    for name, value in change.items():
        given = profile["training"].get(name)
        both = isinstance(given, dict) and isinstance(value, dict)
        profile["training"][name] = given | value if both else value
    (folder / "arena.yaml").write_text(yaml.safe_dump(profile), "utf-8")
    arena = Arena(str(folder / "arena.yaml"), str(folder / "lake"))
    if not arena.lake.exists("models"):
        path = profile["models"]["tiny"]["path"]
        arena.lake.write("models", [{"name": "tiny", "origin": path, "path": path, "digest": "d1"}])
    found = {}
    for key in ROUNDS:
        round_, base = arena.round(key), base_of(arena, models(arena))
        judge = judge_of_groups(arena, round_, print, gpus=False)
        course = Course(round_, "base", base, arena.lake, arena.profile.of_round(key), judge)
        trained = [course.config, course.profile.training_seed]
        found[key] = (trained, canonical(settings_of(Moment(arena), "checkpoint", key)))
    return found


@pytest.mark.parametrize(("change", "touched"), changes())
def test_a_setting_makes_another_checkpoint_where_it_puts_the_old_one_out_of_date(
    said, change, touched
):
    only_lora = {"lora": {}} if "lora" in change else {}
    before, after = said(only_lora), said(change)
    trained, outdated = (
        {key for key in ROUNDS if before[key][place] != after[key][place]} for place in (0, 1)
    )
    if change == {"lora": {"rank": 4}}:  # as such, and not only its rank
        assert said({})[SFT][0] != after[SFT][0]
    assert (trained, outdated) == (touched, touched)


def test_what_a_round_alone_has_is_seen_by_both(said, tmp_path):
    plain = said({})
    given = yaml.safe_load(yaml.safe_dump(TINY_PROFILE))
    given["rounds"][DPO]["training"] = {
        "dtype": "bfloat16",
        "keep_masters": False,
        "accelerate": "profiles/accelerate/fsdp2.yaml",
        "seed": 8,
    }
    (tmp_path / "arena.yaml").write_text(yaml.safe_dump(given), "utf-8")
    arena = Arena(str(tmp_path / "arena.yaml"), str(tmp_path / "lake"))
    path = given["models"]["tiny"]["path"]
    arena.lake.write("models", [{"name": "tiny", "origin": path, "path": path, "digest": "d1"}])
    for key in ROUNDS:
        recipe = arena.profile.of_round(key)
        course = Course(arena.round(key), "base", base_of(arena, models(arena)), arena.lake, recipe)
        now = canonical(settings_of(Moment(arena), "checkpoint", key))
        others = [course.config, recipe.training_seed] != plain[key][0], now != plain[key][1]
        assert others == ((True, True) if key == DPO else (False, False))


@pytest.mark.parametrize("who", ["profile", "round"])
def test_a_file_beside_the_profile_is_found_by_a_round_with_a_recipe_of_its_own(
    tmp_path, monkeypatch, who
):
    profile = yaml.safe_load(yaml.safe_dump(TINY_PROFILE))
    folder = tmp_path / "arena"
    folder.mkdir()
    (folder / "mine.yaml").write_text("fsdp_config: {fsdp_version: 2}\n", "utf-8")
    own = profile["rounds"][DPO]["training"] = {"dpo": {"beta": 0.9}}
    (profile["training"] if who == "profile" else own)["accelerate"] = "mine.yaml"
    (folder / "arena.yaml").write_text(yaml.safe_dump(profile), "utf-8")
    arena = Arena(str(folder / "arena.yaml"), str(tmp_path / "lake"))
    monkeypatch.chdir(tmp_path)
    found = settings_of(Moment(arena), "checkpoint", DPO)
    assert found["training.accelerate"] == {"fsdp_config": {"fsdp_version": "2"}}
    others = settings_of(Moment(arena), "checkpoint", SFT)
    assert ("training.accelerate" in others) is (who == "profile")


def test_a_file_that_is_not_there_is_told_of_a_round_too(tmp_path):
    profile = yaml.safe_load(yaml.safe_dump(TINY_PROFILE))
    profile["rounds"][DPO]["training"] = {"accelerate": "nowhere.yaml"}
    (tmp_path / "arena.yaml").write_text(yaml.safe_dump(profile), "utf-8")
    with pytest.raises(ProfileError, match=r"nowhere\.yaml: no such file"):
        load_profile(tmp_path / "arena.yaml")
