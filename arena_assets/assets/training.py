"""The checkpoint of a round: TRL on the round's training set."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa

from arena_assets.assets.battles import target_model
from arena_assets.assets.metadata import markdown_table
from arena_assets.assets.partitions import rounds_partitions
from arena_assets.assets.records import recorded
from arena_assets.checks.expectations import failed_expectations
from arena_assets.config.contents import template_tokens
from arena_assets.config.places import resolve
from arena_assets.config.training import SECTIONS
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.handover import TargetModel, base_target, target_of
from arena_assets.flywheel.weights import BrokenChain
from arena_assets.generation.contestants import read_system_prompt
from arena_assets.lake.identity import canonical
from arena_assets.models.engines import make_room
from arena_assets.models.machine import number_type
from arena_assets.plots import loss_plot, markdown_image
from arena_assets.training.checkpoints import (
    ROWS,
    VERIFIED,
    CorruptCheckpoint,
    Manifest,
    learned_digest,
    now,
    read_metrics,
    training_fingerprint,
    verified_digest,
    versions,
)
from arena_assets.training.job import Job
from arena_assets.training.process import TrainingFailed, run_job


@dg.asset(
    group_name="flywheel",
    partitions_def=rounds_partitions,
    deps=["training_set", target_model, "models"],
    kinds={"trl", "safetensors"},
)
@recorded
def checkpoint(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    """The model that this round's battles trained; the arena rates it next."""
    key, store = context.partition_key, arena.checkpoints
    round_ = arena.round(key)
    with store.locked(key, context.log.info):
        _refuse_bad_rows(arena, key, context.run_id)
        parent = _parent(arena, key)
        training_set = _learned(arena, key)
        config = _stage_config(arena, round_.stage, parent)
        fingerprint = training_fingerprint(
            round_.stage, parent.weights.digest, training_set, config, arena.profile.seed
        )
        manifest = _found(arena, key, fingerprint, context.log.info)
        reused = manifest is not None
        if manifest is None:
            made_from = {
                "parent": parent.contestant,
                "parent_digest": parent.weights.digest,
                "training_set_digest": training_set,
                "fingerprint": fingerprint,
                "config": config,
                "run_id": context.run_id,
            }
            manifest = _train(arena, key, parent, made_from, context.log.info)
    logged = read_metrics(store.path(key))
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(str(store.path(key))),
            "digest": manifest.digest,
            "trained_from": f"{manifest.parent} ({manifest.parent_digest[:12]})",
            "trained_on": ", ".join(round_.trains_on),
            "reused": reused,
            "loss": dg.MetadataValue.md(markdown_image(loss_plot(logged, f"training {key}"))),
            "rows": dg.MetadataValue.json(manifest.metrics.get("rows", {})),
            "left_out": dg.MetadataValue.md(markdown_table(_left_out(store.path(key)))),
            "manifest": dg.MetadataValue.json(manifest.model_dump(mode="json")),
            **{f"final_{name}": v for name, v in manifest.metrics.items() if name != "rows"},
        },
        data_version=dg.DataVersion(manifest.digest),
    )


def _found(arena: Arena, key: str, fingerprint: str, log: Callable[[str], None]) -> Manifest | None:
    """The checkpoint that is there already, if it was made from the same things and is whole."""
    try:
        manifest = arena.checkpoints.manifest(key)
        if manifest is None or manifest.fingerprint != fingerprint:
            return None
        manifest = arena.checkpoints.verify(key)
    except CorruptCheckpoint as corrupt:
        log(f"{corrupt}; it is trained again now")
        return None
    log(f"checkpoint {key} was made from the same things: not trained again")
    return manifest


def _train(
    arena: Arena,
    key: str,
    parent: TargetModel,
    made_from: dict[str, Any],
    log: Callable[[str], None],
) -> Manifest:
    """Train the round and commit its checkpoint; what is not finished is removed."""
    make_room()
    store, stage = arena.checkpoints, arena.round(key).stage
    chosen = number_type(arena.profile.training.dtype, "training")
    log(f"{stage}: training in {chosen.name}, {chosen.reason}")
    scratch = store.scratch(key)
    job = Job(
        stage=stage,
        model=parent.weights.path,
        training_set=arena.lake.path("training_set", key),
        output=scratch,
        training=arena.profile.training.model_copy(update={"dtype": chosen.name}),
        trust_remote_code=parent.weights.trust_remote_code,
        chat_template=_chat_template(parent),
        system_prompt=read_system_prompt(arena.profile.target.system_prompt),
        seed=arena.profile.seed,
    )
    try:
        run_job(job, log)
        if _learned(arena, key) != made_from["training_set_digest"]:
            raise TrainingFailed("training_set was made anew while it was learned; train again")
        manifest = Manifest(
            round=key,
            stage=stage,
            dtype=chosen.name,
            digest=verified_digest(scratch, scratch / VERIFIED),
            versions=versions(),
            metrics=summary(read_metrics(scratch)) | {"rows": rows_summary(scratch)},
            created_at=now(),
            **made_from,
        )
    except BaseException as error:
        store.discard(scratch)
        if isinstance(error, TrainingFailed):
            raise dg.Failure(f"checkpoint {key}: {error}", allow_retries=False) from error
        raise
    store.commit(scratch, manifest)
    return manifest


def _learned(arena: Arena, key: str) -> str:
    return learned_digest(arena.lake.present("training_set", key))


def _chat_template(parent: TargetModel) -> str | None:
    template = parent.weights.chat_template
    return resolve(template).read_text("utf-8") if template else None


def _parent(arena: Arena, key: str) -> TargetModel:
    """The model that training starts from: the round's own fighter, or the base model."""
    if arena.profile.rounds[key].trains_from == "base":
        return base_target(arena)
    try:
        return target_of(arena, key)
    except BrokenChain as broken:
        raise dg.Failure(str(broken), allow_retries=False) from broken


def _refuse_bad_rows(arena: Arena, key: str, run: str) -> None:
    """Blocking checks hold within a run only; one that starts here looks itself."""
    failed = failed_expectations(arena, "training_set", key, run)
    if failed:
        raise dg.Failure(
            f"training_set {key} fails its blocking checks: {'; '.join(failed)}. Nothing was "
            "trained; look at the checks of training_set, mend the rounds or the profile, and "
            "materialize it again.",
            allow_retries=False,
        )


def _stage_config(arena: Arena, stage: str, parent: TargetModel) -> dict[str, Any]:
    """The settings that determine the checkpoint of a stage, without what changes no value."""
    training, template = arena.profile.training, parent.weights.chat_template
    return canonical(
        {
            "dtype": training.dtype,
            **{section: getattr(training, section) for section in SECTIONS[stage]},
            "system_prompt": read_system_prompt(arena.profile.target.system_prompt),
            "chat_template": template_tokens(template) if template else None,
        }
    )


def summary(metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """The last loss of every phase, the last reward, and the seconds that training took."""
    last: dict[str, Any] = {}
    for entry in metrics:
        for name in ("loss", "reward", "train_runtime"):
            if name in entry:
                last[f"{entry['phase']}_{name}"] = round(float(entry[name]), 4)
    return last


def rows_summary(folder: Path) -> dict[str, Any]:
    """How many rows each phase learned from, and how many were left out for which reason."""
    return {
        phase: {
            "learned": found["rows"],
            "left_out": {reason: len(ids) for reason, ids in found["dropped"].items()},
        }
        for phase, found in _read_rows(folder).items()
    }


def _left_out(folder: Path) -> pa.Table:
    """The rows that a checkpoint did not learn from, a row a phase and reason."""
    rows = [
        {"phase": phase, "reason": reason, "rows": len(ids), "row_ids": ", ".join(ids)}
        for phase, found in _read_rows(folder).items()
        for reason, ids in found["dropped"].items()
    ]
    names = [("phase", pa.string()), ("reason", pa.string()), ("rows", pa.int64())]
    return pa.Table.from_pylist(rows, schema=pa.schema([*names, ("row_ids", pa.string())]))


def _read_rows(folder: Path) -> dict[str, Any]:
    file = folder / ROWS
    return json.loads(file.read_text("utf-8")) if file.exists() else {}
