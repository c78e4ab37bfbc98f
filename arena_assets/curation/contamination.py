"""Decontamination: prompts that repeat an item of a benchmark, or of the arena test set.

Three rules, the first that holds is the reason: a turn has exactly the item's letters and digits;
enough of the item's word n-grams occur in the prompt; the prompt is one of the item's nearest
neighbours by embedding and more similar than a floor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from arena_assets.curation.words import HASHES, Rows, grams, hashed_words, together
from arena_assets.tables import MESSAGES

EXACT, OVERLAP, NEIGHBOUR = "same words", "n-gram overlap", "nearest neighbour"
_LEAST = 4  # grams
_BLOCK = 2_000  # items compared at once with a part of the prompts
LETTERS = r"hash(regexp_replace(lower({}), '[^\p{{L}}\p{{M}}\p{{N}}]+', '', 'g'))"


class Items:
    """The items that nothing may repeat: each user turn of each of them.

    `items` has against (the benchmark), item_id and messages. `size` is the words of a gram,
    `share` the part of an item's grams that a prompt may not hold. At least four grams have to be
    held, or all of a shorter item, and an item of a single gram is repeated only as a whole turn:
    single grams are everybody's phrases.
    """

    def __init__(self, items: pa.Table, size: int, share: float):
        assert items.schema.field("messages").type == MESSAGES
        with duckdb.connect() as connection:
            connection.register("items", items)
            turns = connection.sql(
                f"""
                with turns as (
                    select against, item_id, unnest(list_transform(list_filter(
                        messages, lambda m: m.role = 'user'), lambda m: [m])) as messages
                    from items
                )
                select against, item_id, {LETTERS.format("messages[1].content")} as letters,
                       {HASHES} as words
                from turns where letters != hash('') order by against, item_id, letters
                """
            ).to_arrow_table()
        self.size, self.share = size, share
        self.names = list(zip(*(turns[c].to_pylist() for c in ("against", "item_id")), strict=True))
        self._turns = turns.select(["letters"]).append_column("item", pa.array(range(len(turns))))
        numbers = pa.array([str(number) for number in range(turns.num_rows)], pa.string())
        words = pa.table({"prompt_id": numbers, "words": turns["words"]}).to_batches()
        sets = grams(together(hashed_words(words)), size)
        self.sizes = sets.lengths
        order = np.argsort(sets.values, kind="stable")
        self._grams, self._items = sets.values[order], sets.row_of_value[order]

    def exact(self, connection: duckdb.DuckDBPyConnection, prompts: str) -> list[dict[str, Any]]:
        """The prompts of a relation with a user turn of an item's letters and digits.

        Rows of prompt_drops without their step, as of the other two rules.
        """
        connection.register("item_turns", self._turns)
        rows = connection.sql(
            f"""
            with turns as (
                select prompt_id, unnest(list_transform(list_filter(
                    messages, lambda m: m.role = 'user'), lambda m: m.content)) as content
                from {prompts}
            )
            select turns.prompt_id, min(item_turns.item) from turns
            join item_turns on item_turns.letters = {LETTERS.format("turns.content")}
            group by turns.prompt_id order by turns.prompt_id
            """
        ).fetchall()
        return [self._row(prompt_id, EXACT, item, 1.0) for prompt_id, item in rows]

    def overlapping(self, part: Rows) -> list[dict[str, Any]]:
        """The prompts that hold too much of an item, each with the item that it holds most of."""
        found: dict[str, dict[str, Any]] = {}
        for row, item, score in zip(*self._overlaps(grams(part, self.size)), strict=True):
            prompt_id = part.ids[row]
            if prompt_id not in found:
                found[prompt_id] = self._row(prompt_id, OVERLAP, item, float(score))
        return list(found.values())

    def _overlaps(self, sets: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(row, item, share) of the prompts that hold too much of an item, the most held first."""
        rows = sets.row_of_value
        start = np.searchsorted(self._grams, sets.values, "left")
        counts = np.searchsorted(self._grams, sets.values, "right") - start
        hit = counts > 0
        rows, start, counts = rows[hit], start[hit], counts[hit]
        before = np.cumsum(counts) - counts
        place = np.arange(counts.sum()) + np.repeat(start - before, counts)
        pair = np.repeat(rows, counts) * len(self.sizes) + self._items[place]
        pairs, common = np.unique(pair, return_counts=True)
        row, item = np.divmod(pairs, len(self.sizes))
        share = common / self.sizes[item]
        least = np.minimum(self.sizes[item], _LEAST)
        held = (share >= self.share) & (common >= least) & (self.sizes[item] > 1)
        row, item, share = row[held], item[held], share[held]
        order = np.lexsort((item, -share, row))
        return row[order], item[order], share[order]

    def _row(self, prompt_id: str, reason: str, item: int, score: float) -> dict[str, Any]:
        return {
            "prompt_id": prompt_id,
            "reason": reason,
            "against": self.names[item][0],
            "match": self.names[item][1],
            "score": score,
        }


def nearest(
    items: Sequence[tuple[str, str]],
    item_vectors: np.ndarray,
    parts: Iterable[tuple[np.ndarray, np.ndarray]],
    neighbours: int,
    floor: float,
) -> list[dict[str, Any]]:
    """The `neighbours` prompts nearest to each item, those as similar as `floor` or more.

    `items` are (benchmark, item) pairs, `parts` pairs of prompt_ids and vectors; all vectors have
    length 1, so that their product is the cosine. Rows of prompt_drops without their step,
    the most similar item a prompt.
    """
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(items), _BLOCK)]
    best = [np.empty((len(items[block]), 0), np.float32) for block in blocks]
    best_ids = [np.empty((len(items[block]), 0), object) for block in blocks]
    for ids, vectors in parts:
        for number, block in enumerate(blocks):
            similar = item_vectors[block] @ vectors.T
            keep = min(neighbours, similar.shape[1])
            top = np.argpartition(-similar, keep - 1, axis=1)[:, :keep]
            score = np.concatenate([best[number], np.take_along_axis(similar, top, 1)], axis=1)
            names = np.concatenate([best_ids[number], ids[top]], axis=1)
            # by similarity, then by identifier: equal ones do not depend on the order of parts
            order = np.lexsort((names.astype(str), -score), axis=1)[:, :neighbours]
            best[number] = np.take_along_axis(score, order, 1)
            best_ids[number] = np.take_along_axis(names, order, 1)
    return _nearest_item(items, np.concatenate(best), np.concatenate(best_ids), floor)


def _nearest_item(
    items: Sequence[tuple[str, str]], best: np.ndarray, best_ids: np.ndarray, floor: float
) -> list[dict[str, Any]]:
    """For each prompt that is similar enough to any item: the most similar one."""
    found: dict[str, dict[str, Any]] = {}
    for item, place in np.argwhere(best >= floor):
        prompt_id, score = best_ids[item, place], float(best[item, place])
        if prompt_id not in found or found[prompt_id]["score"] < score:
            against, item_id = items[item]
            found[prompt_id] = {
                "prompt_id": prompt_id,
                "reason": NEIGHBOUR,
                "against": against,
                "match": item_id,
                "score": score,
            }
    return list(found.values())
