"""`trl:` hands any argument of TRL to its trainer, and tells a mistake when the profile is read."""

from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys

import pytest
import yaml
from conftest import PROJECT, TINY_PROFILE

from arena_assets.config.profile import load_profile
from arena_assets.config.settings_files import ProfileError
from arena_assets.config.trl import _DECIDED, arguments_of, checked
from arena_assets.lake.identity import canonical

CONFIGS = ("SFTConfig", "DPOConfig", "RewardConfig", "GRPOConfig", "RLOOConfig")


def training(**sections):
    """The training of a profile whose sections have further arguments of TRL."""
    settings = copy.deepcopy(TINY_PROFILE["training"])
    for section, arguments in sections.items():
        settings[section]["trl"] = arguments
    return settings


@pytest.fixture
def read(tmp_path):
    def read(**sections):
        path = tmp_path / "arena.yaml"
        path.write_text(yaml.safe_dump(TINY_PROFILE | {"training": training(**sections)}), "utf-8")
        return load_profile(path).training

    return read


@pytest.mark.parametrize("config", CONFIGS)
def test_the_arguments_that_are_known_are_those_of_the_installed_trl(config):
    import trl

    theirs = {field.name for field in dataclasses.fields(getattr(trl, config)) if field.init}
    assert set(arguments_of(config)) == theirs


def test_what_the_arena_decides_are_arguments_that_trl_has():
    every = {name for config in CONFIGS for name in arguments_of(config)}
    assert {name.split(".")[-1] for name in _DECIDED} <= every


def test_reading_a_profile_with_arguments_imports_neither_torch_nor_trl(tmp_path):
    path = tmp_path / "arena.yaml"
    settings = training(sft={"neftune_noise_alpha": 5})
    path.write_text(yaml.safe_dump(TINY_PROFILE | {"training": settings}), "utf-8")
    code = (
        "import sys; from arena_assets.config.profile import load_profile; "
        f"load_profile({str(path)!r}); print({{'torch', 'trl', 'transformers'}} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("section", "argument", "value", "told"),
    [
        ("sft", "neftune_noise_alfa", 5, "no such argument of SFTConfig; did you mean neftune_noi"),
        ("rl", "epsilon_hihg", 0.3, "no such argument of GRPOConfig; did you mean epsilon_high"),
        ("sft", "center_rewards_coefficient", 0.01, "no such argument of SFTConfig"),
        ("reward_model", "output_dir", "/tmp", "arena keeps what a training needs"),
        ("dpo", "beta", 0.1, "own to say: set beta beside trl"),
        ("rl", "beta", 0.1, "own to say: set kl_coefficient"),
        ("rl", "num_generations", 8, "own to say: set completions"),
        ("sft", "per_device_train_batch_size", 8, "own to say: set device_batch"),
        ("sft", "learning_rate", 1e-5, "own to say: set learning_rate beside trl"),
        ("sft", "report_to", "wandb", "own to say: set training.report_to"),
        ("sft", "hub_token", "secret", "`arena models push`"),
        ("sft", "weight_decay", "much", "valid number"),
        ("sft", "lr_scheduler_type", "cosin", "'cosine'"),
        ("sft", "optim", "adam", "'adamw_torch'"),
        ("sft", "loss_type", "mse", "'nll'"),
        ("sft", "adam_beta1", [0.9], "valid number"),
        ("dpo", "loss_type", {"sigmoid": 1}, "valid list"),
    ],
)
def test_a_mistake_is_told_with_its_place_when_the_profile_is_read(
    read, section, argument, value, told
):
    with pytest.raises(ProfileError) as error:
        read(**{section: {argument: value}})
    assert f"training.{section}.trl.{argument}: " in str(error.value)
    assert told in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert "secret" not in str(error.value)


def test_every_mistake_is_told(read):
    with pytest.raises(ProfileError) as error:
        read(sft={"a": 1, "b": 2}, dpo={"beta": 3})
    assert len(str(error.value).splitlines()) == 3


def test_values_get_the_kind_that_trl_wants(read):
    found = read(sft={"adam_epsilon": "1e-6", "max_steps": 3.0}, dpo={"loss_type": ["ipo"]})
    assert found.sft.trl == {"adam_epsilon": 1e-6, "max_steps": 3}
    assert found.dpo.trl == {"loss_type": ["ipo"]}


def test_arguments_are_part_of_what_a_checkpoint_was_made_from_but_for_neutral_ones(read):
    plain = canonical(read())
    assert canonical(read(sft={"logging_steps": 5, "dataloader_num_workers": 2})) == plain
    assert canonical(read(sft={"weight_decay": 0.1})) != plain


@pytest.mark.parametrize("config", CONFIGS)
def test_what_a_profile_may_say_is_taken_by_trl(config, tmp_path):
    """Also over the project's own default."""
    import trl

    from arena_assets.training.fitting import shared_arguments
    from arena_assets.training.job import Job

    section = {"SFTConfig": "sft", "DPOConfig": "dpo", "RewardConfig": "reward_model"}.get(
        config, "rl"
    )
    given = {"weight_decay": 0.25, "lr_scheduler_type": "linear", "optim": "sgd"}
    right, wrong = checked(section, config, given)
    assert not wrong
    settings = load_profile().training
    part = getattr(settings, section).model_copy(update={"trl": right})
    job = Job(
        stage="sft",
        model=tmp_path,
        training_set=tmp_path,
        output=tmp_path,
        training=settings,
        seed=1,
    )
    made = getattr(trl, config)(**shared_arguments(job, part, section))
    assert (made.weight_decay, made.lr_scheduler_type, made.optim) == (0.25, "linear", "sgd")
