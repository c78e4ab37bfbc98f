"""Ratings on the arena test set, and the promotion of the best checkpoint."""

from functools import partial

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from arena_assets.assets.battles import target_metadata
from arena_assets.assets.declaration import declare
from arena_assets.assets.metadata import markdown_table, plot_metadata, publish
from arena_assets.assets.records import recorded
from arena_assets.config.rounds import BASE, until
from arena_assets.curation.split import REPORTS
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.promotion import gain_in_words, promotion_of
from arena_assets.flywheel.rated import arena_battles, ratings_of
from arena_assets.flywheel.state import outdated_round
from arena_assets.flywheel.weights import BrokenChain
from arena_assets.generation.best_of import note_on_picks
from arena_assets.plots import progress_plot, ratings_plot, win_rate_plot
from arena_assets.ratings.battles import BadBattles
from arena_assets.ratings.bradley_terry import pair_table
from arena_assets.ratings.comparisons import UnratableBattles


def assets(rounds: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """What Dagster is told of these assets."""
    table = partial(declare, group_name="arena", partitions_def=rounds, kinds={"parquet"})
    return [
        table(ratings, deps=["arena_battles", "arena_testset"]),
        table(
            promotions,
            deps=[
                *("ratings", "arena_battles", "arena_testset"),
                *("checkpoint", "models", "target_model"),
            ],
        ),
    ]


@recorded
def ratings(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    key = context.partition_key
    try:
        arena.lake.write("ratings", ratings_of(arena, key, context.log.warning), key)
        battles = arena_battles(arena.lake, key, REPORTS)
    except (BadBattles, UnratableBattles) as unratable:
        raise dg.Failure(f"ratings {key}: {unratable}", allow_retries=False) from unratable
    written = arena.lake.read("ratings", key)
    written = written.filter(pc.is_in(written["purpose"], pa.array(REPORTS)))
    rows = written.to_pylist()
    of_target = [row for row in rows if row["contestant"] in (BASE, *until(arena.rounds, key))]
    # "base" comes first, then the checkpoints in time order
    of_target.sort(key=lambda row: (row["contestant"] != BASE, row["contestant"]))
    board = written.select(
        ["rank", "contestant", "rating", "lower", "upper", "battles", "gain", "gain_lower"]
    )
    best_first = [row["contestant"] for row in rows]
    pairs = pair_table(battles.table).to_pylist()
    plots = {
        "ratings_plot": ratings_plot(rows, f"after {key}"),
        "win_rates": win_rate_plot(pairs, best_first, f"win rates after {key}"),
        "target_progress": progress_plot(of_target, "the target's checkpoints"),
    }
    return publish(
        arena,
        "ratings",
        key,
        leaderboard=dg.MetadataValue.md(markdown_table(board)),
        prompts=f"purpose {rows[0]['purpose']}" if rows else "-",
        note=note_on_picks(arena.profile) or "-",
        target_rating=next((row["rating"] for row in of_target if row["contestant"] == key), "-"),
        **plot_metadata(arena.lake, key, plots),
    )


@recorded
def promotions(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    """The gate: who of the base model and all checkpoints fights next, by the profile's rule."""
    key = context.partition_key
    try:
        row = promotion_of(arena, key)
    except BrokenChain as broken:
        raise dg.Failure(f"promotions {key}: {broken}", allow_retries=False) from broken
    chosen, reason = row["contestant"], row["reason"]
    arena.lake.write("promotions", [row], key)
    old = outdated_round(arena, key)
    context.log.info(f"{chosen} is promoted after {key}: {reason}")
    if old:
        context.log.warning(
            f"{key} stays out of date: {', '.join(old)} were not made from the present prompts and "
            "settings; materialize the whole round"
        )
    following = arena.round(key).following
    if row["waiting"]:
        context.log.warning(f"{key} waits for a person: `arena models approve {key}`")
    if following and not old and not row["waiting"]:
        # The hand-over: Dagster allows no cycle between assets, so the next round's target is
        # reported here. What stands below that partition then shows as outdated, and automation
        # sees an update.
        context.log_event(
            dg.AssetMaterialization(
                "target_model",
                partition=following,
                metadata=target_metadata(chosen, key, row["model"], row["model_digest"], reason),
                tags={"dagster/data_version": row["model_digest"]},
            )
        )
    return publish(
        arena,
        "promotions",
        key,
        promoted=chosen,
        reason=reason,
        waits_for=row["waiting"] or "-",
        gain=gain_in_words(row),
        held_out_gain=gain_in_words(row, "held_out_"),
        fights_in=following or "-",
        out_of_date=", ".join(old) or "-",
    )
