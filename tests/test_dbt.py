"""The dbt models on a small lake, against a plain Python reading of the same rules."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from arena_assets.config.places import PROJECT
from arena_assets.lake.lake import Lake

GAP = {"i01.1-sft": 3.0, "i01.2-dpo": 2.0, "i02.2-dpo": 2.0}
CONTESTANTS = {"base": "target", "ann": "opponent", "bob": "opponent"}


def dbt(lake: Lake, round_: str, scratch: Path, select: str) -> str:
    """`dbt build` on one round, told what the asset tells it."""
    variables = {
        "lake": str(lake.root),
        "round": round_,
        "stage": round_.split("-")[1],
        "minimum_gap": GAP[round_],
        "trains_on": [key for key in sorted(GAP) if key <= round_ and key[4:] == round_[4:]],
        "rounds_so_far": [key for key in sorted(GAP) if key <= round_],
        "flips": "inconsistent",
        "selection": "pair-judge",
        "quorum": 0.5,
        "scratch": str(scratch),
    }
    command = [Path(sys.executable).with_name("dbt"), "build", "--vars", json.dumps(variables)]
    command += ["--project-dir", "dbt_project", "--profiles-dir", "dbt_project"]
    command += ["--target-path", scratch / "target", "--select", *select.split()]
    selections = ("selection_candidates", "sft_rows", "preference_pairs", "rl_prompts")
    for table in ("battles", *selections, "training_set"):
        (lake.root / table).mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def fight(lake: Lake, round_: str, draw: random.Random, prompts: int = 10) -> None:
    """Answers and random verdicts of a round over some prompts."""
    ids = [f"{round_}-p{number}" for number in range(prompts)]
    responses, judgments = [], []
    for prompt_id in ids:
        for name, role in CONTESTANTS.items():
            row = {"response_id": f"{prompt_id}-{name}", "round": round_, "prompt_id": prompt_id}
            row |= {"contestant": name, "role": role, "text": f"{name} says {prompt_id}"}
            row |= dict.fromkeys(("model", "model_digest", "system_prompt", "sampling"), "x")
            row |= {"finish_reason": "stop", "status": "ok", "turns": [row["text"]]}
            row |= dict.fromkeys(("prompt_tokens", "completion_tokens", "sample"), 1)
            responses.append(row)
        for one, two in itertools.combinations(sorted(CONTESTANTS), 2):
            for game, (a, b) in enumerate(((one, two), (two, one)), 1):
                status = draw.choices(["ok", "failed", "abstained"], [18, 1, 1])[0]
                score = {"ok": lambda: float(draw.randint(1, 10))}.get(status, lambda: None)
                row = {"judgment_id": f"{prompt_id}{a}{b}", "round": round_, "prompt_id": prompt_id}
                row |= {"game": game, "contestant_a": a, "contestant_b": b, "judge": "j"}
                row |= {"response_a": f"{prompt_id}-{a}", "response_b": f"{prompt_id}-{b}"}
                row |= {"judge_version": "1", "role": "deciding", "status": status, "attempts": 1}
                row |= {"weight": 1.0, "prompt_tokens": 1, "completion_tokens": 1, "seconds": 0.1}
                judgments.append(row | {"score_a": score(), "score_b": score()})
    lake.write("responses", responses, round_)
    lake.write("judgments", [{"explanation": None, "raw": None} | row for row in judgments], round_)


def expected_battles(judgments: list[dict]) -> dict[tuple, dict]:
    """(prompt, pair) -> status, gap, winner and scores, by the rules of docs/profiles.md."""
    battles = {}
    grouped = {}
    for row in judgments:
        pair = tuple(sorted((row["contestant_a"], row["contestant_b"])))
        grouped.setdefault((row["prompt_id"], *pair), []).append(row)
    for key, games in grouped.items():
        statuses = [game["status"] for game in games]
        if statuses != ["ok", "ok"]:
            status = "failed" if "failed" in statuses else "abstained"
            battles[key] = {"status": status, "gap": None, "winner": None, "scores": None}
            continue
        sides = [{g["contestant_a"]: g["score_a"], g["contestant_b"]: g["score_b"]} for g in games]
        scores = {name: (sides[0][name] + sides[1][name]) / 2 for name in key[1:]}
        signs = {(side[key[1]] > side[key[2]]) - (side[key[1]] < side[key[2]]) for side in sides}
        one, two = scores[key[1]], scores[key[2]]
        flipped = {1, -1} <= signs
        status = "inconsistent" if flipped else "tie" if one == two else "decided"
        winner = None if status != "decided" else key[1] if one > two else key[2]
        battles[key] = {"status": status, "gap": abs(one - two), "winner": winner, "scores": scores}
    return battles


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """A lake whose three rounds were built by dbt."""
    folder = tmp_path_factory.mktemp("dbt")
    lake, draw = Lake(folder / "lake"), random.Random(4)
    prompts = [
        {
            "prompt_id": f"{round_}-p{number}",
            "source": "s",
            "messages": [{"role": "user", "content": "Hello"}],
            "constraints": "[]",
            "category": "c",
            "difficulty": None,
            "reference": None,
        }
        for round_ in GAP
        for number in range(10)
    ]
    lake.write("prompts_curated", prompts)
    lake.write("arena_testset", [])
    for round_ in GAP:
        fight(lake, round_, draw)
        output = dbt(lake, round_, folder, "fqn:arena.battles.battles path:models/selection")
        (folder / f"{round_}.log").write_text(output)
    return lake


@pytest.mark.parametrize("round_", GAP)
def test_battles_follow_the_rules(lake, round_):
    expected = expected_battles(lake.read("judgments", round_).to_pylist())
    rows = lake.query("select * from b", b=("battles", round_)).to_pylist()
    assert len(rows) == len(expected) == 30
    for row in rows:
        battle = expected[row["prompt_id"], row["contestant_1"], row["contestant_2"]]
        found = {name: row[name] for name in ("status", "winner", "gap")}
        assert found == {name: battle[name] for name in found}, row
    assert {battle["status"] for battle in expected.values()} >= {"decided", "inconsistent"}


def test_sft_learns_the_best_answer_that_beat_the_target_by_k(lake):
    battles = expected_battles(lake.read("judgments", "i01.1-sft").to_pylist())
    expected = {}
    for prompt_id in {key[0] for key in battles}:
        lost = [
            battle
            for key, battle in battles.items()
            if key[0] == prompt_id and "base" in key and battle["winner"] not in (None, "base")
        ]
        best = min(
            lost, key=lambda b: (-b["scores"][b["winner"]], -b["gap"], b["winner"]), default=None
        )
        if best and best["gap"] >= 3:
            expected[prompt_id] = f"{best['winner']} says {prompt_id}"
    rows = lake.query("select * from r", r=("sft_rows", "i01.1-sft")).to_pylist()
    assert {row["prompt_id"]: row["chosen"] for row in rows} == expected
    assert {row["rejected_contestant"] for row in rows} == {"base"}


@pytest.mark.parametrize("round_", ["i01.2-dpo", "i02.2-dpo"])
def test_preferences_have_the_gap_and_prefer_the_targets_battles(lake, round_):
    battles = expected_battles(lake.read("judgments", round_).to_pylist())
    rows = lake.query("select * from r", r=("preference_pairs", round_)).to_pylist()
    assert rows
    clear = {}
    for key, battle in battles.items():
        if battle["status"] == "decided" and battle["gap"] >= 2:
            clear.setdefault(key[0], []).append((key, battle))
    assert {row["prompt_id"] for row in rows} == set(clear)
    for row in rows:
        with_target = [battle for key, battle in clear[row["prompt_id"]] if "base" in key]
        pool = with_target or [battle for _, battle in clear[row["prompt_id"]]]
        assert row["gap"] == max(battle["gap"] for battle in pool)
        assert row["chosen"] == f"{row['chosen_contestant']} says {row['prompt_id']}"
        assert row["rejected"] == f"{row['rejected_contestant']} says {row['prompt_id']}"


def test_a_training_set_accumulates_the_rounds_of_its_stage(lake):
    def rows_of(table, round_):
        return lake.query("select row_id from r", r=(table, round_))["row_id"].to_pylist()

    first, second = (rows_of("preference_pairs", key) for key in ("i01.2-dpo", "i02.2-dpo"))
    rows = lake.query("select * from r", r=("training_set", "i02.2-dpo")).to_pylist()
    assert sorted(row["row_id"] for row in rows) == sorted(first + second)
    assert {row["source_round"] for row in rows} == {"i01.2-dpo", "i02.2-dpo"}
    assert {row["round"] for row in rows} == {"i02.2-dpo"}
    assert rows_of("training_set", "i01.1-sft") == rows_of("sft_rows", "i01.1-sft")


def test_the_unit_tests_of_the_models_pass(lake):
    log = (lake.root.parent / "i01.1-sft.log").read_text()
    for name in (
        "a_battle_joins_both_orders",
        "sft_learns_the_best_winner_where_the_target_lost_by_k",
        "a_preference_pair_may_have_the_target_as_winner",
    ):
        assert f"::{name}" in log and "FAIL" not in log
