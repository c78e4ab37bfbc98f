"""The paired test: how much better one contestant is than another on the same prompts.

Both answered every prompt, so what is hard for both cancels out, and few prompts say much. Each
prompt gives a difference; the mean of the differences has an interval by the jackknife over
families of prompts (leave a family out: the cluster-robust variance CR3, MacKinnon, Nielsen and
Webb 2023), with Student's t for as many families as the prompts are worth (Kish). Seeds of training
are crossed with families: the variances of both ways add up (Cameron, Gelbach and Miller 2011).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
from scipy.special import stdtr, stdtrit

Measure = Literal["points", "head_to_head", "score"]
MEASURES: Final[tuple[Measure, ...]] = ("points", "head_to_head", "score")


@dataclass(frozen=True)
class Paired:
    """The mean difference, its interval and the two-sided p value of "there is none".

    In points it lies between -1 and 1; a win share of 60 % against the other one is 0.2. With a
    single family the interval is infinite: it says nothing of other ones.
    """

    difference: float
    lower: float
    upper: float
    p_value: float
    prompts: int
    families: int
    seeds: int = 1


def differences(
    battles: pa.Table, candidate: str, baseline: str, measure: Measure = "points"
) -> pa.Table:
    """What the candidate got more than the baseline, a row a prompt: prompt_id, family, category,
    difference.

    `battles` has the columns of ratings.battles.BATTLES (and score_1, score_2 for "score").
    head_to_head: the points of their own battles, from -1 (all lost) to 1. points: those, and
    beside them what each got against everybody whom both met on the prompt. score: the mean of the
    judge's scores of each against whom both met, and of their own battles. Prompts where neither is
    known have no row.
    """
    points = "2 * score - 1" if measure != "score" else "score_1 - score_2"
    one, two = ("score", "1 - score") if measure != "score" else ("score_1", "score_2")
    meetings = f"""
        select prompt_id, witness, category, {points} as difference from battles
        where contestant_1 = $candidate and contestant_2 = $baseline
        union all
        select prompt_id, witness, category, -({points}) from battles
        where contestant_2 = $candidate and contestant_1 = $baseline
    """
    with_others = """
        select mine.prompt_id, mine.witness, mine.category, mine.got - theirs.got
        from sides as mine join sides as theirs using (prompt_id, opponent)
        where mine.contestant = $candidate and theirs.contestant = $baseline
    """
    with duckdb.connect() as connection:
        connection.register("given", battles)
        family = "coalesce(family, prompt_id)" if "family" in battles.column_names else "prompt_id"
        return connection.sql(
            f"""
            with battles as (select *, {family} as witness from given),
            sides as (
                select prompt_id, witness, category, contestant_1 as contestant,
                       contestant_2 as opponent, {one} as got from battles
                union all
                select prompt_id, witness, category, contestant_2, contestant_1, {two} from battles
            )
            select prompt_id, any_value(witness) as family, any_value(category) as category,
                   avg(difference) as difference
            from ({meetings} {"" if measure == "head_to_head" else "union all" + with_others})
            where difference is not null group by prompt_id order by prompt_id
            """,
            params={"candidate": candidate, "baseline": baseline},
        ).to_arrow_table()


def paired(
    values: Sequence[float] | np.ndarray, families: Sequence[Any], level: float = 0.95
) -> Paired:
    """The mean of differences, one a prompt, with its interval over families.

    Raises ValueError where there is no difference at all.
    """
    keyed = {
        str(n): (str(f), float(v)) for n, (f, v) in enumerate(zip(families, values, strict=True))
    }
    return paired_over_seeds([keyed], level)


def paired_over_seeds(
    seeds: Sequence[Mapping[str, tuple[str, float]]], level: float = 0.95
) -> Paired:
    """The mean over seeds of the mean difference, with an interval over families and seeds.

    Each seed maps a prompt_id to its family and difference. The variance is that of the prompts'
    means over families, and beside it that of the seeds' means; Satterthwaite's degrees of freedom.
    With one seed it is `paired`. Raises ValueError without seeds, or where one has no difference.
    """
    if not seeds or not all(seeds):
        raise ValueError("a seed has no prompt on which both have a verdict")
    family = {prompt: name for seed in seeds for prompt, (name, _) in seed.items()}
    names = sorted(set(family.values()))
    place = {name: number for number, name in enumerate(names)}
    # a seed counts as much as another one, also where it has fewer verdicts
    sums, sizes = np.zeros(len(names)), np.zeros(len(names))
    for seed in seeds:
        for name, value in seed.values():
            sums[place[name]] += value / len(seed) / len(seeds)
            sizes[place[name]] += 1 / len(seed) / len(seeds)
    means = [float(np.mean([value for _, value in seed.values()])) for seed in seeds]
    spread = _over_families(sums, sizes)
    if len(seeds) > 1:
        spread = added(spread, float(np.var(means, ddof=1)) / len(seeds), len(seeds) - 1)
    return tested(float(np.mean(means)), spread, level, (len(family), len(names), len(seeds)))


class Spread(NamedTuple):
    """The centre of an interval, the variance of the mean and its degrees of freedom."""

    centre: float
    variance: float
    freedom: float


def _over_families(sums: np.ndarray, sizes: np.ndarray) -> Spread:
    """The jackknife of a mean, from sums and sizes by family.

    Where all families say the same (a clean sweep) nothing is known of how they differ: then one
    more family of their mean size is taken to have said the opposite.
    """
    count, mean = len(sums), float(sums.sum() / sizes.sum())
    if count < 2:
        return Spread(mean, np.inf, 1.0)
    if mean != 0 and np.allclose(sums, mean * sizes, rtol=1e-9, atol=0):
        sums, sizes = np.append(sums, -mean * sizes.mean()), np.append(sizes, sizes.mean())
        count, mean = count + 1, float(sums.sum() / sizes.sum())
    left_out = (sums.sum() - sums) / (sizes.sum() - sizes)
    variance = (count - 1) / count * ((left_out - mean) ** 2).sum()
    worth = sizes.sum() ** 2 / (sizes**2).sum()
    return Spread(mean, float(variance), max(float(worth) - 1, 1.0))


def added(spread: Spread, variance: float, freedom: float) -> Spread:
    """With the variance of another way added, and its degrees of freedom (Satterthwaite, 1946)."""
    both = spread.variance + variance
    if both == 0 or np.isinf(both):
        return spread._replace(variance=both)
    pooled = both**2 / (spread.variance**2 / spread.freedom + variance**2 / freedom)
    return Spread(spread.centre, both, pooled)


def tested(mean: float, spread: Spread, level: float, counted: tuple[int, int, int]) -> Paired:
    """The interval and the p value of a mean; `counted` are prompts, families and seeds."""
    error = float(np.sqrt(spread.variance))
    margin = float(stdtrit(spread.freedom, (1 + level) / 2)) * error if error else 0.0
    p_value = 0.0 if mean else 1.0
    if error:
        p_value = float(2 * stdtr(spread.freedom, -abs(spread.centre) / error))
    lower, upper = min(mean, spread.centre - margin), max(mean, spread.centre + margin)
    return Paired(mean, lower, upper, p_value, *counted)
