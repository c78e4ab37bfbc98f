"""The wheel end to end: the project's own assets with real vLLM and TRL on a tiny random Llama."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from conftest import arena_command
from safetensors import safe_open

from arena_assets.flywheel.arena import open_arena
from arena_assets.flywheel.weights import models
from arena_assets.training.checkpoints import learned_digest

ROUNDS = ["i01.1-sft", "i01.2-dpo", "i01.3-rl"]


@pytest.fixture(scope="module")
def arena(turned):
    return open_arena()


def test_the_wheel_turns_and_a_checkpoint_fights_in_the_next_round(turned_twice):
    """From prompts to two trained, rated and promoted checkpoints, in under three minutes."""
    assert "turned i01.1-sft, i01.2-dpo" in turned_twice.stdout
    assert "leaderboard after i01.2-dpo" in turned_twice.stdout
    assert turned_twice.stdout.index("leaderboard after i01.1-sft") < turned_twice.stdout.index(
        "still to come: i01.2-dpo"
    )
    training = "training in float32, as the profile says"
    for words in ("tokens/s", f"sft: {training}", f"dpo: {training}", "promoted after i01.2-dpo"):
        assert words in turned_twice.stderr, words
    for noise in ("Traceback", "nanobind", "NUMA", "it/s]", "256/"):
        assert noise not in turned_twice.stderr, noise


def test_the_next_run_turns_only_what_is_missing(turned):
    assert "i01.2-dpo: done, nothing changed" in turned.stdout
    assert "turned i01.3-rl" in turned.stdout and "leaderboard after i01.3-rl" in turned.stdout
    assert "rl: training in" in turned.stderr
    assert "sft: training in" not in turned.stderr and "dpo: training in" not in turned.stderr


def test_everybody_answers_and_every_pair_meets_twice(arena):
    for key in ROUNDS:
        responses = arena.lake.read("responses", key).to_pylist()
        assert len(responses) == 16 * 3
        assert {r["role"] for r in responses} == {"target", "opponent"}
        assert all(len(r["model_digest"]) == 64 for r in responses if r["model"] != "recorded")
        games = arena.lake.read("judgments", key).to_pylist()
        assert sum(game["role"] == "deciding" for game in games) == 16 * 3 * 2
        shadow = [game for game in games if game["role"] == "shadow"]
        assert len(shadow) == 8
        for game in games:
            assert (game["status"] == "ok") == (game["score_a"] is not None)
            assert game["status"] != "failed" or game["raw"] is not None
    tested = arena.lake.read("arena_responses", "i01.3-rl").to_pylist()
    assert {r["contestant"] for r in tested} == {"base", "reference", "best-of-2", *ROUNDS}


def test_every_training_row_can_be_traced(arena):
    """From the training set back to its battle, its answers and its prompt, in one query."""
    for key, kind in zip(ROUNDS, ("sft", "preference", "preference"), strict=True):
        lost = arena.lake.query(
            """
            select count(*) as lost from rows
            left join battles on battles.battle_id = rows.battle_id
            left join responses on responses.response_id = rows.chosen_response
              and responses.contestant = rows.chosen_contestant
              and responses.prompt_id = rows.prompt_id
            left join prompts on prompts.prompt_id = rows.prompt_id
            where rows.kind = $kind and (battles.winner is distinct from rows.chosen_contestant
              or responses.text is distinct from rows.chosen or prompts.prompt_id is null)
            """,
            {"kind": kind},
            rows=("training_set", key),
            battles=("battles", key),
            responses=("responses", key),
            prompts=("prompts_curated", "all"),
        )
        assert lost.to_pylist() == [{"lost": 0}]


def test_checkpoints_are_whole_and_say_where_they_come_from(arena):
    parent = models(arena)["tiny"].digest
    for previous, key in zip([None, *ROUNDS], ROUNDS, strict=False):
        manifest = arena.checkpoints.verify(key, thorough=True)
        folder = arena.checkpoints.path(key)
        if previous:
            (promoted,) = arena.lake.read("promotions", previous).to_pylist()
            parent = promoted["model_digest"]
            assert manifest.parent == promoted["contestant"]
        assert manifest.parent_digest == parent
        assert manifest.training_set_digest == learned_digest(arena.lake.path("training_set", key))
        assert manifest.digest != parent
        with safe_open(folder / "model.safetensors", "pt") as weights:
            assert len(list(weights.keys())) > 10
        files = {path.suffix for path in folder.rglob("*") if path.is_file()}
        assert not files & {".bin", ".pt", ".pkl"}, "safetensors only"
    shown = [path.name for path in arena.checkpoints.root.iterdir() if path.name[0] != "."]
    assert sorted(shown) == ROUNDS


def test_the_leaderboard_rates_the_base_model_every_checkpoint_and_all_opponents(turned):
    board = json.loads(arena_command("leaderboard", "--format", "json").stdout)
    assert board["round"] == "i01.3-rl"
    names = {row["contestant"] for row in board["leaderboard"]}
    assert names == {"base", "reference", "best-of-2", *ROUNDS}
    anchor = next(row for row in board["leaderboard"] if row["contestant"] == "best-of-2")
    assert anchor["rating"] == pytest.approx(1000)
    assert board["leaderboard"][0]["contestant"] == "reference", "its answers meet all constraints"
    assert board["progress"]["base"] == "base"
    gain, lower, upper = (board["progress"][f"gain{part}"] for part in ("", "_lower", "_upper"))
    assert lower < gain < upper or board["progress"]["promoted"] == "base"
    first = json.loads(
        arena_command("leaderboard", "--after", ROUNDS[0], "--format", "json").stdout
    )
    assert {row["contestant"] for row in first["leaderboard"]} == names - set(ROUNDS[1:])


def test_reports_tell_progress_pairs_and_categories(arena):
    read = {
        name: arena.lake.query("select * from t", t=(name, "i01.3-rl")).to_pylist()
        for name in (
            "target_progress",
            "leaderboard_history",
            "battles_by_pair",
            "category_gains",
            "judge_audit",
        )
    }
    progress = read["target_progress"]
    assert [row["contestant"] for row in progress] == ["base", *ROUNDS]
    assert progress[0]["gain_over_base"] == 0 and progress[0]["gain_over_previous"] is None
    assert len(read["leaderboard_history"]) == 4 + 5 + 6
    assert {row["rated_after"] for row in read["leaderboard_history"]} == set(ROUNDS)
    pairs = read["battles_by_pair"]
    assert len(pairs) == 15 and {row["battles"] for row in pairs} == {20}
    for row in pairs:
        assert row["decided"] + row["ties"] + row["inconsistent"] + row["without_verdict"] == 20
    tested = {row["prompt_id"]: row for row in arena.lake.read("arena_testset").to_pylist()}
    base = [row for row in read["category_gains"] if row["contestant"] == "base"]
    assert sum(row["prompts"] for row in base) == len(tested)
    assert {row["gain_over_base"] for row in base} == {0.0}
    quality = {row["judge"]: row for row in read["judge_audit"]}
    assert quality["verifier"]["flip_rate"] == 0 and quality["tiny-judge"]["games"] == 8


def test_status_and_judges_are_printed(turned):
    states = json.loads(arena_command("status", "--format", "json").stdout)
    assert [(state["round"], state["state"]) for state in states] == [(k, "done") for k in ROUNDS]
    judges = json.loads(arena_command("judges", "--format", "json").stdout)
    assert {row["judge"] for row in judges} == {"verifier", "tiny-judge"}
    assert "judges of i01.3-rl" in arena_command("judges").stdout
    found = arena_command("verify", "--format", "json")
    assert found.returncode == 0
    assert {row["weights"]: row["state"] for row in json.loads(found.stdout)} == dict.fromkeys(
        ["tiny", *ROUNDS], "ok"
    )


def test_a_second_run_generates_judges_and_trains_nothing(arena):
    kept = {path: path.stat().st_mtime_ns for path in arena.lake.root.rglob("*") if path.is_file()}
    again = arena_command("run")
    assert again.returncode == 0 and "every round is done" in again.stdout
    assert kept == {
        path: path.stat().st_mtime_ns for path in arena.lake.root.rglob("*") if path.is_file()
    }


def test_a_round_turned_again_finds_everything_and_changes_nothing(arena):
    before = {
        name: arena.lake.digest(name, "i01.1-sft")
        for name in ("responses", "judgments", "training_set", "ratings", "promotions")
    }
    weights = arena.checkpoints.manifest("i01.1-sft")
    again = arena_command("run", "--again", "i01.1-sft")
    assert again.returncode == 0, again.stderr
    assert "turned i01.1-sft" in again.stdout and "not trained again" in again.stderr
    assert "base: 0 generated, 16 found" in again.stderr
    assert "verifier: 0 games judged anew" in again.stderr
    assert before == {name: arena.lake.digest(name, "i01.1-sft") for name in before}
    assert arena.checkpoints.manifest("i01.1-sft") == weights


def test_another_judge_sees_the_stored_responses_and_nothing_is_generated(arena, tmp_path):
    judge = tmp_path / "judge.yaml"
    judge.write_text(
        "judge: {kind: llm, name: second-opinion, model: tiny, attempts: 1, self_judging: allow,"
        " sampling: {max_tokens: 48}}\nbattles: 6\n",
        "utf-8",
    )
    before = arena.lake.digest("responses", "i01.1-sft")
    again = arena_command("rejudge", "i01.1-sft", "--judge", str(judge))
    assert again.returncode == 0, again.stderr
    assert "second-opinion" in again.stdout and "generated" not in again.stderr
    assert arena.lake.digest("responses", "i01.1-sft") == before
    audit = {row["judge"]: row for row in arena.lake.read("judge_audit", "i01.1-sft").to_pylist()}
    assert audit["second-opinion"]["games"] == 12 and audit["second-opinion"]["role"] == "shadow"
    assert audit["verifier"]["cost"] == 0 and audit["second-opinion"]["cost"] is None
    wrong = arena_command("rejudge", "i01.1-sft", "--judge", str(tmp_path / "none.yaml"))
    assert wrong.returncode == 1 and "none.yaml" in wrong.stderr


def test_a_plan_of_what_is_done_has_nothing_to_do(arena):
    planned = json.loads(arena_command("plan", "--format", "json").stdout)
    work = {(row["round"], row["work"], row["who"]): row for row in planned["work"]}
    assert work["i01.1-sft", "responses", "base"]["total"] == 16
    assert work["i01.1-sft", "judgments", "verifier"]["total"] == 16 * 3 * 2
    assert work["i01.1-sft", "judgments", "tiny-judge"]["total"] == 8
    assert work["i01.3-rl", "arena_judgments", "verifier"]["total"] == 20 * 15 * 2
    assert {row["to_do"] for row in planned["work"]} == {0}
    assert planned["total"]["seconds"] == 0 and planned["total"]["cost"] == 0


def test_judges_are_compared_with_labels_of_people(arena, tmp_path):
    battles = arena.lake.query(
        "select * from battles where role = 'deciding' and status in ('decided', 'tie')",
        battles=("battles", "i01.1-sft"),
    ).to_pylist()
    labels = tmp_path / "labels.csv"
    lines = ["prompt_id,contestant_a,contestant_b,winner"]
    for row in battles:  # people see the contestants the other way round
        winner = row["winner"] or "tie"
        lines.append(f"{row['prompt_id']},{row['contestant_2']},{row['contestant_1']},{winner}")
    labels.write_text("\n".join(lines), "utf-8")
    arguments = ("judges", "--round", "i01.1-sft", "--labels", str(labels), "--format", "json")
    audit = {row["judge"]: row for row in json.loads(arena_command(*arguments).stdout)}
    assert audit["verifier"]["reference"] == "labels"
    assert audit["verifier"]["battles_compared"] == len(battles)
    assert audit["verifier"]["agreement"] == 1 and audit["verifier"]["kappa"] == pytest.approx(1)
    labels.write_text(lines[0] + "\np,a,b,nobody\n", "utf-8")
    wrong = arena_command(*arguments)
    assert wrong.returncode == 1 and "'nobody' is none of the row's contestants" in wrong.stderr


def test_data_docs_are_built(turned):
    folder = Path(os.environ["ARENA_DATA_DOCS"]) / "tiny"
    index = (folder / "index.html").read_text("utf-8")
    assert '<a href="training_set/i01.3-rl.html">' in index and "<td>passed</td>" in index
    assert "Expectation" in (folder / "judgments" / "i01.1-sft.html").read_text("utf-8")
