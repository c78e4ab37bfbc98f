"""Turns the wheel from a terminal: the jobs of the UI, only where something is to do."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from arena_assets.assets.console import noise_to
from arena_assets.config.places import PROJECT, workspace
from arena_assets.flywheel.arena import Arena, open_arena
from arena_assets.flywheel.group import promoted
from arena_assets.flywheel.made_from import OF_PREPARATION, OF_SOURCE
from arena_assets.flywheel.seeds import share
from arena_assets.flywheel.state import (
    State,
    outdated_preparation,
    outdated_reports,
    state_of,
    states,
)
from arena_assets.flywheel.weights import known_models

_INTERRUPTED = "interrupted; what was finished is kept, `arena run` goes on from there"


class WheelStopped(RuntimeError):
    """A job failed; the message names the steps and checks and what they said."""


def turn(
    until: str | None,
    log: Callable[[str], None],
    force: Iterable[str] = (),
    rated: Callable[[str], None] = lambda key: None,
) -> list[str]:
    """Prepare prompts and weights, then turn every round that is not done, up to `until`.

    Returns the rounds that were turned; `rated` is told each as soon as its leaderboard is there.
    Rounds in `force` are turned again. Raises WheelStopped at the first round that fails; those
    after it are not started.
    """
    arena = open_arena()
    last = arena.round(until).key if until else max(arena.rounds)
    turned: list[str] = []
    with open_instance() as instance:
        job = partial(run_job, arena, instance)
        if arena.shares_with:
            share(arena.shares_with, arena.lake, {*OF_PREPARATION, *OF_SOURCE})
        if old := outdated_preparation(arena):
            _prepare(arena, old, job, log)
        waiting, spent = [key for key in arena.rounds if key <= last], 0.0
        while waiting:
            key = waiting.pop(0)
            state = state_of(arena, key)
            if state.name == "done" and key not in force:
                _refresh(arena, key, job, log)
                continue
            if state.name == "waiting for approval" and key not in force:
                log(_waits(arena, key))
                break
            log(f"{key}: turning ({_in_words(state)})")
            started = time.monotonic()
            # a person decided, or the rule is another one: nothing else has to be made
            alone = state.first == ("promotions", key) and key not in force
            job("turn_round", key, only=["promotions"] if alone else None)
            spent += time.monotonic() - started
            turned.append(key)
            rated(key)
            if state_of(arena, key).name == "waiting for approval":
                log(_waits(arena, key))
                break
            if waiting:
                left = spent / len(turned) * len(waiting)
                log(f"still to come: {', '.join(waiting)}, about {_minutes(left)}")
    return turned


def prepare_outdated(arena: Arena, log: Callable[[str], None]) -> None:
    """Prompts, weights, slices and test set, as far as they are out of date.

    Raises WheelStopped where that fails.
    """
    if old := outdated_preparation(arena):
        with open_instance() as instance:
            _prepare(arena, old, partial(run_job, arena, instance), log)


def _prepare(
    arena: Arena, old: list[str], job: Callable[..., None], log: Callable[[str], None]
) -> None:
    """Make models, prompts, slices and test set anew, where they are out of date."""
    log(f"preparing prompts and weights (first of all {old[0]})")
    for source in arena.profile.prompts.sources:
        if f"prompts of {source.name}" in old:
            job("collect", source.name)
    job("prepare", None, only=old if old == ["models"] else None)


def _refresh(arena: Arena, key: str, job: Callable[..., None], log: Callable[[str], None]) -> None:
    """Make those reports of a finished round anew that are out of date."""
    old = outdated_reports(arena, key)
    if not old:
        log(f"{key}: done, nothing changed")
        return
    log(f"{key}: done, but for reports: {', '.join(old)}")
    job("turn_round", key, only=old)


def _waits(arena: Arena, key: str) -> str:
    """What a round waits for, and how it goes on."""
    row, following = promoted(arena, key), arena.round(key).following
    assert row, "it waits, so there is a promotion"
    rest = f"; {following} and what follows are not started" if following else ""
    return (
        f"{key}: {row['contestant']} waits for a person's approval, `arena models approve {key}`"
        f"{rest} ({row['reason']})"
    )


def _in_words(state: State) -> str:
    because = f" ({state.because})" if state.because else ""
    return f"{state.name}, first of all {state.why}{because}" if state.why else state.name


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def open_instance() -> dg.DagsterInstance:
    """Dagster's instance in DAGSTER_HOME, by default .dagster in the workspace, made if missing.

    Terminal and UI share it: `dagster dev` is told by the workspace's .env, or by `make dev`.
    """
    home = Path(os.environ.setdefault("DAGSTER_HOME", str(workspace() / ".dagster")))
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        shutil.copyfile(PROJECT / "dagster.yaml", home / "dagster.yaml")
    return dg.DagsterInstance.get()


def models_found(arena: Arena) -> bool:
    """Whether the lake has the weights that the profile names now."""
    return known_models(arena).keys() == arena.profile.models.keys()


def round_states(arena: Arena) -> list[dict[str, Any]]:
    """Every round: its state, what it fights with and trains on, what it promoted."""
    found = []
    for key, state in states(arena).items():
        row, round_ = promoted(arena, key), arena.round(key)
        found.append(
            {
                "round": key,
                "state": state.name,
                "out_of_date": state.why,
                "because": state.because or None,
                "slice": round_.slice,
                "fights_with": round_.fights_with,
                "trains_from": round_.starts_from,
                "trains_on": list(round_.trains_on),
                "minimum_gap": round_.minimum_gap,
                "promoted": row["contestant"] if row else None,
                # over the base model by the prompts that report; the rating is by those that select
                "gain": row["gain"] if row else None,
                "rating": row["rating"] if row else None,
            }
        )
    return found


def rounds_to_turn(arena: Arena, last: str | None = None) -> list[str]:
    """A line for every round up to `last` that is not done: missing, or what of it is old."""
    found = states(arena, last).items()
    return [f"{key}: {_in_words(state)}" for key, state in found if state.name != "done"]


def rejudge(keys: Iterable[str], judge: str | None) -> None:
    """Judge the stored responses of rounds again, with the profile's judges and `judge` (YAML).

    Nothing is generated; what a judge said already is found. Weights that the profile names anew
    are found first. Raises WheelStopped where it fails.
    """
    arena = open_arena()
    known = [arena.round(key).key for key in keys]
    with open_instance() as instance:
        if not models_found(arena):
            run_job(arena, instance, "prepare", None, only=["models"])
        for key in known:
            config = {"ops": {"judgments": {"config": {"judge": judge or ""}}}}
            run_job(arena, instance, "rejudge", key, config)


def promote_again(keys: Iterable[str]) -> None:
    """Make the promotions of rounds anew that are there, after people decided about them.

    Raises WheelStopped where one fails; what was decided stays written down.
    """
    arena = open_arena()
    with open_instance() as instance:
        for key in keys:
            if promoted(arena, key):
                run_job(arena, instance, "turn_round", key, only=["promotions"])


def noise_of(arena: Arena) -> Path:
    """The log file of today: what libraries print while assets are made."""
    return arena.lake.root / "logs" / f"{datetime.now():%Y-%m-%d}.log"


def run_job(
    arena: Arena,
    instance: dg.DagsterInstance,
    job: str,
    partition: str | None,
    config: dict[str, Any] | None = None,
    only: list[str] | None = None,
) -> None:
    from arena_assets.definitions import definitions

    noise = noise_of(arena)
    # a step in a process of its own has no part in this one's screen
    alone = arena.profile.executor == "in_process"
    # without the console logger Dagster prints every event
    with noise_to(noise) if alone else nullcontext():
        turned = definitions(arena).resolve_job_def(job)
        result = turned.execute_in_process(
            instance=instance,
            partition_key=partition,
            raise_on_error=False,
            asset_selection=[dg.AssetKey(name) for name in only] if only else None,
            run_config={"loggers": {"console": {"config": {}}}, **(config or {})},
        )
    if result.success:
        return
    said = "\n".join([*_failures(result), *([f"  more in {noise}"] if alone else [])])
    raise WheelStopped(f"{job} {partition or ''} failed:\n{said}")


def _failures(result: dg.ExecuteInProcessResult) -> list[str]:
    lines = []
    for check in result.get_asset_check_evaluations():
        if not check.passed and check.blocking:
            name = check.asset_key.to_user_string()
            lines.append(f"  check {check.check_name} of {name}: {check.description or 'failed'}")
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            failure = data.user_failure_data
            error, message = data.error, failure.description if failure else None
            if error and not failure:
                message = error.cause.message.strip() if error.cause else error.to_string().strip()
            if error and error.cls_name == dg.DagsterExecutionInterruptedError.__name__:
                message = _INTERRUPTED
            lines.append(f"  {event.step_key}: {message}")
    return lines or ["  the run ended without a failed step; look at it in the UI (dagster dev)"]
