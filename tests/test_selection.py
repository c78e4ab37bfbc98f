"""What is learned: whole answers only, and every battle is a row or is left out with its reason."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from test_dbt import GAP, dbt, expected_battles, fight

from arena_assets.assets.dbt import _counted_reasons
from arena_assets.flywheel.arena import Arena
from arena_assets.lake.lake import Lake

ROUND = "i01.2-dpo"
STATES = {  # finish reason, status and text of an answer -> what is wrong with it
    ("stop", "ok", "{}"): None,
    ("recorded", "ok", "{}"): None,
    ("unknown", "ok", "{}"): None,
    ("end_turn", "ok", "{}"): None,
    ("length", "ok", "{}"): "cut off",
    ("MAX_TOKENS", "ok", "{}"): "cut off",
    ("Max-Tokens ", "ok", "{}"): "cut off",
    ("content_filter", "ok", "{}"): "refused",
    ("stop", "refused", "{}"): "refused",
    ("abort", "ok", "{}"): "failed",
    ("stop", "ok", " \n"): "empty",
    ("stop", "ok", "\u200b\ufeff"): "empty",
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Lake:
    """A round of forty prompts whose answers are in every state, as dbt selects from it."""
    folder = tmp_path_factory.mktemp("selection")
    lake, draw = Lake(folder / "lake"), random.Random(8)
    fight(lake, ROUND, draw, prompts=40)
    answers = lake.read("responses", ROUND).to_pylist()
    for row in answers:
        states = [*STATES] if draw.random() < 0.5 else [*STATES][:1]
        row["finish_reason"], row["status"], text = draw.choice(states)
        row["text"] = text.format(row["text"])
        row["turns"] = [row["text"]]
    lake.write("responses", answers, ROUND)
    prompt = {"source": "s", "messages": [], "constraints": "[]", "category": "c"}
    ids = sorted({row["prompt_id"] for row in answers})
    lake.write("prompts_curated", [{"prompt_id": name, **prompt} for name in ids])
    (lake.root / "selection_drops").mkdir()
    selected = "fqn:arena.battles.battles path:models/selection fqn:arena.marts.selection_drops"
    (folder / "log").write_text(dbt(lake, ROUND, folder, selected))
    return lake


def rows_of(lake, table):
    return lake.query("select * from t", t=(table, ROUND)).to_pylist()


def faults(lake) -> dict[tuple[str, str], str | None]:
    """(prompt, contestant) -> what is wrong with the answer."""
    found = {}
    for row in lake.read("responses", ROUND).to_pylist():
        text = "{}" if row["text"].strip("\u200b\ufeff \n") else row["text"]
        state = (row["finish_reason"], row["status"], text)
        found[row["prompt_id"], row["contestant"]] = STATES[state]
    return found


def decided(lake):
    """prompt -> its decided battles: winner, loser, gap and the winner's score."""
    battles: dict[str, list[tuple[str, str, float, float]]] = {}
    for (prompt, *pair), battle in expected_battles(
        lake.read("judgments", ROUND).to_pylist()
    ).items():
        if battle["status"] == "decided":
            winner = battle["winner"]
            (loser,) = set(pair) - {winner}
            fought = (winner, loser, battle["gap"], battle["scores"][winner])
            battles.setdefault(prompt, []).append(fought)
    return battles


def test_sft_learns_the_best_whole_answer_that_beat_the_target_by_k(lake):
    wrong, expected = faults(lake), {}
    for prompt, battles in decided(lake).items():
        lost = [b for b in battles if b[1] == "base" and wrong[prompt, b[0]] is None]
        best = min(lost, key=lambda b: (-b[3], -b[2], b[0]), default=None)
        if best and best[2] >= GAP[ROUND]:
            expected[prompt] = best[0]
    rows = rows_of(lake, "sft_rows")
    assert {row["prompt_id"]: row["chosen_contestant"] for row in rows} == expected
    assert any(wrong[row["prompt_id"], "base"] for row in rows), (
        "what is not learned may be cut off"
    )


def test_both_sides_of_a_preference_are_whole(lake):
    wrong, expected = faults(lake), {}
    for prompt, battles in decided(lake).items():
        whole = [
            b
            for b in battles
            if b[2] >= GAP[ROUND] and not (wrong[prompt, b[0]] or wrong[prompt, b[1]])
        ]
        best = min(whole, key=lambda b: ("base" not in b[:2], -b[2], b[0], b[1]), default=None)
        if best:
            expected[prompt] = best[:2]
    rows = rows_of(lake, "preference_pairs")
    found = {r["prompt_id"]: (r["chosen_contestant"], r["rejected_contestant"]) for r in rows}
    assert found == expected and len(found) > 10


def test_a_policy_answers_what_somebody_could_answer_whole(lake):
    wrong = faults(lake)
    answered = {prompt for (prompt, _), fault in wrong.items() if fault is None}
    assert {row["prompt_id"] for row in rows_of(lake, "rl_prompts")} == answered


def test_every_battle_is_a_row_or_is_left_out_with_its_reason(lake):
    battles = {row["battle_id"] for row in rows_of(lake, "battles") if row["role"] == "deciding"}
    drops = rows_of(lake, "selection_drops")
    for kind, table in (("sft", "sft_rows"), ("preference", "preference_pairs")):
        out = [row["battle_id"] for row in drops if row["kind"] == kind]
        made = [row["battle_id"] for row in rows_of(lake, table)]
        assert len(out) + len(made) == len(battles) == 120
        assert {*out, *made} == battles
    prompts = [row["prompt_id"] for row in drops if row["kind"] == "prompt"]
    made = [row["prompt_id"] for row in rows_of(lake, "rl_prompts")]
    assert sorted(prompts + made) == sorted({row["prompt_id"] for row in rows_of(lake, "battles")})


def test_reasons_are_counted_as_they_are(lake):
    wrong, expected = faults(lake), Counter()
    for prompt, battles in decided(lake).items():
        for winner, loser, gap, _ in battles:
            if gap < GAP[ROUND]:
                expected["gap below K"] += 1
            elif fault := wrong[prompt, winner]:
                expected[f"chosen: {fault}"] += 1
            elif fault := wrong[prompt, loser]:
                expected[f"rejected: {fault}"] += 1
    drops = [row for row in rows_of(lake, "selection_drops") if row["kind"] == "preference"]
    found = Counter(row["reason"] for row in drops)
    other = {"another battle of the prompt was chosen"}
    undecided = {name for name in found if name.startswith("undecided: ")}
    assert {name: n for name, n in found.items() if name not in other | undecided} == expected
    assert {"chosen: cut off", "rejected: cut off"} <= expected.keys()
    counted = Counter(f"undecided: {row['status']}" for row in rows_of(lake, "battles"))
    assert {name: found[name] for name in undecided} == {
        name: n for name, n in counted.items() if name != "undecided: decided"
    }


def test_the_ui_shows_how_many_were_left_out_by_reason(lake, tiny_profile):
    arena = Arena(str(tiny_profile), str(lake.root))
    shown = _counted_reasons(arena, ROUND).md_str
    counted = Counter((row["kind"], row["reason"]) for row in rows_of(lake, "selection_drops"))
    for (kind, reason), count in counted.items():
        assert f"| {kind} | {reason} | {count} |" in shown


def test_the_unit_tests_of_each_rule_pass(lake):
    log = (lake.root.parent / "log").read_text()
    for name in (
        "sft_learns_whole_answers_only",
        "both_sides_of_a_preference_are_whole",
        "nothing_is_learned_of_two_that_say_the_same",
        "a_prompt_that_nobody_answers_whole_is_no_rl_prompt",
    ):
        assert f"::{name}" in log and "FAIL" not in log
