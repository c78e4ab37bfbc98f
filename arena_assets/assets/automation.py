"""The sensor that turns the next round; off by default, since it spends compute."""

import dagster as dg

from arena_assets.flywheel.arena import Arena

_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dg.sensor(
    job_name="turn_round",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Starts the first round that is not done, once the one before has promoted.",
)
def advance_rounds(context: dg.SensorEvaluationContext, arena: dg.ResourceParam[Arena]):
    from arena_assets.flywheel.state import round_identity, states

    for key, state in states(arena).items():
        if state.name == "done":
            continue
        if state.name == "waiting for approval":
            return dg.SkipReason(f"{key} waits for a person: `arena models approve {key}`")
        if arena.round(key).previous is None:
            return dg.SkipReason(
                f"{key} is the first round: start it by hand, nothing was promoted yet"
            )
        under_way = dg.RunsFilter(statuses=_UNFINISHED, tags={"dagster/partition": key})
        if context.instance.get_runs_count(under_way):  # a backfill may have started it
            return dg.SkipReason(f"{key} is under way")
        # the run key holds what the round is made from: a failed round is not started forever
        made_from = round_identity(arena, key)
        return dg.RunRequest(run_key=f"{key}-{made_from[:16]}", partition_key=key)
    return dg.SkipReason("every round is done")
