"""What RL drew in a round, so that a reward that is won without merit can be seen."""

from typing import Any

import dagster as dg
import pyarrow as pa

from arena_assets.assets.declaration import declare
from arena_assets.assets.metadata import markdown_table, plot_metadata, publish
from arena_assets.assets.records import recorded
from arena_assets.flywheel.arena import Arena
from arena_assets.plots import rewards_plot
from arena_assets.training.summaries import kept_rollouts

_SHOWN = 8


def assets(rounds: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """What Dagster is told of this asset."""
    return [
        declare(
            rollouts,
            group_name="reports",
            partitions_def=rounds,
            deps=["checkpoint"],
            kinds={"parquet"},
        )
    ]


@recorded
def rollouts(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    key = context.partition_key
    folder = arena.checkpoints.current(key)
    arena.lake.write("rollouts", kept_rollouts(folder, key), key)
    return publish(arena, "rollouts", key, **_shown(arena, key))


def _shown(arena: Arena, key: str) -> dict[str, Any]:
    """The best and the worst completions, and the parts of the reward over the steps."""
    lake = arena.lake
    means = lake.query(_MEANS, rollouts=("rollouts", key)).to_pylist()
    if not means:
        stage = arena.round(key).stage
        why = "RL rewarded nothing" if stage == "rl" else f"{stage} draws none: only RL does"
        return {"note": f"no rollouts in this round: {why}"}

    def ordered(direction: str) -> dg.MetadataValue:
        found: pa.Table = lake.query(
            _EXTREME.format(direction=direction, shown=_SHOWN),
            rollouts=("rollouts", key),
            rows=("training_set", key),
        )
        return dg.MetadataValue.md(markdown_table(found))

    plots = {"rewards_by_part": rewards_plot(means, f"rewards of {key}")}
    return {
        "best": ordered("desc"),
        "worst": ordered("asc"),
        **plot_metadata(lake, key, plots),
    }


# the parts of the reward, then their weighted sum where there are several
_MEANS = """
    with parts as (
        select policy_step, unnest(rewards) as part, len(rewards) as many from rollouts
    )
    select part.name as name, policy_step, avg(part.reward) as mean from parts
    where part.reward is not null group by all
    union all
    select 'weighted sum', policy_step, avg(reward) from rollouts
    where reward is not null and len(rewards) > 1 group by policy_step
    order by name, policy_step
"""
_EXTREME = """
    select reward,
           array_to_string(
               list_transform(rewards, lambda part: part.name || ' '
                   || coalesce(round(part.reward, 2)::varchar, '-')), ', ') as parts,
           advantage, policy_step, tokens, truncated,
           rows.messages[-1].content as prompt, completion
    from rollouts left join rows using (row_id)
    where reward is not null
    order by reward {direction}, rollout_id limit {shown}
"""
