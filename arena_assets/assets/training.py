"""The checkpoint of a round: TRL on the round's training set."""

import dagster as dg

from arena_assets.assets.declaration import declare
from arena_assets.assets.metadata import markdown_table
from arena_assets.assets.records import recorded, refuse_unmigrated
from arena_assets.checks.expectations import known_failures
from arena_assets.checks.results import failed_tests
from arena_assets.checks.reward_models import measured_metadata, result_of
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.handover import parent_of
from arena_assets.flywheel.rewarding import judge_of_groups
from arena_assets.plots import markdown_image, training_plots
from arena_assets.training.making import Course, RewardModelRefused, found, train
from arena_assets.training.measuring import read_measured
from arena_assets.training.process import TrainingFailed
from arena_assets.training.summaries import left_out, read_metrics


def assets(rounds: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """What Dagster is told of this asset."""
    return [
        declare(
            checkpoint,
            group_name="flywheel",
            partitions_def=rounds,
            deps=["training_set", "target_model", "models"],
            kinds={"trl", "safetensors"},
        )
    ]


@recorded
def checkpoint(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    """The model that this round's battles trained; the arena rates it next."""
    refuse_unmigrated(arena)
    key, store = context.partition_key, arena.checkpoints
    round_ = arena.round(key)
    with store.locked(key, context.log.info):
        _refuse_bad_rows(arena, key, context.run_id)
        parent, recipe = parent_of(arena, key), arena.profile.of_round(key)
        course = Course(
            round_,
            parent.contestant,
            parent.model,
            arena.lake,
            recipe,
            judge_of_groups(arena, round_, context.log.info),
        )
        manifest = found(store, key, course.fingerprint, context.log.info)
        reused = manifest is not None
        if manifest is None:
            try:
                manifest = train(store, course, context.run_id, context.log.info)
            except RewardModelRefused as refused:
                _report(context, result_of(arena, key, refused.measured))
                raise dg.Failure(f"checkpoint {key}: {refused}", allow_retries=False) from refused
            except TrainingFailed as failed:
                raise dg.Failure(f"checkpoint {key}: {failed}", allow_retries=False) from failed
    logged, measured = read_metrics(store.path(key)), read_measured(store.path(key))
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(str(store.path(key))),
            "dagster/uri": store.path(key).as_uri(),
            "digest": manifest.digest,
            "trained_from": f"{manifest.parent} ({manifest.parent_digest[:12]})",
            "trained_on": ", ".join(round_.trains_on),
            "reused": reused,
            **{
                f"steps_{phase}": dg.MetadataValue.md(markdown_image(plot))
                for phase, plot in training_plots(logged, f"training {key}").items()
            },
            "rows": dg.MetadataValue.json(manifest.metrics.get("rows", {})),
            "left_out": dg.MetadataValue.md(markdown_table(left_out(store.path(key)))),
            "manifest": dg.MetadataValue.json(manifest.model_dump(mode="json")),
            **(measured_metadata(key, measured) if measured else {}),
            **{
                f"final_{name}": value
                for name, value in manifest.metrics.items()
                if name not in ("rows", "reward_model")
            },
        },
        data_version=dg.DataVersion(manifest.digest),
    )


def _report(context: dg.AssetExecutionContext, found: dg.AssetCheckResult) -> None:
    """Show a check that failed before there was a checkpoint; its own step is skipped."""
    context.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey("checkpoint"),
            check_name=str(found.check_name),
            passed=found.passed,
            metadata=found.metadata,
            severity=found.severity,
            description=found.description,
            blocking=True,
            partition=context.partition_key,
        )
    )


def _refuse_bad_rows(arena: Arena, key: str, run: str) -> None:
    """Blocking checks hold within a run only; one that starts here asks what they found."""
    tested = failed_tests(arena.lake, "training_set", key)
    if tested is None:
        raise dg.Failure(
            f"training_set {key} was not tested by dbt as it is now. Nothing was trained; "
            "materialize it again, with its checks.",
            allow_retries=False,
        )
    failed = [*known_failures(arena, "training_set", key, run), *tested]
    if failed:
        raise dg.Failure(
            f"training_set {key} fails its blocking checks: {'; '.join(failed)}. Nothing was "
            "trained; look at the checks of training_set, mend the rounds or the profile, and "
            "materialize it again.",
            allow_retries=False,
        )
