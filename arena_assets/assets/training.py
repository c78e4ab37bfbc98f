"""The checkpoint of a round: TRL on the round's training set."""

import shutil
from typing import Any

import dagster as dg

from arena_assets.assets.battles import target_model
from arena_assets.checkpoints import (
    Manifest,
    digest_weights,
    now,
    read_metrics,
    training_fingerprint,
    versions,
)
from arena_assets.checks.expectations import failed_expectations
from arena_assets.config import resolve
from arena_assets.generation.engines import close_engines
from arena_assets.lineage import BrokenChain, TargetModel, models, target_of
from arena_assets.partitions import rounds_partitions
from arena_assets.plots import loss_plot, markdown_image
from arena_assets.resources import ArenaResource
from arena_assets.rounds import BASE
from arena_assets.training import TrainingFailed, run_job
from arena_assets.training.job import Job


@dg.asset(
    group_name="flywheel",
    partitions_def=rounds_partitions,
    deps=["training_set", target_model, "models"],
    kinds={"trl", "safetensors"},
)
def checkpoint(context: dg.AssetExecutionContext, arena: ArenaResource) -> dg.MaterializeResult:
    """The model that this round's battles trained; the arena rates it next."""
    key, store = context.partition_key, arena.checkpoints
    round_ = arena.round(key)
    _refuse_bad_rows(arena, key)
    parent = _parent(arena, key)
    training_set = arena.lake.digest("training_set", key)
    config = _stage_config(arena, round_.stage)
    fingerprint = training_fingerprint(
        round_.stage, parent.weights.digest, training_set, config, arena.arena.seed
    )
    manifest = store.manifest(key)
    reused = manifest is not None and manifest.fingerprint == fingerprint
    if reused:
        context.log.info(f"checkpoint {key} was made from the same things: not trained again")
        manifest = store.verify(key)
    else:
        close_engines()
        scratch = store.scratch(key)
        job = Job(
            stage=round_.stage,
            model=parent.weights.path,
            training_set=arena.lake.path("training_set", key),
            output=scratch,
            training=arena.arena.training,
            trust_remote_code=parent.weights.trust_remote_code,
            chat_template=_chat_template(parent),
            seed=arena.arena.seed,
        )
        try:
            run_job(job, context.log.info)
        except TrainingFailed as failed:
            shutil.rmtree(scratch, ignore_errors=True)
            raise dg.Failure(f"checkpoint {key}: {failed}", allow_retries=False) from failed
        manifest = Manifest(
            round=key,
            stage=round_.stage,
            digest=digest_weights(scratch),
            parent=parent.contestant,
            parent_digest=parent.weights.digest,
            training_set_digest=training_set,
            fingerprint=fingerprint,
            config=config,
            versions=versions(),
            metrics=summary(read_metrics(scratch)),
            run_id=context.run_id,
            created_at=now(),
        )
        store.commit(scratch, manifest)
    logged = read_metrics(store.path(key))
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(str(store.path(key))),
            "digest": manifest.digest,
            "trained_from": f"{manifest.parent} ({manifest.parent_digest[:12]})",
            "trained_on": ", ".join(round_.trains_on),
            "reused": reused,
            "loss": dg.MetadataValue.md(markdown_image(loss_plot(logged, f"training {key}"))),
            "manifest": dg.MetadataValue.json(manifest.model_dump(mode="json")),
            **{f"final_{name}": value for name, value in manifest.metrics.items()},
        },
        data_version=dg.DataVersion(manifest.digest),
    )


def _chat_template(parent: TargetModel) -> str | None:
    template = parent.weights.chat_template
    return resolve(template).read_text("utf-8") if template else None


def _parent(arena: ArenaResource, key: str) -> TargetModel:
    """The model that training starts from: the round's own fighter, or the base model."""
    if arena.arena.rounds[key].trains_from == "base":
        return TargetModel(BASE, models(arena)[arena.arena.target.model], None)
    try:
        return target_of(arena, key)
    except BrokenChain as broken:
        raise dg.Failure(str(broken), allow_retries=False) from broken


def _refuse_bad_rows(arena: ArenaResource, key: str) -> None:
    """Blocking checks hold within a run only; one that starts here looks itself."""
    failed = failed_expectations(arena, "training_set", key)
    if failed:
        raise dg.Failure(
            f"training_set {key} fails its blocking checks: {'; '.join(failed)}. Nothing was "
            "trained; look at the checks of training_set, mend the rounds or the profile, and "
            "materialize it again.",
            allow_retries=False,
        )


def _stage_config(arena: ArenaResource, stage: str) -> dict[str, Any]:
    """The settings that determine the checkpoint of a stage."""
    training = arena.arena.training.model_dump(mode="json")
    sections = {"sft": ["sft"], "dpo": ["dpo"], "rl": ["reward_model", "rl"]}[stage]
    return {name: training[name] for name in ["dtype", *sections]}


def summary(metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """The last loss of every phase, the last reward, and the seconds that training took."""
    last: dict[str, Any] = {}
    for entry in metrics:
        for name in ("loss", "reward", "train_runtime"):
            if name in entry:
                last[f"{entry['phase']}_{name}"] = round(float(entry[name]), 4)
    return last
