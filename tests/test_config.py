"""Profiles: the shipped ones load, and every kind of mistake is refused with its place."""

import re

import pytest
import yaml

from arena_assets.config.places import PROJECT
from arena_assets.config.profile import load_profile
from arena_assets.config.settings_files import ProfileError

POCKET = yaml.safe_load((PROJECT / "profiles" / "pocket.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "path", sorted((PROJECT / "profiles").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_shipped_profile_loads(path):
    assert load_profile(path).name == path.stem


def test_the_paper_profile_holds_the_published_settings():
    arena = load_profile("profiles/paper-7b.yaml")
    gaps = {key: settings.minimum_gap for key, settings in arena.rounds.items()}
    assert gaps["i01.1-sft"] == 3.0 and gaps["i01.2-dpo"] == 2.0
    assert gaps["i02.1-sft"] == gaps["i03.1-sft"] == 1.0
    assert list(arena.prompts.slices.names) == [f"D{n}" for n in range(1, 10)]
    assert len(arena.rounds) == 9 and len(arena.opponents) == 3
    training = arena.training
    assert (training.sft.epochs, training.sft.learning_rate, training.sft.batch) == (3, 5e-6, 128)
    assert (training.dpo.epochs, training.dpo.learning_rate, training.dpo.beta) == (2, 5e-7, 0.3)
    assert (training.reward_model.epochs, training.reward_model.learning_rate) == (1, 1e-6)
    assert (training.rl.learning_rate, training.rl.kl_coefficient) == (1e-7, 0.4)
    testset = arena.prompts.testset
    assert (testset.clusters, testset.diverse_per_cluster, testset.hard) == (500, 2, 1000)


@pytest.mark.parametrize(
    ("batch", "device_batch", "nearest"),
    [
        (20, 8, "16 or 24, or device_batch to 5"),
        (12, 8, "8 or 16, or device_batch to 6"),
        (4, 8, "8, or device_batch to 4"),
        (8, 8, None),
        (8, 2, None),
    ],
)
def test_a_batch_that_a_device_s_does_not_divide_is_refused(tmp_path, batch, device_batch, nearest):
    """A step would see other rows than the profile says, by a setting that is in no key."""
    for section in ("sft", "dpo", "reward_model", "rl"):
        profile = yaml.safe_load(yaml.safe_dump(POCKET))
        profile["training"][section] |= {"batch": batch, "device_batch": device_batch}
        (tmp_path / "arena.yaml").write_text(yaml.safe_dump(profile), "utf-8")
        if nearest is None:
            assert load_profile(tmp_path / "arena.yaml").training
            continue
        told = (
            f"training.{section}: batch {batch} is no multiple of device_batch {device_batch}: "
            f"set batch to {nearest}"
        )
        with pytest.raises(ProfileError, match=re.escape(told)):
            load_profile(tmp_path / "arena.yaml")


def broken(path, value):
    """The pocket profile with the key at a dotted path set to `value` (removed for None)."""
    profile = yaml.safe_load(yaml.safe_dump(POCKET))
    *parents, last = path.split("/")
    section = profile
    for part in parents:
        section = section[int(part) if part.isdigit() else part]
    if value is None:
        del section[last]
    else:
        section[int(last) if last.isdigit() else last] = value
    return profile


@pytest.mark.parametrize(
    ("path", "value", "place", "advice"),
    [
        ("judges", [], "judges: unknown key", "judge, shadow_judges"),
        ("target/samplng", {}, "target.samplng: unknown key", "sampling"),
        ("training/sft/lr", 1, "training.sft.lr: unknown key", "learning_rate"),
        ("opponents/1/best", 2, "opponents.1.best: unknown key", "best_of"),
        ("prompts/sources/0/hub", "x/y", "prompts.sources.0", "exactly one of path, hub"),
        ("target/model", "gpt", "target: model 'gpt' is not under models", "smollm2-135m"),
        ("target", None, "target: Field required", ""),
        ("opponents/1/name", "reference", "two contestants are named 'reference'", "rename"),
        ("opponents/1/name", "base", "the name 'base' is kept", "checkpoints"),
        ("opponents/1/name", "i01.1-sft", "the name 'i01.1-sft' is kept", "checkpoints"),
        ("opponents/2/sampling", {}, "best_of 3 with temperature 0", "temperature above 0"),
        ("opponents/0/model", "smollm2-135m", "exactly one of model, recorded", "reference"),
        ("rounds/i01.2-dpo/slice", "D9", "rounds.i01.2-dpo.slice: 'D9' is not under", "D1, D2, D3"),
        ("rounds/i01.2-dpo/slice", "D1", "already fought over in i01.1-sft", "slice of its own"),
        ("rounds/i01.2-dpo", {"minimum_gap": 1}, "rounds.i01.2-dpo.slice: Field required", ""),
        (
            "rounds/round-1",
            {"slice": "D1", "minimum_gap": 1},
            "'round-1' is no round key",
            "i01.1-sft",
        ),
        ("rounds/i01.1-dpo", {"slice": "D1", "minimum_gap": 1}, "i01.1-dpo", "2-dpo"),
        ("rounds", {}, "rounds: ", "at least 1"),
        ("ratings/anchor", "gpt-4", "ratings.anchor: 'gpt-4' is no contestant", "few-shot"),
        ("prompts/slices/names", ["D1", "D1", "D2"], "prompts.slices.names", "distinct"),
        ("models/smollm2-135m", {}, "models.smollm2-135m", "exactly one of path, hub, package"),
        ("judge", {"kind": "oracle"}, "judge", "'verifier', 'llm'"),
        ("training/rl/algorithm", "ppo", "training.rl.algorithm", "'grpo' or 'rloo'"),
        ("name", "Pocket Arena", "name: ", "pattern"),
    ],
)
def test_a_mistake_is_refused_with_its_place_and_what_would_be_valid(
    tmp_path, path, value, place, advice
):
    file = tmp_path / "broken.yaml"
    file.write_text(yaml.safe_dump(broken(path, value)), encoding="utf-8")
    with pytest.raises(ProfileError) as refused:
        load_profile(file)
    assert str(file) in str(refused.value)
    assert place in str(refused.value)
    assert advice in str(refused.value)


def test_every_problem_of_a_profile_is_told_at_once(tmp_path):
    profile = broken("target/samplng", {})
    profile["seeed"] = 1
    file = tmp_path / "broken.yaml"
    file.write_text(yaml.safe_dump(profile), encoding="utf-8")
    with pytest.raises(ProfileError) as refused:
        load_profile(file)
    assert len(str(refused.value).splitlines()) == 2


def test_files_that_are_missing_or_no_yaml_are_named(tmp_path):
    with pytest.raises(ProfileError, match=r"no such profile \(in profiles/: .*pocket.yaml"):
        load_profile(tmp_path / "gone.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: [", encoding="utf-8")
    with pytest.raises(ProfileError, match="not valid YAML"):
        load_profile(bad)
    bad.write_text("- a list\n", encoding="utf-8")
    with pytest.raises(ProfileError, match="profile: "):
        load_profile(bad)
