"""Decontamination: prompts that repeat an item of a benchmark, or of the arena test set.

Three rules, the first that holds is the reason: a message has exactly the item's letters, digits
and signs; enough of the item's word n-grams occur in the prompt; the prompt is one of the item's
nearest neighbours by embedding and more similar than a floor. A short item with another sign in it
is another item; of a long one most n-grams are there, and that is contamination.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from arena_assets.curation.plain import plain
from arena_assets.curation.signs import signs
from arena_assets.curation.text import spoken, with_words
from arena_assets.curation.words import Rows, grams, together, words_in
from arena_assets.lake.tables import MESSAGES

EXACT, OVERLAP, NEIGHBOUR = "same words", "n-gram overlap", "nearest neighbour"
NEAR = "near-duplicate"  # of a prompt of the test set
_LEAST = 4  # grams
_BLOCK = 2_000  # items compared at once with a part of the prompts
_LETTERS = "hash(array_to_string(words, ''))"
_TURNS = """(
    select {names}, unnest(list_transform(list_filter(
        messages, lambda m: m.role {roles}), lambda m: m.content)) as content
    from {relation}
)"""


class Items:
    """The items that nothing may repeat: each user turn of each of them.

    `items` has against (the benchmark), item_id and messages. `size` is the words of a gram,
    `share` the part of an item's grams that a prompt may not hold. At least four grams have to be
    held, or all of a shorter item with its signs, and an item of a single gram is repeated only as
    a whole turn: single grams are everybody's phrases.
    """

    def __init__(self, items: pa.Table, size: int, share: float):
        assert items.schema.field("messages").type == MESSAGES
        with duckdb.connect() as connection:
            connection.register("items", items)
            asked = _TURNS.format(names="against, item_id", roles="= 'user'", relation="items")
            query = with_words(connection).sql(
                f"""
                select against, item_id, item_id as prompt_id, content, {_LETTERS} as letters,
                       [{{role: 'user', content: content}}] as messages
                from {spoken(asked, "content")} where letters != hash('')
                order by against, item_id, content
                """
            )
            turns = query.to_arrow_table()
            connection.register("turns", turns)
            known = together(words_in(connection, "turns"))
        self.size, self.share = size, share
        self.names = list(zip(*(turns[c].to_pylist() for c in ("against", "item_id")), strict=True))
        self._turns = turns.select(["letters"]).append_column("item", pa.array(range(len(turns))))
        sets = grams(known, size)
        self.sizes = sets.lengths
        self._signs = [signs(plain(text)) for text in turns["content"].to_pylist()]
        order = np.argsort(sets.values, kind="stable")
        self._grams, self._items = sets.values[order], sets.row_of_value[order]

    def exact(self, connection: duckdb.DuckDBPyConnection, prompts: str) -> list[dict[str, Any]]:
        """The prompts of a relation with a message of an item's letters, digits and signs.

        Rows of prompt_drops without their step, as of the other two rules.
        """
        connection.register("item_turns", self._turns)
        turns = _TURNS.format(names="prompt_id", roles="!= 'assistant'", relation=prompts)
        pairs = with_words(connection).execute(
            f"""
            with lettered as (
                select prompt_id, content, {_LETTERS} as letters from {spoken(turns, "content")}
            )
            select prompt_id, item, content from lettered join item_turns using (letters)
            order by prompt_id, item desc
            """
        )
        found: dict[str, dict[str, Any]] = {}
        for prompt_id, item, said in pairs.fetchall():  # the first item comes last and stays
            if signs(plain(said)) == self._signs[item]:
                found[prompt_id] = self._row(prompt_id, EXACT, item, 1.0)
            elif self.sizes[item] >= _LEAST:
                # a long item without its symbols is not the same and yet all of it
                found.setdefault(prompt_id, self._row(prompt_id, OVERLAP, item, 1.0))
        return list(found.values())

    def overlapping(self, part: Rows) -> list[dict[str, Any]]:
        """The prompts that hold too much of an item, each with the item that it holds most of."""
        assert part.texts is not None  # those of words_in
        found: dict[str, dict[str, Any]] = {}
        for row, item, score in zip(*self._overlaps(grams(part, self.size)), strict=True):
            prompt_id = part.ids[row]
            if prompt_id not in found and self._has_signs(part.texts[row].as_py(), item):
                found[prompt_id] = self._row(prompt_id, OVERLAP, item, float(score))
        return list(found.values())

    def _has_signs(self, text: str, item: int) -> bool:
        """Whether a text has the signs of an item in a row; those of a long one do not matter."""
        wanted = self._signs[item]
        if not wanted or self.sizes[item] >= _LEAST:
            return True
        said = signs(plain(text))
        return any(
            said[start : start + len(wanted)] == wanted
            for start in range(len(said) - len(wanted) + 1)
        )

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
