"""RL on TRL: GRPO or RLOO against the reward model."""

from __future__ import annotations

from arena_assets.training.adapters import lora_of
from arena_assets.training.fitting import Log, fit_and_save, shared_arguments
from arena_assets.training.job import Job
from arena_assets.training.loading import encoder_of, learned_rows, policy, scorer, tokenizer_of
from arena_assets.training.reward_model import fit_reward_model


def reinforce(job: Job) -> None:
    """Fit a reward model to the preferences, then optimise the policy against it."""
    import trl

    settings = job.training.rl
    encoder, room = encoder_of(job), settings.max_length - settings.max_completion
    prompts = learned_rows(job, "rl", "prompt", lambda row: encoder.prompt(row, room))
    reward_folder = fit_reward_model(job, encoder)
    shared = shared_arguments(
        job,
        settings,
        "rl",
        beta=settings.kl_coefficient,
        num_generations=settings.completions,
        max_completion_length=settings.max_completion,
        temperature=settings.temperature,
        max_steps=settings.max_steps or -1,
    )
    name = settings.algorithm.upper()
    config_class, trainer_class = getattr(trl, f"{name}Config"), getattr(trl, f"{name}Trainer")
    config = config_class(**shared)
    reward_model = scorer(job, reward_folder)
    trainer = trainer_class(
        policy(job),
        reward_funcs=reward_model,
        reward_processing_classes=tokenizer_of(job),
        args=config,
        train_dataset=prompts,
        processing_class=tokenizer_of(job, padding_side="left"),
        peft_config=lora_of(job),
        callbacks=[Log(job.output, "rl")],
    )
    fit_and_save(trainer, job.output, job)
