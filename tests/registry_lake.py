"""A small arena with two checkpoints that fought, were rated and promoted; without a real model."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from conftest import TINY_PROFILE
from test_assets import FIRST, SECOND, answer, judgment
from test_checkpoints import manifest, trained

from arena_assets.flywheel.arena import Arena
from arena_assets.lake.lake import write_atomically
from arena_assets.training.checkpoints import learned_digest


def small_arena(folder: Path) -> Arena:
    """The tests' arena on an empty lake, whose base model is a folder without weights."""
    base, profile = folder / "base", folder / "arena.yaml"
    base.mkdir()
    (base / "config.json").write_text("{}", "utf-8")
    models = {"models": {"tiny": {"path": str(base)}}}
    profile.write_text(yaml.safe_dump(TINY_PROFILE | models), "utf-8")
    arena = Arena(profile, folder / "lake")
    row = {"name": "tiny", "origin": str(base), "path": str(base), "digest": "base-digest"}
    arena.lake.write("models", [row])
    return arena


def put_checkpoint(arena: Arena, key: str, content: bytes = b"weights", **changes) -> str:
    """Commit a checkpoint of a round; gives its digest."""
    scratch = trained(arena.checkpoints, key, content)
    arena.checkpoints.commit(scratch, manifest(scratch, key, **changes))
    digest = arena.checkpoints.manifest(key).digest
    arena.record("checkpoint", key, "noted")
    return digest


def put_training_set(arena: Arena, key: str, said: dict[str, str], source: str = FIRST) -> str:
    """A training set of rows that say something, by id; gives the digest of what is learned."""
    asked = [{"role": "user", "content": "Name a tree."}]
    rows = [
        {"row_id": row, "source_round": source, "kind": "sft", "messages": asked}
        | {"chosen_turns": [text], "rejected_turns": None}
        for row, text in said.items()
    ]
    path = arena.lake.path("training_set", key)
    path.parent.mkdir(exist_ok=True)
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("row_id", "source_round", "kind")),
            ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
            *((name, pa.list_(pa.string())) for name in ("chosen_turns", "rejected_turns")),
        ]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return learned_digest(path)


def put_answers(arena: Arena, table: str, key: str, **digests: str) -> None:
    """Answers of targets with these digests, and one of an opponent."""
    rows = [
        answer("p", name, f"text of {name}", role="target", model_digest=digest)
        for name, digest in digests.items()
    ]
    rows.append(answer("p", "reference", "text", model="recorded"))
    arena.lake.write(table, [row | {"round": key} for row in rows], key)


def put_promotion(arena: Arena, key: str, contestant: str, digest: str, **changes) -> None:
    row = {"round": key, "contestant": contestant, "model": "x", "model_digest": digest}
    row |= {"rating": 1.0, "lower": 0.0, "upper": 2.0, "reason": "the best rating of all"}
    arena.lake.write("promotions", [row | changes], key)


def put_ratings(arena: Arena, key: str, **ratings: float) -> None:
    rows = [
        {"round": key, "contestant": name, "purpose": "all", "rating": rating, "lower": rating - 9}
        | {"upper": rating + 9, "rank": 1, "battles": 2, "wins": 1, "losses": 1, "ties": 0}
        for name, rating in ratings.items()
    ]
    arena.lake.write("ratings", rows, key)


def put_arena(arena: Arena, key: str, winners: dict[str, str | None]) -> None:
    """Battles of the second checkpoint against the first, and the test prompts, all that report."""
    prompts = [
        {"prompt_id": prompt, "part": "diverse", "cluster": 0, "category": "trees"}
        | {"family": prompt, "purpose": "all"}
        for prompt in winners
    ]
    arena.lake.write("arena_testset", prompts)
    battles = [
        {"prompt_id": prompt, "contestant_1": FIRST, "contestant_2": SECOND, "role": "deciding"}
        | {"status": "decided" if winner else "tie", "winner": winner}
        for prompt, winner in winners.items()
    ]
    write_atomically(
        pa.Table.from_pylist(battles).to_reader(), arena.lake.path("arena_battles", key)
    )


def fill(arena: Arena) -> dict[str, str]:
    """Two rounds: SFT from base, DPO from SFT, which is promoted; gives the digests by name."""
    learned = put_training_set(arena, FIRST, {"r1": "An oak.", "r2": "An elm."})
    first = put_checkpoint(
        arena,
        FIRST,
        parent_digest="base-digest",
        training_set_digest=learned,
        config={"dtype": "float32", "sft": {"epochs": 2, "learning_rate": 1e-4}},
        metrics={
            **{"sft_loss": 0.5, "sft_num_tokens": 900, "sft_train_runtime": 30.0},
            **{"wall_seconds": 36.0, "devices": 2, "device": "cuda"},
        },
        versions={"trl": "1.15.0", "torch": "2"},
    )
    learned = put_training_set(
        arena, SECOND, {"r2": "A beech.", "r3": "A lime.", "r1": "An oak."}, SECOND
    )
    second = put_checkpoint(
        arena,
        SECOND,
        b"other weights",
        stage="dpo",
        parent=FIRST,
        parent_digest=first,
        training_set_digest=learned,
        config={"dtype": "float32", "dpo": {"epochs": 1, "beta": 0.1}},
        versions={"trl": "1.16.0", "torch": "2"},
    )
    base = "base-digest"
    put_answers(arena, "responses", FIRST, base=base)
    put_answers(arena, "responses", SECOND, **{FIRST: first})
    put_answers(arena, "arena_responses", FIRST, **{"base": base, FIRST: first})
    put_answers(arena, "arena_responses", SECOND, **{"base": base, FIRST: first, SECOND: second})
    arena.lake.write("judgments", [judgment(1), judgment(2)], FIRST)
    put_ratings(arena, FIRST, **{"base": 900.0, FIRST: 1000.0, "reference": 1400.0})
    put_ratings(arena, SECOND, **{"base": 905.0, FIRST: 1010.0, SECOND: 1050.0})
    put_promotion(arena, FIRST, FIRST, first)
    put_promotion(arena, SECOND, SECOND, second)
    return {"base": base, FIRST: first, SECOND: second}
