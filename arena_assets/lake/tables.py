"""Every table that Python writes: its columns, its key and what one row is.

Tables made by dbt are described beside their SQL in dbt_project/models. Partitioned tables are one
Parquet file a round (or a source); a row carries keys, never positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


@dataclass(frozen=True)
class Table:
    """A sentence that starts with "One row per", the columns, those that identify a row.

    `columns` says of each column what it holds, empty where its name says it.
    """

    description: str
    schema: pa.Schema
    key: tuple[str, ...]
    columns: Mapping[str, str]


def _table(
    description: str, key: tuple[str, ...], **columns: pa.DataType | tuple[pa.DataType, str]
) -> Table:
    fields, held = [], {}
    for marked, column in columns.items():
        kind, what = column if isinstance(column, tuple) else (column, "")
        name = marked.removesuffix("__null")
        fields.append(pa.field(name, kind, nullable=name != marked))
        held[name] = what
    return Table(description, pa.schema(fields), key, held)


_TEXT, _INT, _FLOAT = pa.string(), pa.int64(), pa.float64()

PROMPTS = _table(
    "One row per prompt of a source, before curation.",
    ("prompt_id",),
    prompt_id=_TEXT,
    source=_TEXT,
    messages=MESSAGES,
    constraints=(_TEXT, "a JSON list; [] where nothing can be verified"),
    category=_TEXT,
    difficulty__null=(_FLOAT, "0-10"),
    reference__null=_TEXT,
)
MODELS = _table(
    "One row per model of the profile: where its weights lie and the digest of what is in them.",
    ("name",),
    name=_TEXT,
    origin=_TEXT,
    path=_TEXT,
    digest=_TEXT,
)
QUARANTINE = _table(
    "One row per row of a source that could not be read, with its file and line.",
    ("path", "line", "raw"),
    source=_TEXT,
    path=(_TEXT, "of the file, also where a source is a folder"),
    line=(_INT, "where the row begins, from 1; the row of a Parquet file or data set"),
    reason=_TEXT,
    raw=_TEXT,
)
BENCHMARKS = _table(
    "One row per benchmark item that no training prompt may repeat.",
    ("benchmark", "item_id"),
    benchmark=_TEXT,
    item_id=_TEXT,
    messages=MESSAGES,
)
PROMPT_DROPS = _table(
    "One row per prompt that curation left out, with the step that did and why.",
    ("prompt_id",),
    prompt_id=_TEXT,
    step=_TEXT,
    reason=_TEXT,
    against__null=(_TEXT, "the benchmark that it repeats"),
    match__null=(_TEXT, "the prompt or the item that it repeats"),
    score__null=(_FLOAT, "how similar it is, or what the classifier or detector said (0-1)"),
)
DECONTAMINATION_REPORT = _table(
    "One row per benchmark and rule: how many prompts it dropped, with examples.",
    ("against", "reason"),
    against=_TEXT,
    reason=_TEXT,
    rows=_INT,
    examples=(_TEXT, "JSON: prompt_id, text, match, item, score"),
)
PROMPT_EMBEDDINGS = _table(
    "One row per prompt that is not a duplicate: its embedding, of length 1.",
    ("prompt_id",),
    prompt_id=_TEXT,
    embedding=pa.list_(pa.float32()),
)
SLICES = _table(
    "One row per curated prompt with the slice that it was drawn into.",
    ("prompt_id",),
    prompt_id=_TEXT,
    slice=_TEXT,
)
ARENA_TESTSET = _table(
    "One row per held-out prompt of the arena.",
    ("prompt_id",),
    prompt_id=_TEXT,
    part=(_TEXT, "diverse, hard or held out"),
    cluster=_INT,
    category=_TEXT,
    difficulty__null=_FLOAT,
    turns__null=(_INT, "of the user"),
    held_out__null=(_TEXT, "what is held out whole, of which it is: a constraint or a source"),
    family=(_TEXT, "of prompts that count as one witness; by wording, its first prompt_id"),
    purpose=(_TEXT, "select (who is promoted), report (the gain), held_out, or all where unsplit"),
    version__null=_TEXT,
)
TESTSET_VERSIONS = _table(
    "One row per prompt of one version of the arena test set, complete: a version never changes.",
    ("prompt_id",),
    **{f.name + "__null" * f.nullable: (f.type, PROMPTS.columns[f.name]) for f in PROMPTS.schema},
    part=_TEXT,
    cluster=_INT,
    turns=_INT,
    held_out__null=_TEXT,
    version=_TEXT,
)
RESPONSES = _table(
    "One row per prompt and contestant: the answer, and who gave it how.",
    ("prompt_id", "contestant"),
    response_id=(_TEXT, "hash of the contestant's key (model, prompting, sampling) and the prompt"),
    round=_TEXT,
    prompt_id=_TEXT,
    contestant=_TEXT,
    role=(_TEXT, "target or opponent"),
    model=_TEXT,
    model_digest=_TEXT,
    system_prompt=(_TEXT, "its version; none without"),
    sampling=(_TEXT, "JSON"),
    status=(_TEXT, "ok, refused (by a filter), or failed where the backend gave no answer"),
    error__null=(_TEXT, "why not"),
    text=(_TEXT, "without the reasoning; of a refusal, its words"),
    reasoning__null=(_TEXT, "what the model thought before it answered"),
    dtype__null=(_TEXT, "the number type that the model computed in; null where nobody says"),
    turns=(pa.list_(pa.string()), "its answer to every open turn; the last one is the text"),
    finish_reason=(
        _TEXT,
        "stop, length, recorded, refused, error, unknown, or a server's own word",
    ),
    prompt_tokens__null=(_INT, "null where the server does not say"),
    completion_tokens__null=_INT,
    sample=(_INT, "which of the samples of a best-of-n contestant was kept"),
)
JUDGMENTS = _table(
    "One row per game: one judge call on two responses in one order.",
    ("prompt_id", "contestant_a", "contestant_b", "judge"),
    judgment_id=(_TEXT, "hash of the judge's key, the prompt and both answers in this order"),
    round=_TEXT,
    prompt_id=_TEXT,
    game=(_INT, "1: contestants in alphabetical order; 2: swapped"),
    contestant_a=_TEXT,
    contestant_b=_TEXT,
    response_a=_TEXT,
    response_b=_TEXT,
    judge=_TEXT,
    judge_version=_TEXT,
    role=(_TEXT, "deciding, juror or shadow"),
    jury__null=(_TEXT, "the jury that a juror sits on"),
    weight=(_FLOAT, "of a juror's scores"),
    status=(_TEXT, "ok, failed or abstained"),
    failure__null=(_TEXT, "truncated, unparsable, out of range, refused or backend error"),
    score_a__null=(_FLOAT, "1-10"),
    score_b__null=_FLOAT,
    explanation__null=_TEXT,
    raw__null=(_TEXT, "the judge's own words where they could not be used"),
    reasoning__null=(_TEXT, "what the judge thought before it answered"),
    attempts=_INT,
    prompt_tokens__null=(_INT, "of all attempts; null where the server does not say"),
    completion_tokens__null=_INT,
    seconds=_FLOAT,
)
SELECTED_CANDIDATES = _table(
    "One row per candidate that the round's rule chose; none where the pair judge chooses, in SQL.",
    ("kind", "battle_id"),
    round=_TEXT,
    kind=(_TEXT, "sft or preference, the kind of row that it makes"),
    battle_id=(_TEXT, "of selection_candidates"),
    place=(_INT, "in the order in which the rule chose, from 1"),
    rule=_TEXT,
)
ABLATIONS = _table(
    "One row per checkpoint of an ablation, and one per variant over its seeds, rated together.",
    ("variant", "seed"),
    round=_TEXT,
    variant=_TEXT,
    seed__null=(_INT, "of training; null: all seeds of the variant"),
    rows=(_INT, "of its training set; over seeds the mean"),
    rating=(_FLOAT, "on the test prompts that report; over seeds the mean"),
    lower__null=_FLOAT,
    upper__null=_FLOAT,
    against__null=(_TEXT, "the variant that it is compared with: the first one"),
    difference__null=(_FLOAT, "of points (-1 to 1) on the same prompts, the mean over seeds"),
    difference_lower__null=(_FLOAT, "of the 95 % interval, over families of prompts and seeds"),
    difference_upper__null=_FLOAT,
    p_value__null=_FLOAT,
    prompts__null=_INT,
    families__null=_INT,
)
JUDGE_AUDIT = _table(
    "One row per judge of the round: how it behaved, how far it agrees with a reference, its cost.",
    ("judge",),
    round=_TEXT,
    judge=_TEXT,
    role=(_TEXT, "deciding, juror or shadow"),
    version__null=(_TEXT, "null for a jury"),
    battles=_INT,
    games__null=(_INT, "judge calls; null for a jury, whose members make them"),
    failed_rate__null=(_FLOAT, "share of games without a usable verdict"),
    abstained_rate__null=_FLOAT,
    flip_rate__null=(_FLOAT, "share of battles whose winner changed with the order"),
    first_position_preference__null=(_FLOAT, "share of games won by the answer shown first"),
    longer_preference__null=(_FLOAT, "share of decided battles won by the longer answer"),
    reference__null=(_TEXT, "the deciding judge, or labels"),
    battles_compared=(_INT, "that both settled"),
    agreement__null=_FLOAT,
    kappa__null=_FLOAT,
    prompt_tokens__null=_INT,
    completion_tokens__null=_INT,
    cost__null=(_FLOAT, "in the currency of the profile's prices; null where they are unknown"),
)
ROLLOUTS = _table(
    "One row per completion that RL drew: its rewards by part, and how it moved the policy.",
    ("rollout_id",),
    rollout_id=(_TEXT, "step of the policy, which generation of it, which completion"),
    group_id=(_TEXT, "the completions of a prompt that were compared"),
    round=_TEXT,
    row_id=(_TEXT, "of the training set"),
    prompt_id=_TEXT,
    policy_step=(_INT, "steps that the policy had taken when it answered"),
    completion=_TEXT,
    reward__null=(_FLOAT, "the weighted sum of the rewards; null where none applied"),
    rewards=(
        pa.list_(pa.struct([("name", _TEXT), ("weight", _FLOAT), ("reward", _FLOAT)])),
        "by part; one of weight 0 is only watched",
    ),
    advantage=(_FLOAT, "over the group, as the trainer used it"),
    tokens=(_INT, "of the completion"),
    truncated=(pa.bool_(), "whether it was cut off at max_completion"),
)
RATINGS = _table(
    "One row per contestant and purpose of test prompts: its Bradley-Terry rating on them.",
    ("contestant", "purpose"),
    round=_TEXT,
    contestant=_TEXT,
    purpose=(_TEXT, "select (by which is promoted), report, held_out, or all where unsplit"),
    rating=_FLOAT,
    lower=_FLOAT,
    upper=_FLOAT,
    rank=_INT,
    battles=_INT,
    wins=_INT,
    losses=_INT,
    ties=_INT,
    gain__null=(_FLOAT, "of a checkpoint over the base model, in rating points"),
    gain_lower__null=(_FLOAT, "of the 95 % interval of the gain"),
    gain_upper__null=_FLOAT,
)
CONSISTENCY = _table(
    "One row per round: how far its ratings agree with the reference leaderboard of the profile.",
    ("round",),
    round=_TEXT,
    models=(_INT, "that both leaderboards hold"),
    spearman=_FLOAT,
    agreement__null=(_FLOAT, "with 95 % CI; null where the reference separates no pair"),
    differentiation=(_FLOAT, "with 95 % CI"),
    mean__null=_FLOAT,
)
PROMOTIONS = _table(
    "One row per round: the model that fights in the next one, and why.",
    ("round",),
    round=_TEXT,
    contestant=_TEXT,
    model=(_TEXT, "folder of the weights"),
    model_digest=_TEXT,
    rating=_FLOAT,
    lower=_FLOAT,
    upper=_FLOAT,
    reason=_TEXT,
    waiting__null=(_TEXT, "what it waits for: approval; null where it holds"),
    gain__null=(_FLOAT, "over the base model on the prompts that report, in rating points"),
    gain_lower__null=(_FLOAT, "of its 95 % interval"),
    gain_upper__null=_FLOAT,
    held_out_gain__null=(_FLOAT, "the same on what is held out: new tasks, or forgotten ones"),
    held_out_gain_lower__null=_FLOAT,
    held_out_gain_upper__null=_FLOAT,
)

TABLES = {
    "models": MODELS,
    "prompts": PROMPTS,
    "prompts_curated": PROMPTS,
    "quarantine": QUARANTINE,
    "benchmarks": BENCHMARKS,
    "dropped_unsafe": PROMPT_DROPS,
    "dropped_short": PROMPT_DROPS,
    "dropped_prefixes": PROMPT_DROPS,
    "dropped_near_duplicates": PROMPT_DROPS,
    "prompt_embeddings": PROMPT_EMBEDDINGS,
    "dropped_contaminated": PROMPT_DROPS,
    "dropped_languages": PROMPT_DROPS,
    "dropped_near_testset": PROMPT_DROPS,
    "prompt_drops": PROMPT_DROPS,
    "decontamination_report": DECONTAMINATION_REPORT,
    "slices": SLICES,
    "arena_testset": ARENA_TESTSET,
    "testset_versions": TESTSET_VERSIONS,
    "responses": RESPONSES,
    "arena_responses": RESPONSES,
    "judgments": JUDGMENTS,
    "selected_candidates": SELECTED_CANDIDATES,
    "ablations": ABLATIONS,
    "judge_audit": JUDGE_AUDIT,
    "arena_judgments": JUDGMENTS,
    "rollouts": ROLLOUTS,
    "ratings": RATINGS,
    "promotions": PROMOTIONS,
    "consistency": CONSISTENCY,
}
