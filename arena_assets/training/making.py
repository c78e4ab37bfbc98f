"""Makes the checkpoint of a round: finds one that was made from the same things, or trains it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from arena_assets.config.contents import jinja_tokens
from arena_assets.config.extras import missing_packages
from arena_assets.config.places import resolve
from arena_assets.config.profile import Profile
from arena_assets.config.rounds import BASE, Round
from arena_assets.config.training import SECTIONS
from arena_assets.lake.identity import canonical, identity, setting
from arena_assets.lake.lake import Lake
from arena_assets.models.machine import number_type
from arena_assets.models.model import Local
from arena_assets.models.opening import make_room
from arena_assets.models.prompting import SystemPrompt, read_system_prompt
from arena_assets.models.weights import origin_of
from arena_assets.training.checkpoints import (
    VERIFIED,
    CheckpointStore,
    CorruptCheckpoint,
    Manifest,
    learned_digest,
    now,
    training_fingerprint,
    verified_digest,
    versions,
)
from arena_assets.training.failures import explain
from arena_assets.training.group_rewards import GroupRater, answering
from arena_assets.training.job import Job
from arena_assets.training.kept_adapters import differences, is_adapter, settle
from arena_assets.training.measuring import Measured, read_measured, refusal
from arena_assets.training.process import TrainingFailed, run_job
from arena_assets.training.rewards import REWARD_MODEL, rewarding_code
from arena_assets.training.summaries import metrics_of


class RewardModelRefused(TrainingFailed):
    """A reward model below the profile's floor; the message says how it did."""

    def __init__(self, why: str, measured: Measured):
        super().__init__(why)
        self.measured = measured


@dataclass(frozen=True)
class Course:
    """All that determines a checkpoint: the model it starts from, its rows, the settings.

    `parent` is the name of the contestant whose weights are trained. Files are read once, when they
    are first asked for. `judge` is there where the arena's judge rewards.
    """

    round: Round
    parent: str
    model: Local
    lake: Lake
    profile: Profile
    judge: GroupRater | None = None

    @cached_property
    def learned(self) -> str:
        """The digest of what is learned of the training set as it is when this is first asked."""
        return learned_digest(self.training_set)

    @property
    def training_set(self) -> Path:
        return self.lake.present("training_set", self.round.key)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The settings that determine the checkpoint of a stage, without what changes no value."""
        training, template = self.profile.training, self.chat_template
        stage = self.round.stage
        return canonical(
            {
                "dtype": training.dtype,
                "sharding": setting(training, "accelerate"),
                **({} if training.keep_masters else {"keep_masters": False}),
                **training.of_stage(stage),
                **rewarding_code(training, stage),
                **({"judge": self.judge.key} if self.judge else {}),
                "system_prompt": self.system_prompt,
                "chat_template": jinja_tokens(template, trimmed=True) if template else None,
            }
        )

    @cached_property
    def system_prompt(self) -> SystemPrompt | None:
        return read_system_prompt(self.profile.target.system_prompt)

    @cached_property
    def chat_template(self) -> str | None:
        template = self.model.chat_template
        return resolve(template).read_text("utf-8-sig") if template else None

    @property
    def fingerprint(self) -> str:
        return training_fingerprint(
            self.round.stage,
            self.model.digest,
            self.learned,
            self.config,
            self.profile.training_seed,
        )


def found(
    store: CheckpointStore, key: str, fingerprint: str, log: Callable[[str], None]
) -> Manifest | None:
    """The checkpoint that is there already, if it was made from the same things and is whole."""
    try:
        manifest = store.manifest(key)
        if manifest is None or manifest.fingerprint != fingerprint:
            return None
        manifest = store.verify(key)
    except CorruptCheckpoint as corrupt:
        log(f"{corrupt}; it is trained again now")
        return None
    log(f"checkpoint {key} was made from the same things: not trained again")
    return manifest


def refuse_what_is_missing(course: Course) -> None:
    """TrainingFailed where a package lacks, or an adapter can't be what the profile wants."""
    training, parent = course.profile.training, course.model
    if lacking := missing_packages(training, SECTIONS[course.round.stage]):
        raise TrainingFailed("; ".join(lacking))
    if not training.lora or training.lora.merge:
        return
    if course.parent != BASE and not parent.base:
        raise TrainingFailed(
            "training.lora.merge: an adapter that is kept belongs to the base model, and "
            f"{course.parent} has weights of its own: set merge to true, or have the round train "
            "from the base"
        )
    if parent.base and (other := differences(parent.path, training.lora)):
        raise TrainingFailed(
            f"training.lora: the adapter of {course.parent}, which this round trains on, has "
            f"{'; '.join(other)}: set that again, or merge to true"
        )


def train(
    store: CheckpointStore, course: Course, run_id: str, log: Callable[[str], None]
) -> Manifest:
    """Train a round and commit its checkpoint; the next run goes on with what is not finished.

    Raises TrainingFailed, also where the training set was replaced meanwhile.
    """
    refuse_what_is_missing(course)
    make_room()
    key, stage = course.round.key, course.round.stage
    start = course.model.base or course.model
    chosen = number_type(course.profile.training.dtype, "training")
    log(f"{stage}: training in {chosen.name}, {chosen.reason}")
    begun = identity(
        "training", fingerprint=course.fingerprint, dtype=chosen.name, versions=versions()
    )
    scratch = store.scratch(key, begun)
    made_from = {
        "parent": course.parent,
        "parent_digest": course.model.digest,
        "training_set_digest": course.learned,
        "fingerprint": course.fingerprint,
        "config": course.config,
    }
    job = Job(
        stage=stage,
        model=start.path,
        adapter=course.model.path if course.model.base else None,
        training_set=course.training_set,
        output=scratch,
        training=course.profile.training.model_copy(
            update={
                "dtype": chosen.name,
                "accelerate": str(resolve(course.profile.training.accelerate)),
            }
        ),
        trust_remote_code=course.model.trust_remote_code,
        chat_template=course.chat_template,
        system_prompt=course.system_prompt,
        seed=course.profile.training_seed,
        reward_model_accuracy=reward_model_floor(course.profile),
        run=f"{course.profile.name}/{key}",
        tracking=course.lake.root / "tracking" / key,
    )
    try:
        started = time.monotonic()
        with answering(course.judge) as address:
            _run(job.model_copy(update={"judge": address}), log)
        took = {"wall_seconds": round(time.monotonic() - started, 1)}
        if adapted := is_adapter(scratch):
            origin = origin_of(course.profile.models[start.name])
            settle(scratch, start.name, origin, start.digest)
        if learned_digest(course.training_set) != course.learned:
            raise TrainingFailed("training_set was made anew while it was learned; train again")
        manifest = Manifest(
            round=key,
            stage=stage,
            dtype=chosen.name,
            digest=verified_digest(scratch, scratch / VERIFIED),
            versions=versions(),
            metrics=metrics_of(scratch) | took,
            base_digest=start.digest if adapted else None,
            run_id=run_id,
            created_at=now(),
            **made_from,
        )
        store.commit(scratch, manifest)
    except BaseException as error:
        if scratch.exists():  # else it stands under its final name
            store.release(scratch)
        if isinstance(error, OSError) and (why := explain(error, job)):
            raise TrainingFailed(why) from error
        raise
    return manifest


def reward_model_floor(profile: Profile) -> float | None:
    """The accuracy below which a reward model may not reward; None where it only watches."""
    rewards = bool(profile.training.rl.rewards.get(REWARD_MODEL))
    return profile.quality.reward_model_accuracy if rewards else None


def _run(job: Job, log: Callable[[str], None]) -> None:
    try:
        run_job(job, log)
    except TrainingFailed as failed:
        found = read_measured(job.output)
        if found and (why := refusal(found, job.reward_model_accuracy)):
            raise RewardModelRefused(why, found) from failed
        raise
