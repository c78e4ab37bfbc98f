"""Limits of tokens that cannot go together are refused with the keys that say so."""

import pytest
import yaml
from conftest import PROJECT

from arena_assets.config.lengths import length_problems
from arena_assets.config.profile import Profile, load_profile
from arena_assets.config.settings_files import ProfileError

POCKET = yaml.safe_load((PROJECT / "profiles" / "pocket.yaml").read_text("utf-8"))
SERVED = {"endpoint": {"urls": ["http://127.0.0.1:1/v1"], "model": "big"}}
JUDGE = {"kind": "llm", "name": "j", "model": "smollm2-135m", "sampling": {"max_tokens": 200}}


def arena(window: int | None = 2048, **changes) -> Profile:
    """The pocket arena with another window and other sections; answers have 64 tokens."""
    engine = {} if window is None else {"max_model_len": window}
    settings = {"shadow_judges": [], "generation": {"engine": engine}} | changes
    return Profile.model_validate(POCKET | settings)


def refused(**changes) -> str:
    with pytest.raises(ValueError) as error:
        arena(**changes)
    return str(error.value)


def test_a_judge_needs_room_for_two_answers_its_verdict_and_its_template():
    needed = 2 * 64 + 200 + 320
    assert length_problems(arena(needed, judge=JUDGE)) == []
    told = refused(window=needed - 1, judge=JUDGE)
    assert (
        "judge j: an answer of 64 (target.sampling.max_tokens), an answer of 64 "
        "(target.sampling.max_tokens), its own output of 200 (sampling.max_tokens) and about 320 "
        f"tokens of template and prompt need {needed}, more than generation.engine.max_model_len "
        f"({needed - 1})"
    ) in told


def test_the_two_longest_answers_count_whoever_gives_them():
    opponents = [
        {"name": "long", "model": "smollm2-135m", "sampling": {"max_tokens": 700}},
        {"name": "served", "model": "big", "sampling": {"max_tokens": 900}},
        {"name": "few-shot", "model": "smollm2-135m", "sampling": {"max_tokens": 100}},
    ]
    models = {**POCKET["models"], "big": SERVED}
    rows = {
        stage: settings | {"max_length": 4096} if stage != "dtype" else settings
        for stage, settings in POCKET["training"].items()
    }
    changes = {"opponents": opponents, "models": models, "training": rows, "judge": JUDGE}
    needed = 900 + 700 + 200 + 320
    assert length_problems(arena(needed, **changes)) == []
    told = refused(window=needed - 1, **changes)
    assert "an answer of 900 (opponents.served.sampling.max_tokens), an answer of 700 (" in told


def test_juries_shadows_and_raters_are_looked_at_and_servers_are_not():
    jury = {"kind": "jury", "members": [{"judge": JUDGE}, {"judge": {"kind": "verifier"}}]}
    assert "judge j: " in refused(window=500, judge=jury)
    assert "judge j: " in refused(window=500, shadow_judges=[{"judge": JUDGE}])
    rater = POCKET["prompts"] | {"testset": {"rater": {"model": "smollm2-135m"}}}
    assert "prompts.testset.rater: its own output of 256" in refused(window=367, prompts=rater)
    assert length_problems(arena(368, prompts=rater)) == []
    models = {**POCKET["models"], "big": SERVED}
    served = {"models": models, "judge": JUDGE | {"model": "big"}}
    assert length_problems(arena(500, **served)) == []
    assert length_problems(arena(None, judge=JUDGE)) == [], "the model's own window is unknown"


def test_an_answer_needs_room_beside_its_prompt():
    target = {"model": "smollm2-135m", "sampling": {"max_tokens": 300}}
    told = refused(window=300, target=target)
    assert "target.sampling.max_tokens (300) leaves no room for a prompt in generation" in told
    assert length_problems(arena(301, target=target)) == []


@pytest.mark.parametrize("stage", ["sft", "dpo", "reward_model"])
def test_a_training_row_holds_the_longest_answer(stage):
    settings = POCKET["training"][stage]
    training = POCKET["training"] | {stage: settings | {"max_length": 64}}
    told = refused(training=training)
    assert f"training.{stage}.max_length (64) cannot hold a prompt with an answer of 64" in told
    training = POCKET["training"] | {stage: settings | {"max_length": 65}}
    assert length_problems(arena(training=training)) == []


def test_rows_of_sft_hold_the_answers_of_opponents_only():
    """It learns what beat the target; pairs hold the target's answer as well."""
    target = {"model": "smollm2-135m", "sampling": {"max_tokens": 300}}
    short = {"sft": POCKET["training"]["sft"] | {"max_length": 200}}
    assert length_problems(arena(target=target, training=POCKET["training"] | short)) == []
    short = {"dpo": POCKET["training"]["dpo"] | {"max_length": 200}}
    told = refused(target=target, training=POCKET["training"] | short)
    assert "training.dpo.max_length (200) cannot hold a prompt with an answer of 300" in told
    assert "training.sft" not in told


def test_completions_of_rl_fit_into_its_rows_and_the_reward_models():
    training = POCKET["training"] | {"rl": POCKET["training"]["rl"] | {"max_completion": 512}}
    told = refused(training=training)
    for stage in ("reward_model", "rl"):
        assert f"training.{stage}.max_length (512) cannot hold a prompt with an answer of 512" in (
            told
        )


def test_the_papers_profile_fits_and_did_not_with_4096(tmp_path):
    text = (PROJECT / "profiles" / "paper-7b.yaml").read_text("utf-8")
    assert load_profile(PROJECT / "profiles" / "paper-7b.yaml").name == "paper-7b"
    path = tmp_path / "paper.yaml"
    path.write_text(text.replace("max_model_len: 8192", "max_model_len: 4096"), "utf-8")
    with pytest.raises(ProfileError, match=r"paper\.yaml: judge llama-3-70b: .* need 5440"):
        load_profile(path)
