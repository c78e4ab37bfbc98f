"""Families of prompts: those that nearly share their wording once what varies is taken out.

"Tell me about bears. Use at most 20 words." and "Describe tea. Use at most 15 words." are two
prompts of one task: who can do one can do the other, so they are no two witnesses. Numbers and what
stands in quotation marks are masked, and prompts whose three-word runs overlap by enough (Jaccard)
are connected; a family is a connected component. On the seed prompts, built from 71 wordings with
topics put in, this finds 77 families, and 5 % of the prompts are in one of two wordings
(docs/decisions/0043).
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa

from arena_assets.curation.words import Rows, grams, together, words_of
from arena_assets.lake.tables import MESSAGES

_QUOTED = re.compile(r"\"[^\"\n]*\"|“[^”\n]*”|«[^»\n]*»")
_NUMBER = re.compile(r"\d+")
_WORDS: Final = 3  # of a run
_ALIKE: Final = 0.3  # Jaccard index of runs
_BLOCK: Final = 1_000  # rows compared with all others at once


def families(
    prompts: pa.Table, how: Literal["wording", "cluster", "category"] = "wording"
) -> list[str]:
    """The family of each prompt: by wording the first prompt_id in it, else cluster or category.

    `prompts` have prompt_id, messages, cluster and category.
    """
    if how != "wording":
        return [f"{how} {value}" for value in prompts[how].to_pylist()]
    if not prompts.num_rows:
        return []
    names = np.array(prompts["prompt_id"].to_pylist(), dtype=object)
    asked = [
        [{"role": "user", "content": _masked(asked_last(messages))}]
        for messages in prompts["messages"].to_pylist()
    ]
    columns = {"prompt_id": pa.array(names, pa.string()), "messages": pa.array(asked, MESSAGES)}
    words = together(words_of(pa.table(columns)))

    component = _components(grams(words, _WORDS))
    first: dict[int, str] = {}
    for name, number in sorted(zip(words.ids.tolist(), component.tolist(), strict=True)):
        first.setdefault(number, name)
    of = dict(zip(words.ids.tolist(), component.tolist(), strict=True))
    return [first[of[name]] for name in names]


def asked_last(messages: list[dict[str, str]]) -> str:
    """What the user said after the last answer that the prompt brings along.

    Earlier turns are context; they may ask for something else.
    """
    answered = [n for n, message in enumerate(messages) if message["role"] == "assistant"]
    after = messages[answered[-1] + 1 :] if answered else messages
    return "\n".join(message["content"] for message in after if message["role"] == "user")


def _masked(text: str) -> str:
    return _NUMBER.sub("0", _QUOTED.sub(" quoted ", text))


def _components(sets: Rows) -> Any:
    """The number of the component of every row: rows with enough runs in common are joined."""
    from scipy.sparse import coo_array, csr_array
    from scipy.sparse.csgraph import connected_components

    _, column = np.unique(sets.values, return_inverse=True)
    size, count = sets.lengths, len(sets)
    shape = count, int(column.max(initial=0)) + 1
    held = csr_array((np.ones(len(column)), column, sets.offsets), shape=shape)
    one, two = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for start in range(0, count, _BLOCK):
        common = (held[start : start + _BLOCK] @ held.T).tocoo()
        row, other = common.coords
        row = row + start
        alike = common.data >= _ALIKE * (size[row] + size[other] - common.data)
        one.append(row[alike])
        two.append(other[alike])
    edges = np.concatenate(one), np.concatenate(two)
    joined = coo_array((np.ones(len(edges[0]), bool), edges), (count, count))
    return connected_components(joined, directed=False)[1]
