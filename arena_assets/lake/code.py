"""Which code decides the values of each table and of each stored answer, and its version.

The version is part of what a value is made from. A test holds a digest of the deciding files (see
`code_digests`): who changes one of them raises the version of what now gets other values, and
leaves the others. The columns of a table count by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from arena_assets.lake.identity import identity
from arena_assets.lake.tables import TABLES


@dataclass(frozen=True)
class Code:
    """The version of what decides a value: files below arena_assets (or the dbt project) and parts.

    A part is a name of CODE with a version of its own.
    """

    version: int
    files: tuple[str, ...]
    parts: tuple[str, ...] = ()


def code_version(name: str) -> str:
    """The version of the code that makes a table, a checkpoint or a stored value (`CODE`'s names).

    It names the parts with their versions ("1, asking 1"), and the columns of a table by a hash.
    Raises KeyError for a name that CODE does not have.
    """
    said = [str(CODE[name].version)]
    said += [f"{part} {CODE[part].version}" for part in sorted(_parts(name))]
    if name in TABLES:
        columns = [[field.name, str(field.type), field.nullable] for field in TABLES[name].schema]
        said.append(f"columns {identity('columns', columns=columns)[:8]}")
    return ", ".join(said)


def deciding_files(name: str) -> set[str]:
    """Every file that decides a value, those of its parts among them."""
    return {file for part in (name, *_parts(name)) for file in CODE[part].files}


def _parts(name: str) -> set[str]:
    own = CODE[name].parts
    return {part for one in own for part in (one, *_parts(one))}


_READING = tuple(
    f"reading/{name}.py"
    for name in ("csv_rows", "files", "json_rows", "parquet_rows", "places", "records")
)
_WORDS = tuple(f"curation/{name}.py" for name in ("plain", "signs", "text", "words"))
_COLLECTED = ("curation/collection.py", "curation/text.py")
_STEP = ("curation/steps.py", *_COLLECTED, *_WORDS)
_CONTAMINATION = ("curation/contamination.py", "curation/embeddings.py", *_STEP)
_TESTSET = (
    *("curation/testset.py", "curation/held_out.py", "curation/embeddings.py"),
    *_COLLECTED,
)
_ENGINES = ("local engine", "served engine")
_ANSWERS = ("answer", "best of", "recording", *_ENGINES)
_VERDICTS = ("verdict", "verified verdict", *_ENGINES)
_GAMES = tuple(f"judging/{name}.py" for name in ("draw", "games", "panel"))
_RATES = tuple(f"ratings/{name}.py" for name in ("comparisons", "fitting"))


def _dbt(version: int, model: str, *macros: str) -> Code:
    """A dbt model and the files of the macros that it calls."""
    files = [f"dbt_project/macros/{name}.sql" for name in macros]
    return Code(version, (f"dbt_project/models/{model}.sql", *files))


CODE: Final[dict[str, Code]] = {
    # what is kept in stores, and parts of it
    "asking": Code(
        1,
        tuple(
            f"models/{name}.py"
            for name in ("asking", "conversations", "dialogue", "engine", "prompting", "reasoning")
        ),
    ),
    "local engine": Code(1, ("models/model.py", "models/vllm_engine.py"), ("asking",)),
    "served engine": Code(
        1,
        (
            *(f"models/served/{name}.py" for name in ("envelope", "openai_engine", "parameters")),
            "models/finish_reasons.py",
        ),
        ("asking",),
    ),
    "recording": Code(1, ("models/recorded.py",), ("asking", "reading")),
    "reading": Code(1, _READING),
    "answer": Code(1, ("generation/contestants.py", "generation/responses.py")),
    "verifier": Code(1, ("verifying/constraints.py", "verifying/verifier.py", "hostile_text.py")),
    "best of": Code(
        3, ("generation/best_of.py", "models/finish_reasons.py", "hostile_text.py"), ("verifier",)
    ),
    "verdict": Code(
        2,
        (
            *(f"judging/{name}.py" for name in ("fence", "judges", "verdicts")),
            *("models/json_output.py", "models/structured.py"),
        ),
    ),
    "verified verdict": Code(1, ("judging/judges.py",), ("verifier",)),
    "difficulty": Code(
        1, ("curation/difficulty.py", "models/json_output.py", "models/structured.py")
    ),
    # the preparation
    "models": Code(2, ("models/weights.py", "training/checkpoints.py", "flywheel/taking_in.py")),
    "prompts": Code(
        1,
        tuple(f"curation/{name}.py" for name in ("shapes", "sources", "transcripts", "turns")),
        ("reading",),
    ),
    "quarantine": Code(1, (), ("prompts",)),
    "benchmarks": Code(1, (), ("prompts",)),
    "dropped_unsafe": Code(1, ("curation/filters.py", *_STEP)),
    "dropped_short": Code(1, ("curation/filters.py", *_STEP)),
    "dropped_prefixes": Code(1, ("curation/filters.py", *_STEP)),
    "dropped_near_duplicates": Code(1, ("curation/near_duplicates.py", *_STEP)),
    "prompt_embeddings": Code(1, ("curation/embeddings.py", *_COLLECTED)),
    "dropped_contaminated": Code(1, _CONTAMINATION),
    "dropped_languages": Code(1, ("curation/filters.py", *_STEP)),
    # a version, drawn or not, with the purposes of its prompts
    "arena_testset": Code(1, ("curation/testset.py", "curation/split.py", "curation/families.py")),
    "testset_versions": Code(1, _TESTSET, ("difficulty", *_ENGINES)),
    "dropped_near_testset": Code(
        2, ("curation/held_out.py", "curation/near_duplicates.py", *_CONTAMINATION)
    ),
    "prompts_curated": Code(1, ("curation/collection.py",)),
    "slices": Code(1, ("curation/slices.py",)),
    "prompt_drops": Code(1, _COLLECTED),
    "decontamination_report": Code(2, ("curation/report.py", *_COLLECTED)),
    # a round
    "target_model": Code(1, ("flywheel/handover.py",)),
    "responses": Code(1, ("generation/responses.py",), _ANSWERS),
    "judgments": Code(1, _GAMES, _VERDICTS),
    "battles": _dbt(1, "battles/battles", "battles"),
    "selection_candidates": _dbt(1, "selection/selection_candidates", "selection"),
    "selected_candidates": Code(
        1, ("curation/selection.py", "curation/embeddings.py", "config/plugins.py")
    ),
    "sft_rows": _dbt(2, "selection/sft_rows", "selection"),
    "preference_pairs": _dbt(2, "selection/preference_pairs", "selection"),
    "rl_prompts": _dbt(2, "selection/rl_prompts", "selection"),
    "training_set": _dbt(2, "selection/training_set", "parquet_tables"),
    "checkpoint": Code(
        3,
        (
            *(f"training/{name}.py" for name in ("job", "making", "rows", "trainers", "loading")),
            *(f"training/{name}.py" for name in ("fitting", "gathering", "masters", "saving")),
            *(f"training/{name}.py" for name in ("progress", "sft", "dpo", "steps")),
            *(f"training/{name}.py" for name in ("reinforcement", "reward_model", "rewards")),
            *(f"training/{name}.py" for name in ("group_rewards", "measuring", "rollouts")),
            *(f"training/{name}.py" for name in ("adapters", "kept_adapters", "packing")),
            *("models/dialogue.py", "models/prompting.py", "hostile_text.py"),
        ),
    ),
    "arena_responses": Code(1, ("generation/responses.py",), _ANSWERS),
    "arena_judgments": Code(
        1, (*_GAMES, "judging/active.py", "ratings/sampling.py", *_RATES), _VERDICTS
    ),
    "arena_battles": _dbt(1, "battles/arena_battles", "battles"),
    "ratings": Code(
        2,
        (
            "flywheel/rated.py",
            *_RATES,
            *(f"ratings/{name}.py" for name in ("battles", "bradley_terry", "intervals")),
            *(f"ratings/{name}.py" for name in ("gains", "paired", "reading", "resampling")),
        ),
    ),
    "promotions": Code(
        2,
        (
            *(f"flywheel/{name}.py" for name in ("promotion", "rated", "decisions")),
            *("ratings/battles.py", "ratings/paired.py"),
        ),
    ),
    # reports
    "rollouts": Code(1, ("training/summaries.py",)),
    "ablations": Code(1, ("flywheel/ablations.py", "ratings/paired.py")),
    "judge_audit": Code(1, ("judging/audit.py",)),
    "consistency": Code(2, ("ratings/consistency.py", "ratings/reading.py")),
    "leaderboard": _dbt(2, "marts/leaderboard", "points"),
    "leaderboard_history": _dbt(1, "marts/leaderboard_history", "parquet_tables"),
    "battles_by_pair": _dbt(2, "marts/battles_by_pair", "points"),
    "category_gains": _dbt(2, "marts/category_gains"),
    "selection_drops": _dbt(1, "marts/selection_drops", "selection"),
    "target_progress": _dbt(1, "marts/target_progress"),
}
