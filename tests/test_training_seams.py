"""Where parts of training meet: rewards that fail, rollouts of a killed run, odd settings."""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from reinforcing import job_of, pair_row, prompt_row
from test_processes import TRAINING, job

from arena_assets.config.trl import checked
from arena_assets.plots import _series
from arena_assets.training.failures import Refused
from arena_assets.training.launch import CannotLaunch, arguments
from arena_assets.training.rewards import function_of, seen_by_rewards
from arena_assets.training.rows import Unusable

MODULE = """
def fails(completions, **_):
    return [c[-1]["text"] for c in completions]
async def fails_later(completions, **_):
    raise RuntimeError("the scorer is asleep")
def short(completions, **_):
    return [0.5]
def words(completions, **_):
    return ["good" for c in completions]
def endless(completions, **_):
    return [float("inf") for c in completions]
def nothing(completions, **_):
    pass
def right(completions, **_):
    return [1, None]
"""
TWO = {"completions": [[{"role": "assistant", "content": text}] for text in ("a", "b")]}


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "odd_rewards.py").write_text(MODULE, "utf-8")
    (tmp_path / "torn_rewards.py").write_text("import no_such_package\n", "utf-8")
    yield tmp_path
    for name in ("odd_rewards", "torn_rewards"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("odd_rewards:brief", r"odd_rewards has no function 'brief' \(there: "),
        ("torn_rewards:any", r"its module cannot be imported \(.*torn_rewards.py, line 1\): Modul"),
        ("odd_rewards:fails", r"it failed \(.*odd_rewards.py, line 3\): KeyError: 'text'"),
        ("odd_rewards:fails_later", r"it failed \(.*odd_rewards.py, line 5\): RuntimeError: the s"),
        ("odd_rewards:short", "gave 1 rewards for 2 completions: one for each would be right"),
        ("odd_rewards:words", r"gave \['good', 'good'\]: a list of a number or None for each"),
        ("odd_rewards:endless", "gave inf as a reward: a finite number would be right"),
        ("odd_rewards:nothing", "gave None: a list of a number or None"),
    ],
)
def test_a_users_function_that_gives_no_rewards_is_told_in_a_sentence(workspace, name, told):
    with pytest.raises(Refused, match=r"^training\.rl\.reward: " + name + ".*" + told) as refused:
        given = function_of(name)(**TWO)
        asyncio.run(given)
    assert "\n" not in str(refused.value)


def test_what_a_users_function_gives_is_numbers_and_none(workspace):
    assert function_of("odd_rewards:right")(**TWO) == [1.0, None]


def test_a_reward_that_only_watches_makes_no_prompt_worth_drawing_for():
    row = {"row_id": "r", "prompt_id": "p", "messages": [{"role": "user", "content": "Hello"}]}
    with pytest.raises(Unusable, match="no constraint that the verifier could check"):
        seen_by_rewards(row, {"verifier": 1.0, "odd_rewards:right": 0.0})
    assert seen_by_rewards(row, {"verifier": 1.0, "odd_rewards:right": 0.1})["row_id"] == "r"


@pytest.mark.slow
def test_a_function_that_is_not_there_is_told_before_a_reward_model_is_fitted(
    tiny_model, tmp_path, workspace
):
    from arena_assets.training.trainers import train

    rows = [prompt_row(number) for number in range(4)] + [pair_row(number) for number in range(8)]
    given = job_of(tmp_path / "job", tiny_model, rows, {"reward": "verifier"})
    weights = {"reward_model": 0.5, "odd_rewards:brief": 0.5}
    rl = given.training.rl.model_copy(update={"reward": weights})
    given = given.model_copy(update={"training": given.training.model_copy(update={"rl": rl})})
    with pytest.raises(Refused, match=r"odd_rewards has no function 'brief'"):
        train(given)
    assert not (given.output / "reward_model").exists()


# --- rollouts


def watched(folder):
    """Rollouts of a trainer that generates for two completions; `draw` is a step of it."""
    from arena_assets.training.rollouts import Rollouts

    rollouts = Rollouts(folder, {"verifier": 1.0}, 2)
    extra = {
        "row_id": ["r", "r"],
        "prompt_id": ["p", "p"],
        "tokens": [1, 2],
        "truncated": [False, False],
    }
    metrics: dict[str, dict[str, list[float]]] = {"train": defaultdict(list)}
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(is_main_process=True),
        eos_token_ids=[1],
        processing_class=SimpleNamespace(pad_token_id=0),
        _metrics=metrics,
    )
    rollouts.watches(trainer)

    def draw(step: int) -> None:
        state = SimpleNamespace(global_step=step)
        rollouts.watch([[5, 1], [6, 1]], extra["row_id"], extra["prompt_id"], state, lambda *_: 0)
        said = [[{"role": "assistant", "content": f"{step}{text}"}] for text in "ab"]
        trainer._logs = {
            "completion": said,
            "rewards": {"verifier": [0.0, 1.0]},
            "advantages": [-1.0, 1.0],
            "extra": extra,
        }
        metrics["train"] |= {"rewards/rollouts/mean": [float("nan")], "reward": [0.5]}
        rollouts.on_step_end(None, state, None)

    return rollouts, draw


@pytest.mark.slow
def test_a_run_that_is_killed_before_rl_counts_as_fitted_keeps_all_rollouts(tmp_path):
    from arena_assets.training.progress import note_fitted, phase_folder

    folder = phase_folder(tmp_path, "rl") / "rollouts"
    rollouts, draw = watched(folder)
    for step in range(4):
        draw(step)
    rollouts.finish(tmp_path)
    whole = pq.read_table(tmp_path / "rollouts.parquet")
    assert whole["policy_step"].to_pylist() == [0, 0, 1, 1, 2, 2, 3, 3]
    # killed here, and gone on with from step 2
    again, draw = watched(folder)
    again.on_train_begin(None, SimpleNamespace(global_step=2), None)
    for step in (2, 3):
        draw(step)
    again.finish(tmp_path)
    assert pq.read_table(tmp_path / "rollouts.parquet").equals(whole)
    note_fitted(tmp_path, "rl", tmp_path)
    assert not folder.exists()


@pytest.mark.slow
def test_no_tracker_sees_the_mean_of_what_only_watches(tmp_path):
    rollouts, draw = watched(tmp_path / "rollouts")
    draw(0)
    assert list(rollouts.trainer._metrics["train"]) == ["reward"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("passes", "uses", "done", "between"),
    [(2, 1, 2, True), (4, 1, 2, False), (4, 1, 4, True), (3, 1, 2, False), (3, 1, 4, False),
     (3, 1, 6, True), (2, 2, 2, False), (2, 2, 4, True)],
)  # fmt: skip
def test_a_step_is_saved_where_no_answer_waits_to_be_used(passes, uses, done, between):
    from arena_assets.training.fitting import _is_between_answers

    args = SimpleNamespace(steps_per_generation=passes)
    trainer = SimpleNamespace(args=args, num_iterations=uses, _step=done)
    assert _is_between_answers(trainer) is between
    assert _is_between_answers(SimpleNamespace(args=SimpleNamespace())), "of SFT always"


@pytest.mark.slow
def test_fewer_prompts_than_a_step_draws_for_are_refused_rather_than_nothing_learned(
    tiny_model, tmp_path
):
    from arena_assets.training.failures import NothingToLearn
    from arena_assets.training.trainers import train

    given = job_of(tmp_path / "job", tiny_model, [prompt_row(1)], {"reward": "verifier"})
    with pytest.raises(NothingToLearn, match=r"drawn to 2 prompts at a time .* there are 1 that"):
        train(given)
    assert not list(given.output.glob("*.safetensors"))


@pytest.mark.slow
def test_arguments_that_trl_does_not_take_together_are_told_in_a_sentence(tiny_model, tmp_path):
    from arena_assets.training.trainers import train

    rl = {"reward": "verifier", "trl": {"steps_per_generation": 1, "generation_batch_size": 8}}
    given = job_of(tmp_path / "job", tiny_model, [prompt_row(n) for n in range(2)], rl)
    with pytest.raises(Refused, match=r"^training\.rl, of which trl .* at the same time"):
        train(given)


# --- settings


@pytest.mark.parametrize("name", ["train_sampling_strategy", "dataloader_drop_last"])
@pytest.mark.parametrize(
    ("section", "config"), [("sft", "SFTConfig"), ("dpo", "DPOConfig"), ("rl", "GRPOConfig")]
)
def test_an_order_of_rows_that_would_not_be_heeded_is_refused(section, config, name):
    given = "sequential" if name == "train_sampling_strategy" else True
    right, wrong = checked(section, config, {name: given})
    assert not right and "rows of a step follow from the seed" in wrong[name]


def test_an_adapter_in_zero3_is_refused_before_it_trains(tmp_path):
    zero = "profiles/accelerate/zero3.yaml"
    given = job(tmp_path, processes=2, accelerate=zero, lora={"rank": 4})
    with pytest.raises(CannotLaunch, match=r"ZeRO-3 does not go with training\.lora: set train"):
        arguments(given, {})
    assert arguments(job(tmp_path, processes=2, accelerate=zero), {})
    sharded = "profiles/accelerate/fsdp2.yaml"
    assert arguments(job(tmp_path, processes=2, accelerate=sharded, lora={"rank": 4}), {})


def test_groups_of_equal_rewards_which_teach_nothing_have_a_panel():
    steps = [{"phase": "rl", "step": n, "loss": 0.0, "frac_reward_zero_std": n / 2} for n in (1, 2)]
    assert _series(steps)["share of groups whose rewards are equal"] == [(1, 0.5), (2, 1.0)]


def test_vllm_that_is_not_installed_is_told_before_a_round_trains(monkeypatch):
    from arena_assets.config import extras
    from arena_assets.config.training import Training

    rl = TRAINING["rl"] | {"trl": {"use_vllm": True}}
    training = Training.model_validate(TRAINING | {"rl": rl})
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    assert extras.missing_packages(training, ["reward_model", "rl"]) == [
        "training.rl.trl.use_vllm wants the package vllm, which is not installed here: "
        "pip install vllm"
    ]
    assert extras.missing_packages(training, ["sft"]) == []
