"""Leaves out short, repeated and nearly repeated prompts; every drop has its step and its reason.

Near-duplicates are found by MinHash-LSH and checked by their exact Jaccard similarity, so that the
hash proposes and never decides. The result depends neither on the order of the rows nor on how they
are sharded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from arena_assets.config import Prompts
from arena_assets.tables import PROMPT_DROPS

_PERMUTATIONS, _SEED, _GRAM = 128, 42, 3
_WORD = re.compile(r"\w+")


def curate(prompts: pa.Table, settings: Prompts) -> tuple[pa.Table, pa.Table]:
    """The prompts that stay, ordered by prompt_id, and the dropped ones as rows of prompt_drops."""
    prompts = prompts.sort_by("prompt_id")
    ids = prompts["prompt_id"].to_pylist()
    words = dict(
        zip(ids, (conversation_words(m) for m in prompts["messages"].to_pylist()), strict=True)
    )
    drops: list[dict[str, Any]] = []
    seen_ids: set[str] = set()
    for prompt_id in ids:
        if prompt_id in seen_ids:
            raise ValueError(f"prompt_id {prompt_id!r} comes from two sources; make it unique")
        seen_ids.add(prompt_id)
    kept = _drop_short(ids, words, settings.minimum_words, drops)
    kept = _drop_repeated(kept, words, drops)
    kept = _drop_near_duplicates(kept, words, settings.near_duplicate_threshold, drops)
    stays = pa.array([prompt_id in kept for prompt_id in ids], pa.bool_())
    return prompts.filter(stays), pa.Table.from_pylist(drops, schema=PROMPT_DROPS.schema)


def conversation_words(messages: Iterable[dict[str, str]]) -> tuple[str, ...]:
    """The words of a conversation, without case and punctuation."""
    text = "\n".join(message["content"] for message in messages)
    return tuple(_WORD.findall(text.casefold()))


def near_duplicates(
    words: dict[str, tuple[str, ...]], against: dict[str, tuple[str, ...]], threshold: float
) -> dict[str, str]:
    """For each id of `words` that nearly repeats one of `against`: the smallest id that it repeats.

    Similarity is the Jaccard index of the sets of word 3-grams.
    """
    from rensa import RMinHash, RMinHashLSH

    # many narrow bands: a pair at the threshold is proposed with a probability near one
    lsh = RMinHashLSH(threshold=threshold, num_perm=_PERMUTATIONS, num_bands=32)
    names = sorted(set(words) | set(against))
    all_words = words | against
    grams = {name: _grams(all_words[name]) for name in names}
    hashes = {}
    for position, name in enumerate(names):
        minhash = RMinHash(num_perm=_PERMUTATIONS, seed=_SEED)
        minhash.update([" ".join(gram) for gram in grams[name]])
        hashes[name] = minhash
        if name in against:
            lsh.insert(position, minhash)
    found = {}
    for name in words:
        proposed = sorted(names[position] for position in lsh.query(hashes[name]))
        for other in proposed:
            if other != name and _jaccard(grams[name], grams[other]) >= threshold:
                found[name] = other
                break
    return found


def _drop_short(
    ids: list[str], words: dict[str, tuple[str, ...]], minimum: int, drops: list[dict[str, Any]]
) -> set[str]:
    short = {prompt_id for prompt_id in ids if len(words[prompt_id]) < minimum}
    reason = f"fewer than {minimum} words"
    drops += [_drop(prompt_id, "minimum length", reason, None) for prompt_id in sorted(short)]
    return set(ids) - short


def _drop_repeated(
    kept: set[str], words: dict[str, tuple[str, ...]], drops: list[dict[str, Any]]
) -> set[str]:
    first: dict[tuple[str, ...], str] = {}
    stays = set()
    for prompt_id in sorted(kept):
        original = first.setdefault(words[prompt_id], prompt_id)
        if original == prompt_id:
            stays.add(prompt_id)
        else:
            drops.append(
                _drop(prompt_id, "exact duplicate", "same words as another prompt", original)
            )
    return stays


def _drop_near_duplicates(
    kept: set[str],
    words: dict[str, tuple[str, ...]],
    threshold: float,
    drops: list[dict[str, Any]],
) -> set[str]:
    """Of prompts that nearly repeat each other the smallest prompt_id stays."""
    chosen = {prompt_id: words[prompt_id] for prompt_id in kept}
    repeats = near_duplicates(chosen, chosen, threshold)
    dropped = {prompt_id: match for prompt_id, match in repeats.items() if match < prompt_id}
    reason = f"word 3-grams overlap by {threshold:.0%} or more"
    drops += [_drop(name, "near-duplicate", reason, dropped[name]) for name in sorted(dropped)]
    return kept - set(dropped)


def _drop(prompt_id: str, step: str, reason: str, match: str | None) -> dict[str, Any]:
    return {"prompt_id": prompt_id, "step": step, "reason": reason, "match": match}


def _grams(words: tuple[str, ...]) -> frozenset[tuple[str, ...]]:
    if len(words) < _GRAM:
        return frozenset([words])
    return frozenset(words[start : start + _GRAM] for start in range(len(words) - _GRAM + 1))


def _jaccard(one: frozenset[Any], two: frozenset[Any]) -> float:
    return len(one & two) / len(one | two)
