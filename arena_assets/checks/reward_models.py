"""Whether the reward model of a round is as good as the profile asks, as an asset check."""

import dagster as dg

from arena_assets.flywheel.arena import Arena
from arena_assets.plots import margins_plot, markdown_image
from arena_assets.training.making import reward_model_floor
from arena_assets.training.measuring import FEWEST_PAIRS, Measured, read_measured, refusal

CHECK = "reward_model_accuracy"


def reward_model_check(rounds: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    """The check of `checkpoint`; what is below the floor blocks what comes after it."""

    @dg.asset_check(
        name=CHECK,
        asset="checkpoint",
        description="the reward model's accuracy on held-out pairs is at least the profile's floor",
        partitions_def=rounds,
        blocking=True,
    )
    def check(
        context: dg.AssetCheckExecutionContext, arena: dg.ResourceParam[Arena]
    ) -> dg.AssetCheckResult:
        key = context.partition_key if context.has_partition_key else _latest(arena)
        return result_of(arena, key, read_measured(arena.checkpoints.path(key)))

    return check


def _latest(arena: Arena) -> str:
    """The round whose checkpoint was made last, where a run's checks have no partition."""
    made = {key: found for key in arena.rounds if (found := arena.checkpoints.manifest(key))}
    if not made:
        raise dg.Failure(
            "there is no checkpoint yet that could be checked: materialize one first",
            allow_retries=False,
        )
    return max(made, key=lambda key: made[key].created_at)


def result_of(arena: Arena, key: str, found: Measured | None) -> dg.AssetCheckResult:
    """How a reward model stands to the floor; a warning where too few pairs can tell."""
    if found is None:
        return dg.AssetCheckResult(
            passed=True,
            asset_key="checkpoint",
            check_name=CHECK,
            description="no reward model was fitted in this round",
            metadata={"partition": key},
        )
    why = refusal(found, reward_model_floor(arena.profile.of_round(key)))
    few = found.held_out < FEWEST_PAIRS
    said = why or (f"{found}, too few to tell" if few else str(found))
    return dg.AssetCheckResult(
        passed=why is None and not few,
        asset_key="checkpoint",
        check_name=CHECK,
        severity=dg.AssetCheckSeverity.ERROR if why else dg.AssetCheckSeverity.WARN,
        description=said,
        metadata={"partition": key, **measured_metadata(key, found)},
    )


def measured_metadata(key: str, found: Measured) -> dict[str, dg.MetadataValue]:
    """What was measured, with the margins as a plot, for pages of the UI."""
    plot = margins_plot(found.margins, f"margins of the reward model {key}")
    return {
        "reward_model": dg.MetadataValue.json(found.summary()),
        "margins": dg.MetadataValue.md(markdown_image(plot)),
    }
