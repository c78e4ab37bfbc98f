"""RL on TRL: GRPO or RLOO against one reward or a weighted sum of several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from arena_assets.config.plugins import is_function_name
from arena_assets.training.adapters import lora_of
from arena_assets.training.failures import NothingToLearn
from arena_assets.training.fitting import Log, config_of, fit_and_save, shared_arguments
from arena_assets.training.group_rewards import Asking, arena_reward
from arena_assets.training.job import Job
from arena_assets.training.loading import encoder_of, learned_rows, policy, scorer, tokenizer_of
from arena_assets.training.reward_model import fit_reward_model
from arena_assets.training.rewards import (
    ARENA,
    REWARD_MODEL,
    function_of,
    seen_by_rewards,
    verifier,
)
from arena_assets.training.rollouts import Rollouts


def reinforce(job: Job) -> None:
    """Optimise the policy against its rewards; a reward model is fitted first where one rewards."""
    import trl

    settings = job.training.rl
    encoder, room = encoder_of(job), settings.max_length - settings.max_completion
    prompts = learned_rows(
        job,
        "rl",
        "prompt",
        lambda row: encoder.prompt(row, room) | seen_by_rewards(row, settings.rewards),
    )
    # a mistake in somebody's function is told before a reward model is fitted for hours
    own = {name: function_of(name) for name in settings.rewards if is_function_name(name)}
    functions = {name: own.get(name) or _function(job, name, encoder) for name in settings.rewards}
    shared = shared_arguments(
        job,
        settings,
        "rl",
        beta=settings.kl_coefficient,
        num_generations=settings.completions,
        max_completion_length=settings.max_completion,
        temperature=settings.temperature,
        max_steps=settings.max_steps or -1,
        reward_weights=[*settings.rewards.values(), 0.0],
    )
    name = settings.algorithm.upper()
    trainer_class = getattr(trl, f"{name}Trainer")
    config = config_of(getattr(trl, f"{name}Config"), "rl", shared)
    _refuse_too_few(len(prompts), config.generation_batch_size // settings.completions)
    folder = Path(config.output_dir) / "rollouts"
    rollouts = Rollouts(folder, settings.rewards, settings.completions)
    trainer = trainer_class(
        policy(job),
        reward_funcs=[*functions.values(), rollouts.watch],
        reward_processing_classes=[*(tokenizer_of(job) for _ in functions), None],
        args=config,
        train_dataset=prompts,
        processing_class=tokenizer_of(job, padding_side="left"),
        peft_config=lora_of(job),
        callbacks=[rollouts, Log(job.output, "rl")],
    )
    rollouts.watches(trainer)
    fit_and_save(trainer, job.output, job, "rl", finish=lambda: rollouts.finish(job.output))


def _refuse_too_few(prompts: int, wanted: int) -> None:
    """TRL leaves out prompts that do not fill a generation; without any it would learn nothing."""
    if prompts < wanted:
        raise NothingToLearn(
            f"training.rl: answers are drawn to {wanted} prompts at a time (batch / completions), "
            f"and there are {prompts} that RL can learn from: set batch to "
            f"{prompts} x completions or less, or fight over more prompts"
        )


def _function(job: Job, name: str, encoder: Any) -> Any:
    """What TRL asks for a reward: a model that scores, or a function."""
    if name == REWARD_MODEL:
        return scorer(job, fit_reward_model(job, encoder))
    if name == ARENA:
        assert job.judge, "who starts a training with this reward answers it"
        return arena_reward(Asking(job.judge), job.training.rl.completions)
    return verifier
