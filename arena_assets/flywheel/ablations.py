"""One round under several recipes: a lake for each, and one arena in which all are rated.

    <lake>/ablations/<name>/<variant>.s<seed>/   the tables and the checkpoint of a training
    <lake>/ablations/<name>/arena/               answers, games and battles on the test set
    <lake>/ablations/<name>.parquet              what came of it

Every lake has the stores of the arena's own, its prepared tables and its rounds before, as links:
what was answered or judged once is found, and a variant that is up to date is not trained again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from arena_assets.config.ablations import Ablation, variant_profile, write_profile
from arena_assets.config.rounds import BASE
from arena_assets.curation.split import REPORTS
from arena_assets.curation.testset import testset_prompts
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.group import group_of_arena
from arena_assets.flywheel.handover import checkpoint_weights, target_of
from arena_assets.flywheel.made_from import OF_PREPARATION, OF_REPORTS, OF_ROUND, OF_SOURCE
from arena_assets.flywheel.moment import Moment
from arena_assets.flywheel.rated import arena_battles
from arena_assets.flywheel.seeds import linked, share
from arena_assets.flywheel.state import Freshness
from arena_assets.flywheel.weights import models
from arena_assets.generation.contestants import by_model
from arena_assets.generation.responses import Setting, respond
from arena_assets.judging.panel import judge_round, members_of_arena
from arena_assets.lake.lake import Lake
from arena_assets.ratings.bradley_terry import Anchor, Intervals, rate
from arena_assets.ratings.paired import Paired, differences, paired_over_seeds

_PREPARED = {*OF_PREPARATION, *OF_SOURCE}
_ROUNDS = {*OF_ROUND, *OF_REPORTS} - {"checkpoint"}


@dataclass(frozen=True)
class Trained:
    """One variant with one seed, and the arena in which it is trained."""

    variant: str
    seed: int
    key: str  # the round
    own: Arena
    area: Path

    @property
    def name(self) -> str:
        """What it is called where all are rated, as in i01.1-sft@random.s1."""
        return f"{self.key}@{self.variant}.s{self.seed}"

    @cached_property
    def arena(self) -> Arena:
        """Made anew by `prepare`."""
        folder = self.area / f"{self.variant}.s{self.seed}"
        return Arena(folder / "profile.yaml", folder)

    def prepare(self, ablation: Ablation) -> None:
        """Its profile and all that it has in common with the arena's own lake, as they are now."""
        folder = self.area / f"{self.variant}.s{self.seed}"
        profile = variant_profile(self.own.profile, ablation, self.variant, self.seed)
        write_profile(profile, folder / "profile.yaml")
        share_prepared(self.own.lake, Lake(folder))
        before = [key for key in self.own.rounds if key < self.key]
        share_rounds(self.own, Lake(folder), before)

    def is_done(self) -> bool:
        """Whether its checkpoint is what it would be made as now."""
        return next(Freshness(Moment(self.arena)).below("checkpoint", self.key), None) is None


def trainings(ablation: Ablation, own: Arena, name: str) -> list[Trained]:
    """Every variant with every seed, seed by seed: an ablation that is stopped has whole ones."""
    area = own.lake.root / "ablations" / name
    return [
        Trained(variant, seed, ablation.round, own, area)
        for seed in ablation.seeds
        for variant in ablation.variants
    ]


def share_prepared(own: Lake, other: Lake) -> None:
    """Stores and prepared tables of a lake for another one, as they are now."""
    for table in _PREPARED:
        shutil.rmtree(other.root / table, ignore_errors=True)
    share(own, other, _PREPARED)


def share_rounds(own: Arena, other: Lake, keys: Iterable[str]) -> None:
    """The tables and checkpoints of rounds for another lake, as links to the present files."""
    for key in keys:
        files = [f"{table}/{name}" for table in _ROUNDS for name in (f"{key}.parquet", _note(key))]
        for name in (*files, f"checkpoints/{_note(key)}"):
            _link(own.lake.root / name, other.root / name)
        if own.checkpoints.manifest(key):
            place = other.root / "checkpoints" / key
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            place.symlink_to(own.checkpoints.current(key))


def _note(key: str) -> str:
    return f".{key}.made.json"


def _link(file: Path, place: Path) -> None:
    place.unlink(missing_ok=True)
    if file.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        linked(str(file), str(place))


def meet(trained: list[Trained], own: Arena, log: Callable[[str], None]) -> Lake:
    """Let all that were trained fight on the test set, with who met there without them.

    Returns the lake with their answers and games; its partition is the round.
    """
    key, lake = trained[0].key, Lake(trained[0].area / "arena")
    share_prepared(own.lake, lake)
    known, fighter = models(own), target_of(own, key)
    checkpoints = {} if fighter.contestant == BASE else {fighter.contestant: fighter.model}
    for one in trained:
        digest = one.arena.checkpoints.verify(key).digest
        checkpoints[one.name] = checkpoint_weights(one.arena, key, digest)
    contestants = by_model(group_of_arena(own, key, checkpoints, known))
    setting = Setting(own.open_engine, own.profile.seed, own.profile.generation.batch, log)
    respond(lake, "arena_responses", key, testset_prompts(lake), contestants, setting)
    members = members_of_arena(own.profile, known, own.open_engine)
    judge_round(
        lake, "arena_judgments", "arena_responses", key, members, own.profile, log, active=True
    )
    return lake


def reported(lake: Lake, key: str) -> pa.Table:
    """The battles on the test prompts that report and never select, with their families.

    Where the test set is not split, all of its prompts report.
    """
    return arena_battles(lake, key, REPORTS).table


def results(trained: list[Trained], own: Arena, lake: Lake) -> list[dict[str, Any]]:
    """The rows of `ablations`: each checkpoint, and each variant over its seeds against the first.

    Raises UnratableBattles where they cannot be rated together.
    """
    settings, key = own.profile.ratings, trained[0].key
    battles = reported(lake, key)
    anchor = Anchor(settings.anchor, settings.anchor_rating)
    intervals = Intervals(
        settings.interval, settings.simultaneous, settings.bootstrap, own.profile.seed
    )
    rated = {row["contestant"]: row for row in rate(battles, anchor, intervals).to_pylist()}
    rows = []
    variants = list(dict.fromkeys(one.variant for one in trained))
    for variant in variants:
        ones = [one for one in trained if one.variant == variant]
        for one in ones:
            learned = one.arena.lake.read("training_set", key).num_rows
            row = {"variant": variant, "seed": one.seed, "rows": learned}
            rows.append(row | {n: rated[one.name][n] for n in ("rating", "lower", "upper")})
        mean = float(np.mean([rated[one.name]["rating"] for one in ones]))
        pooled: dict[str, Any] = {"variant": variant, "seed": None, "rating": mean}
        pooled["rows"] = round(np.mean([row["rows"] for row in rows[-len(ones) :]]))
        if variant != variants[0]:
            test = against(battles, ones, [o for o in trained if o.variant == variants[0]])
            pooled |= {"against": variants[0], "difference": test.difference}
            pooled |= {"difference_lower": test.lower, "difference_upper": test.upper}
            pooled |= {"p_value": test.p_value, "prompts": test.prompts, "families": test.families}
        rows.append(pooled)
    return [{"round": key, **row} for row in rows]


def against(battles: pa.Table, ones: list[Trained], others: list[Trained]) -> Paired:
    """The paired test of a variant against another one: on the same prompts, seed beside seed."""
    seeds = []
    for one, other in zip(ones, others, strict=True):
        found = differences(battles, one.name, other.name).to_pylist()
        seeds.append({row["prompt_id"]: (row["family"], row["difference"]) for row in found})
    return paired_over_seeds(seeds)
