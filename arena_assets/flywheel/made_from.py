"""What every table is made from: the tables that it reads and the settings that count for it.

A new table is an entry here. Its identity is one hash of the version of its code, these settings
and what it read; it is noted beside the table as it was when the making began (`Making`), and a
table whose note is another is out of date (`state`). Settings are paths into the profile, or
functions of `ingredients`. A test holds the entries against the graph of assets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from arena_assets.curation.collection import STEPS
from arena_assets.flywheel import ingredients as of
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.ingredients import Input, Part, Setting
from arena_assets.flywheel.moment import Moment
from arena_assets.lake.code import code_version
from arena_assets.lake.identity import canonical, identity, setting
from arena_assets.lake.lake import ALL


@dataclass(frozen=True)
class Made:
    """The tables that one is made from, whole or in part, and the settings that count.

    A table that is named is read whole, in the partition of the same name where it has rounds. What
    is `drawn_from` was read once, for a version that then stays: it counts no more.
    """

    reads: tuple[str | Part, ...] = ()
    settings: tuple[str | Setting, ...] = ()
    drawn_from: tuple[str | Part, ...] = ()


OF_SOURCE: Final = {
    "prompts": Made(settings=(of.source,)),
    "quarantine": Made(),  # made with the prompts of its source; nobody asks how it stands
}
_ALIKE = (of.decontamination, "prompts.encoder")
_COLLECTED = (of.EVERY_SOURCE, *STEPS)
OF_PREPARATION: Final = {
    "models": Made(settings=(of.origins,)),
    "benchmarks": Made(settings=(of.benchmarks,)),
    "dropped_unsafe": Made((of.EVERY_SOURCE,), ("prompts.unsafe",)),
    "dropped_short": Made((of.EVERY_SOURCE, *STEPS[:1]), ("prompts.minimum_words",)),
    "dropped_prefixes": Made((of.EVERY_SOURCE, *STEPS[:2]), ("prompts.prefix_words",)),
    "dropped_near_duplicates": Made((of.EVERY_SOURCE, *STEPS[:3]), ("prompts.near_duplicates",)),
    "prompt_embeddings": Made((of.EVERY_SOURCE, *STEPS[:4]), ("prompts.encoder",)),
    "dropped_contaminated": Made(
        (of.EVERY_SOURCE, *STEPS[:4], "prompt_embeddings", "benchmarks"), _ALIKE
    ),
    "dropped_languages": Made((of.EVERY_SOURCE, *STEPS[:5]), ("prompts.language",)),
    "testset_versions": Made(
        settings=(of.testset_parts,),
        drawn_from=(*_COLLECTED, "prompt_embeddings", "models"),
    ),
    "arena_testset": Made((of.VERSION,), (of.split,)),
    "dropped_near_testset": Made(
        (*_COLLECTED, "prompt_embeddings", "arena_testset", of.VERSION),
        (*_ALIKE, "prompts.near_duplicates"),
    ),
    "prompts_curated": Made((*_COLLECTED, "dropped_near_testset", "arena_testset", of.VERSION)),
    "slices": Made(("prompts_curated", "arena_testset"), ("seed", "prompts.slices")),
    "prompt_drops": Made((*STEPS, "dropped_near_testset", "arena_testset")),
    "decontamination_report": Made(
        (of.EVERY_SOURCE, "prompt_drops", "benchmarks", "arena_testset", of.VERSION)
    ),
}
_RULE = (of.minimum_gap, of.selection_rule)
_SELECTED = (of.DECIDED, "responses", of.FOUGHT)
OF_ROUND: Final = {
    "responses": Made((of.FIGHTERS, of.SLICE)),
    "judgments": Made(("responses", of.FOUGHT, of.JUDGES), ("battles.mode",)),
    "battles": Made(("judgments",), ("battles.flips", of.quorum)),
    "selection_candidates": Made(_SELECTED, (of.minimum_gap_of_judge,)),
    "selected_candidates": Made((of.CANDIDATE_ROWS,), (of.selection,)),
    "sft_rows": Made((*_SELECTED, of.CHOSEN), _RULE),
    "preference_pairs": Made((*_SELECTED, of.CHOSEN), _RULE),
    "rl_prompts": Made(_SELECTED),
    "training_set": Made((of.LEARNED,)),
    "checkpoint": Made(
        ("training_set", of.PARENT),
        (
            of.stage_training,
            "training.dtype",
            "training.accelerate",
            "training.keep_masters",
            of.training_seed,
            "target.system_prompt",
        ),
    ),
    "arena_responses": Made((of.MEETING, "arena_testset", of.TESTED)),
    "arena_judgments": Made(
        ("arena_responses", of.TESTED, of.DECIDING_JUDGES), (of.active_sampling,)
    ),
    "arena_battles": Made(("arena_judgments",), ("battles.flips", of.quorum)),
    "ratings": Made(
        ("arena_battles", "arena_testset"),
        ("ratings.anchor", "ratings.anchor_rating", of.intervals),
    ),
    "promotions": Made(
        ("ratings", "arena_battles", "arena_testset", of.CANDIDATES, of.FIGHTER),
        ("promotion", of.decided_by_people),
    ),
}
OF_REPORTS: Final = {  # nothing rests on them
    "selection_drops": Made((of.DECIDED, "responses", "rl_prompts", of.CHOSEN), _RULE),
    "rollouts": Made(("checkpoint",)),
    "judge_audit": Made(("judgments", "battles", "responses"), (of.prices,)),
    "leaderboard": Made(("ratings", "arena_battles", "arena_testset")),
    "leaderboard_history": Made((of.BOARDS,)),
    "target_progress": Made(("leaderboard",)),
    "battles_by_pair": Made(("arena_battles", "arena_testset")),
    "category_gains": Made(("arena_battles", "arena_testset")),
    "consistency": Made(("ratings",), ("ratings.reference",)),
}
MADE_FROM: Final = {**OF_SOURCE, **OF_PREPARATION, **OF_ROUND, **OF_REPORTS}


def read_tables(reads: Iterable[str | Part]) -> set[str]:
    """The names of the tables that are read, whole or in part."""
    names: set[str] = set()
    for read in reads:
        names |= {read} if isinstance(read, str) else set(read.tables)
    return names


def inputs_of(now: Moment, table: str, partition: str) -> list[Input]:
    """What a partition reads, as it is now."""
    return [found for read in MADE_FROM[table].reads for found in _inputs(now, read, partition)]


def _inputs(now: Moment, read: str | Part, partition: str) -> Iterator[Input]:
    if isinstance(read, Part):
        yield from read.inputs(now, partition)
    else:
        part = ALL if read in OF_PREPARATION else partition
        yield Input(read, part, now.digest(read, part))


def settings_of(now: Moment, table: str, partition: str) -> dict[str, Any]:
    """The settings that count for a partition, by their path or name."""
    return {
        name: value
        for what in MADE_FROM[table].settings
        for name, value in [_setting(now, what, partition)]
        if value is not None
    }


def _setting(now: Moment, what: str | Setting, partition: str) -> tuple[str, Any]:
    if not isinstance(what, str):
        return what.__name__, canonical(what(now, partition))  # files are read now
    *sections, name = what.split(".")
    section: Any = now.recipe(partition)
    for part in sections:
        section = getattr(section, part)
    return what, setting(section, name)


def identity_of(now: Moment, table: str, partition: str, inputs: list[Input] | None = None) -> str:
    """What a partition would be made from now; `inputs` are those that are known already."""
    inputs = inputs_of(now, table, partition) if inputs is None else inputs
    return _identity(table, settings_of(now, table, partition), inputs)


def made_of(now: Moment, table: str, partition: str, inputs: list[Input]) -> dict[str, Any]:
    """What the identity of a partition is a hash of, so that people can be told what changed."""
    return _parts(table, settings_of(now, table, partition), inputs)


def _parts(table: str, settings: dict[str, Any], inputs: list[Input]) -> dict[str, Any]:
    return {
        "code": code_version(table),
        "settings": canonical(settings),
        "inputs": [[part.table, part.partition, canonical(part.said)] for part in inputs],
    }


def _identity(table: str, settings: dict[str, Any], inputs: list[Input]) -> str:
    if table == "testset_versions":  # without the code's version
        return identity("test set", **settings["testset_parts"])
    read = [[part.table, part.partition, part.said] for part in sorted(inputs, key=_place)]
    return identity("table", table=table, code=code_version(table), settings=settings, inputs=read)


def _place(part: Input) -> tuple[str, str]:
    return part.table, part.partition


class Making:
    """The making of some tables of a partition, from its beginning on.

    What they read is what it was when the making began, also where it changes meanwhile; of each
    other's partition, these tables read what it is when it ends.
    """

    def __init__(self, arena: Arena, tables: Iterable[str], partition: str = ALL):
        self.arena, self.partition = arena, partition
        self.tables = set(tables)
        now = Moment(arena)
        self._settings = {t: settings_of(now, t, partition) for t in self.tables}
        self._inputs = {t: self._read(now, t, inner=False) for t in self.tables}

    def ended(self, table: str, partition: str | None = None) -> None:
        """Note what one of the tables was made from; its file is there now."""
        inputs = [*self._inputs[table], *self._read(Moment(self.arena), table, inner=True)]
        settings = self._settings[table]
        made_from, parts = _identity(table, settings, inputs), _parts(table, settings, inputs)
        self.arena.record(table, partition or self.partition, made_from, parts)

    def _read(self, now: Moment, table: str, inner: bool) -> list[Input]:
        """The inputs that are being made too, or those that are not, such as earlier rounds."""
        return [
            part
            for part in inputs_of(now, table, self.partition)
            if (part.table in self.tables and part.partition == self.partition) is inner
        ]
