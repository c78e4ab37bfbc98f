"""Rules that choose what a round learns from, but for the pair judge, which is SQL.

Each is a function from candidates to the battles that are chosen, as a user's own may be
(`selection: module:name` in a round of the profile):

    def choose(candidates: pa.Table, rows: int, seed: int) -> Sequence[str]

`candidates` has the columns of the table selection_candidates, one row a prompt, in the order of
their prompt_id, and `embedding`: the prompt's from prompt_embeddings, null where it has none. What
comes back are values of battle_id, at most `rows` of them are meant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from math import isqrt
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arena_assets.config.plugins import is_function_name, load_function
from arena_assets.config.recipe import PAIR_JUDGE, Selection
from arena_assets.curation.embeddings import clusters, stacked
from arena_assets.lake.lake import ALL, Lake

Rule = Callable[[pa.Table, int, int], Sequence[str]]


class BadSelection(ValueError):
    """A rule of the user's own that failed or chose what is no candidate; says which and what."""


def random(candidates: pa.Table, rows: int, seed: int) -> list[str]:
    """The first by a hash of seed and prompt: one candidate more or less changes no other."""
    pairs = zip(*(candidates[name].to_pylist() for name in ("prompt_id", "battle_id")), strict=True)
    ranked = sorted(pairs, key=lambda pair: sha256(f"{seed}|{pair[0]}".encode()).digest())
    return [battle for _, battle in ranked[:rows]]


def instruction_length(candidates: pa.Table, rows: int, seed: int) -> list[str]:
    """The prompts of which the user wrote most, in characters; of equals the first by prompt_id."""
    told = [
        sum(len(m["content"]) for m in messages if m["role"] == "user")
        for messages in candidates["messages"].to_pylist()
    ]
    longest = np.argsort(-np.array(told, dtype=np.int64), kind="stable")[:rows]
    return candidates["battle_id"].take(longest).to_pylist()


def kmeans(candidates: pa.Table, rows: int, seed: int) -> list[str]:
    """Prompts unlike each other: from each cluster in turn the one that is nearest to its centre.

    There are as many clusters as the square root of the candidates, or `rows` where that is less.
    Prompts without an embedding come last.
    """
    known = candidates.filter(pc.is_valid(candidates["embedding"]))
    unknown = candidates.filter(pc.is_null(candidates["embedding"]))["battle_id"].to_pylist()
    if not known.num_rows:
        return unknown[:rows]
    vectors = stacked(known)
    groups = clusters(vectors, max(1, min(rows, isqrt(len(vectors)))), seed)
    turns: list[tuple[int, int, int]] = []
    for group in np.unique(groups):
        (members,) = np.nonzero(groups == group)
        far = np.linalg.norm(vectors[members] - vectors[members].mean(axis=0), axis=1)
        nearest = members[np.argsort(far, kind="stable")]
        turns += [(turn, int(group), int(place)) for turn, place in enumerate(nearest)]
    battles = known["battle_id"].to_pylist()
    return [*(battles[place] for _, _, place in sorted(turns)), *unknown][:rows]


def every_one(candidates: pa.Table, rows: int, seed: int) -> list[str]:
    """All candidates."""
    return candidates["battle_id"].to_pylist()


RULES: Final[Mapping[str, Rule]] = {
    "random": random,
    "kmeans": kmeans,
    "instruction-length": instruction_length,
    "all": every_one,
}


def select(lake: Lake, key: str, selection: Selection, seed: int) -> list[dict[str, Any]]:
    """The rows of selected_candidates of a round; none where the pair judge chooses.

    Raises BadSelection where a rule of the user's own fails.
    """
    if selection.rule == PAIR_JUDGE:
        return []
    return [
        {"round": key, "kind": kind, "battle_id": battle, "place": place, "rule": selection.rule}
        for kind in ("sft", "preference")
        for place, battle in enumerate(_chosen(candidates(lake, key, kind), selection, seed), 1)
    ]


def candidates(lake: Lake, key: str, kind: str) -> pa.Table:
    """What a rule chooses from: the candidates of one kind of row, with their embeddings."""
    return lake.query(
        """
        select found.*, embeddings.embedding
        from found left join embeddings on embeddings.prompt_id = found.prompt_id
        where kind = $kind order by found.prompt_id
        """,
        {"kind": kind},
        found=("selection_candidates", key),
        embeddings=("prompt_embeddings", ALL),
    )


def _chosen(found: pa.Table, selection: Selection, seed: int) -> list[str]:
    if not found.num_rows:
        return []
    rows = selection.rows or found["rows_of_pair_judge"][0].as_py()
    if not is_function_name(selection.rule):
        return list(RULES[selection.rule](found, rows, seed))
    try:
        chosen = list(load_function(selection.rule)(found, rows, seed))
    except Exception as error:  # whatever a user's function does
        raise BadSelection(
            f"selection: {selection.rule} failed: {type(error).__name__}: {error}"
        ) from error
    there = set(found["battle_id"].to_pylist())
    strange = [battle for battle in chosen if battle not in there]
    if strange or len(set(chosen)) < len(chosen):
        what = f"{strange[0]!r}, no battle_id of its candidates" if strange else "one twice"
        raise BadSelection(f"selection: {selection.rule} chose {what}")
    return chosen
