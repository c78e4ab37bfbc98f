"""Ratings on the arena test set, and the promotion of the best checkpoint."""

import dagster as dg

from arena_assets.assets.battles import target_metadata, target_model
from arena_assets.assets.metadata import markdown_table, plot_metadata, table_metadata
from arena_assets.assets.partitions import rounds_partitions
from arena_assets.assets.records import recorded
from arena_assets.config.rounds import BASE, until
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.state import outdated_round
from arena_assets.flywheel.weights import models
from arena_assets.generation.best_of import note_on_picks
from arena_assets.lake.tables import TABLES
from arena_assets.plots import progress_plot, ratings_plot, win_rate_plot
from arena_assets.ratings.battles import BadBattles, read_battles
from arena_assets.ratings.bradley_terry import Anchor, Intervals, pair_table, rate
from arena_assets.ratings.comparisons import UnratableBattles


@dg.asset(
    group_name="arena",
    partitions_def=rounds_partitions,
    deps=["arena_battles"],
    kinds={"parquet"},
    description=TABLES["ratings"].description,
)
@recorded
def ratings(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    key, settings = context.partition_key, arena.profile.ratings
    anchor = Anchor(settings.anchor, settings.anchor_rating)
    intervals = Intervals(
        settings.interval, settings.simultaneous, settings.bootstrap, arena.profile.seed
    )
    try:
        battles = read_battles(arena.lake.path("arena_battles", key), "lake")
        rated = rate(battles.table, anchor, intervals)
    except (BadBattles, UnratableBattles) as unratable:
        raise dg.Failure(f"ratings {key}: {unratable}", allow_retries=False) from unratable
    arena.lake.write("ratings", [{"round": key, **row} for row in rated.to_pylist()], key)
    written = arena.lake.read("ratings", key)
    rows = written.to_pylist()
    of_target = [row for row in rows if row["contestant"] in (BASE, *until(arena.rounds, key))]
    # "base" comes first, then the checkpoints in time order
    of_target.sort(key=lambda row: (row["contestant"] != BASE, row["contestant"]))
    board = written.select(["rank", "contestant", "rating", "lower", "upper", "battles"])
    best_first = [row["contestant"] for row in rows]
    pairs = pair_table(battles.table).to_pylist()
    plots = {
        "ratings_plot": ratings_plot(rows, f"after {key}"),
        "win_rates": win_rate_plot(pairs, best_first, f"win rates after {key}"),
        "target_progress": progress_plot(of_target, "the target's checkpoints"),
    }
    return dg.MaterializeResult(
        metadata=table_metadata(
            arena.lake,
            "ratings",
            key,
            leaderboard=dg.MetadataValue.md(markdown_table(board)),
            note=note_on_picks(arena.profile) or "-",
            target_rating=of_target[-1]["rating"],
            **plot_metadata(arena.lake, key, plots),
        ),
        data_version=dg.DataVersion(arena.lake.digest("ratings", key)),
    )


@dg.asset(
    group_name="arena",
    partitions_def=rounds_partitions,
    deps=[ratings, "checkpoint", "models"],
    kinds={"parquet"},
)
@recorded
def promotions(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    """The gate: the best rated of the base model and all checkpoints fights next."""
    key = context.partition_key
    rated = {row["contestant"]: row for row in arena.lake.read("ratings", key).to_pylist()}
    candidates = [name for name in (BASE, *until(arena.rounds, key)) if name in rated]
    if arena.profile.promotion == "latest":
        chosen, reason = key, "the newest checkpoint fights on (promotion: latest)"
    else:
        # among equals the newer one: it has seen more
        chosen = max(candidates, key=lambda name: (rated[name]["rating"], candidates.index(name)))
        others = ", ".join(f"{name} {rated[name]['rating']:.0f}" for name in candidates)
        reason = f"the best rating of {others}"
    if chosen == BASE:
        weights = models(arena)[arena.profile.target.model]
        path, digest = weights.path, weights.digest
    else:
        path, digest = arena.checkpoints.path(chosen), arena.checkpoints.manifest(chosen).digest
    row = {
        "round": key,
        "contestant": chosen,
        "model": str(path),
        "model_digest": digest,
        **{name: rated[chosen][name] for name in ("rating", "lower", "upper")},
        "reason": reason,
    }
    arena.lake.write("promotions", [row], key)
    old = outdated_round(arena, key)
    context.log.info(f"{chosen} is promoted after {key}: {reason}")
    if old:
        context.log.warning(
            f"{key} stays out of date: {', '.join(old)} were not made from the present prompts and "
            "settings; materialize the whole round"
        )
    following = arena.round(key).following
    if following and not old:
        # The hand-over: Dagster allows no cycle between assets, so the next round's target is
        # reported here. What stands below that partition then shows as outdated, and automation
        # sees an update.
        context.log_event(
            dg.AssetMaterialization(
                target_model.key,
                partition=following,
                metadata=target_metadata(chosen, key, str(path), digest),
                tags={"dagster/data_version": digest},
            )
        )
    return dg.MaterializeResult(
        metadata=table_metadata(
            arena.lake,
            "promotions",
            key,
            promoted=chosen,
            reason=reason,
            fights_in=following or "-",
            out_of_date=", ".join(old) or "-",
        ),
        data_version=dg.DataVersion(arena.lake.digest("promotions", key)),
    )
