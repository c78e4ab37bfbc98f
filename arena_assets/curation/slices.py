"""Slices: disjoint random parts of the curated prompts, none of them near the arena test set."""

from __future__ import annotations

import pyarrow as pa

from arena_assets.config import Prompts
from arena_assets.curation.curate import conversation_words, near_duplicates
from arena_assets.curation.testset import seeded_order
from arena_assets.tables import PROMPT_DROPS, SLICES


def draw_slices(
    prompts: pa.Table, testset: pa.Table, settings: Prompts, seed: int
) -> tuple[pa.Table, pa.Table]:
    """The slice of every prompt that got into one, and the drops that decontamination made.

    A prompt's random order does not change when others are added. Raises ValueError where the
    prompts do not fill the slices.
    """
    held_out = set(testset["prompt_id"].to_pylist())
    words = {
        row["prompt_id"]: conversation_words(row["messages"])
        for row in prompts.select(["prompt_id", "messages"]).to_pylist()
    }
    test_words = {prompt_id: words[prompt_id] for prompt_id in held_out}
    free = {prompt_id: said for prompt_id, said in words.items() if prompt_id not in held_out}
    threshold = settings.near_duplicate_threshold
    contaminated = near_duplicates(free, test_words, threshold)
    drops = [
        {
            "prompt_id": prompt_id,
            "step": "decontamination",
            "reason": f"word 3-grams overlap with the test set by {threshold:.0%} or more",
            "match": contaminated[prompt_id],
        }
        for prompt_id in sorted(contaminated)
    ]
    order = sorted(
        set(free) - set(contaminated), key=lambda prompt_id: seeded_order(prompt_id, seed)
    )
    names = settings.slices.names
    rows = settings.slices.rows or len(order) // len(names)
    if rows == 0 or len(order) < rows * len(names):
        raise ValueError(
            f"prompts.slices asks for {len(names)} slices of {rows or 'some'} prompts, but only "
            f"{len(order)} are left after curation and the test set; add prompts or lower rows"
        )
    drawn = [
        {"prompt_id": prompt_id, "slice": name}
        for position, name in enumerate(names)
        for prompt_id in sorted(order[position * rows : (position + 1) * rows])
    ]
    return (
        pa.Table.from_pylist(drawn, schema=SLICES.schema),
        pa.Table.from_pylist(drops, schema=PROMPT_DROPS.schema),
    )
