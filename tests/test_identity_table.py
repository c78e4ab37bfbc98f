"""Identity as a table: what a change of settings, files or code puts out of date.

A lake in which everything was made from the profile as it is; then one thing is another. Of the
tables those are named whose own making is another one; what is made from them follows when their
rows are others. A round is out of date where its promotion rests on such a table.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from conftest import PROJECT, record_round, record_testset
from test_assets import checkpoint_of

from arena_assets.cli.wheel import _refresh, round_states, rounds_to_turn
from arena_assets.flywheel import ingredients as of
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.handover import target_of
from arena_assets.flywheel.made_from import (
    MADE_FROM,
    OF_PREPARATION,
    OF_REPORTS,
    OF_ROUND,
    Making,
    identity_of,
)
from arena_assets.flywheel.moment import Moment
from arena_assets.flywheel.state import (
    changes,
    outdated,
    outdated_preparation,
    outdated_round,
    states,
)
from arena_assets.flywheel.weights import BrokenChain
from arena_assets.lake import code
from arena_assets.lake.lake import write_atomically

ROUNDS = SFT, DPO, RL = ["i01.1-sft", "i01.2-dpo", "i01.3-rl"]


def build_profile(profile: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The tests' profile with a served judge and rater, templates and a system prompt."""
    url = {"urls": ["http://127.0.0.1:1/v1"]}
    profile["models"]["tiny"]["chat_template"] = "chat.jinja"
    profile["models"]["sharp"] = {"endpoint": url | {"model": "sharp-1"}}
    profile["models"]["hard"] = {"endpoint": url | {"model": "hard-1"}}
    profile["target"]["system_prompt"] = "system.yaml"
    profile["judge"] = {"kind": "llm", "name": "judge", "model": "sharp", "template": "judge.yaml"}
    profile["prompts"]["testset"]["rater"] = {"model": "hard", "template": "rater.yaml"}
    profile["generation"]["engine"] = {"max_model_len": 2048}
    (folder / "chat.jinja").write_text("{# plain #}{{ messages[0].content }}", "utf-8")
    (folder / "system.yaml").write_text("version: '1'\nsystem: Answer in brief.\n", "utf-8")
    template = (PROJECT / "profiles/judge_templates/pairwise-v2.yaml").read_text("utf-8")
    (folder / "judge.yaml").write_text(template, "utf-8")
    template = (PROJECT / "profiles/judge_templates/difficulty-v1.yaml").read_text("utf-8")
    (folder / "rater.yaml").write_text(template, "utf-8")
    return profile


@pytest.fixture(scope="module")
def workshop(tmp_path_factory, tiny_profile):
    """A folder with a profile, its files, and a lake in which everything is of the present."""
    folder = tmp_path_factory.mktemp("identity")
    (folder / "profile").mkdir()
    profile = build_profile(yaml.safe_load(tiny_profile.read_text("utf-8")), folder / "profile")
    (folder / "profile/profile.yaml").write_text(yaml.safe_dump(profile), "utf-8")
    arena = opened(folder, folder / "profile")
    row = {"name": "tiny", "origin": arena.profile.models["tiny"].path, "path": "x", "digest": "d"}
    for table in set(OF_PREPARATION) - {"testset_versions"}:
        arena.lake.write(table, [row] if table == "models" else [])
    arena.lake.write("testset_versions", [], "v001")
    for table in ("prompts", "quarantine"):
        arena.lake.write(table, [], "seed")
        Making(arena, [table], "seed").ended(table)
    record_testset(arena)
    for table in set(OF_PREPARATION) - {"testset_versions"}:
        Making(arena, [table]).ended(table)
    for key in ROUNDS:
        digest = checkpoint_of(arena, key, key.encode())
        record_round(arena, key)
        promoted = {"round": key, "contestant": key, "model": "x", "model_digest": digest}
        promoted |= {"rating": 1.0, "lower": 0.0, "upper": 2.0, "reason": "test"}
        arena.lake.write("promotions", [promoted], key)
        for table in ("promotions", *reports()):
            if not arena.lake.exists(table, key):
                rows = pa.table({"round": [key]})
                write_atomically(rows.to_reader(), arena.lake.path(table, key))
            Making(arena, [table], key).ended(table)
    return folder


def opened(folder: Path, profile: Path) -> Arena:
    return Arena(str(profile / "profile.yaml"), str(folder / "lake"))


def reports() -> list[str]:
    return [table for table in OF_REPORTS if table != "consistency"]


def set_(path: str, value: Any) -> Callable[[dict[str, Any], Path], None]:
    """A change of the profile: the value at a path, the items of lists by number."""

    def change(profile: dict[str, Any], folder: Path) -> None:
        *parents, last = path.split("/")
        section: Any = profile
        for part in parents:
            section = section[int(part) if part.isdigit() else part]
        section[last] = value

    return change


def edit(name: str, old: str, new: str) -> Callable[[dict[str, Any], Path], None]:
    """A change of a file that the profile names."""

    def change(profile: dict[str, Any], folder: Path) -> None:
        text = (folder / name).read_text("utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1), "utf-8")

    return change


def one_opponent_more(profile: dict[str, Any], folder: Path) -> None:
    profile["opponents"].append({"name": "shy", "model": "tiny", "sampling": {"max_tokens": 3}})


def opponents_in_another_order(profile: dict[str, Any], folder: Path) -> None:
    profile["opponents"].reverse()


def a_source_more(profile: dict[str, Any], folder: Path) -> None:
    (folder / "more.jsonl").write_text('{"prompt": "Name a river of Asia."}\n', "utf-8")
    profile["prompts"]["sources"].append({"name": "more", "path": "more.jsonl"})


def a_round_appended(profile: dict[str, Any], folder: Path) -> None:
    profile["prompts"]["slices"]["names"].append("D4")
    profile["rounds"]["i02.1-sft"] = {"slice": "D4", "minimum_gap": 2.0}


def on_two_nodes(profile: dict[str, Any], folder: Path) -> None:
    profile["training"]["nodes"] = 2
    for stage in ("sft", "dpo", "reward_model", "rl"):
        profile["training"][stage]["device_batch"] = 4


def nothing(profile: dict[str, Any], folder: Path) -> None:
    pass


def everywhere(*tables: str) -> set[str]:
    return {f"{table} of {key}" for table in tables for key in ROUNDS}


ANSWERS = everywhere("responses", "arena_responses")
VERDICTS = everywhere("judgments", "arena_judgments")
CHOSEN = ("sft_rows", "preference_pairs", "selection_drops")  # by a round's rule
TESTSET = {"testset_versions", "arena_testset", "dropped_near_testset", "prompts_curated"}
TESTSET |= {"decontamination_report"}
COLLECTED = {"dropped_unsafe", "dropped_short", "dropped_prefixes", "dropped_near_duplicates"}
COLLECTED |= {"prompt_embeddings", "dropped_contaminated", "dropped_languages"}
COLLECTED |= {"dropped_near_testset", "prompts_curated", "decontamination_report"}
URL, PRICE = ["http://10.0.0.7:8000/v1"], {"prompt": 1.0, "completion": 2.0}
# what is another -> the tables that are to be made again, the rounds that are out of date
CHANGES: dict[str, tuple[Callable[[dict[str, Any], Path], None], set[str], list[str]]] = {
    "nothing": (nothing, set(), []),
    # a stage's training
    "DPO learning rate": (
        set_("training/dpo/learning_rate", 2e-4),
        {f"checkpoint of {DPO}"},
        [DPO, RL],
    ),
    "SFT epochs": (set_("training/sft/epochs", 2), {f"checkpoint of {SFT}"}, ROUNDS),
    "reward model's epochs": (
        set_("training/reward_model/epochs", 2),
        {f"checkpoint of {RL}"},
        [RL],
    ),
    "K of one round": (
        set_(f"rounds/{DPO}/minimum_gap", 1.0),
        {f"{table} of {DPO}" for table in ("selection_candidates", *CHOSEN)},
        [DPO, RL],
    ),
    "the rule of selection of one round": (
        set_(f"rounds/{DPO}/selection", "random"),
        {f"{table} of {DPO}" for table in ("selected_candidates", *CHOSEN)},
        [DPO, RL],
    ),
    "the pair judge by its name": (set_(f"rounds/{DPO}/selection", "pair-judge"), set(), []),
    "one round's learning rate": (
        set_(f"rounds/{DPO}/training", {"dpo": {"learning_rate": 2e-4}}),
        {f"checkpoint of {DPO}"},
        [DPO, RL],
    ),
    "the learning rate of another stage in a round": (
        set_(f"rounds/{DPO}/training", {"sft": {"learning_rate": 2e-4}}),
        set(),
        [],
    ),
    "the learning rate that a round has anyway": (
        set_(f"rounds/{DPO}/training", {"dpo": {"learning_rate": 1e-4}}),
        set(),
        [],
    ),
    "the seed of one round": (
        set_(f"rounds/{DPO}/training", {"seed": 9}),
        {f"checkpoint of {DPO}"},
        [DPO, RL],
    ),
    "training from the best": (
        set_(f"rounds/{RL}/trains_from", "best"),
        {f"checkpoint of {RL}"},
        [RL],
    ),
    "training's seed": (set_("training/seed", 9), everywhere("checkpoint"), ROUNDS),
    "a window with the same rounds in it": (set_(f"rounds/{RL}/data", "this"), set(), []),
    "own samples in one round": (
        set_(f"rounds/{DPO}/on_policy", {"samples": 2}),
        {f"responses of {DPO}"},
        [DPO, RL],
    ),
    "what one round trains from": (
        set_(f"rounds/{DPO}/trains_from", "base"),
        {f"checkpoint of {DPO}"},
        [DPO, RL],
    ),
    "training from the last checkpoint": (
        set_(f"rounds/{DPO}/trains_from", "last"),
        {f"checkpoint of {DPO}"},
        [DPO, RL],
    ),
    "training's number type": (
        set_("training/dtype", "bfloat16"),
        everywhere("checkpoint"),
        ROUNDS,
    ),
    "launcher": (set_("training/launcher", ["srun"]), set(), []),
    "nodes, with the passes that they share": (on_two_nodes, set(), []),
    "whole models in every process": (
        set_("training/accelerate", "profiles/accelerate/ddp.yaml"),
        set(),
        [],
    ),
    "a model shared out over processes": (
        set_("training/accelerate", "profiles/accelerate/fsdp2.yaml"),
        everywhere("checkpoint"),
        ROUNDS,
    ),
    "device batch": (set_("training/sft/device_batch", 1), set(), []),
    "gradient checkpointing": (set_("training/gradient_checkpointing", True), set(), []),
    # judges
    "a word of the judge's template": (
        edit("judge.yaml", "Judge answer A", "Rate answer A"),
        VERDICTS,
        ROUNDS,
    ),
    "a comment in the judge's template": (
        edit("judge.yaml", "Judge answer A", "{# both #}Judge answer A"),
        set(),
        [],
    ),
    "the label of the judge's template": (
        edit("judge.yaml", "version: pairwise", "version: my-pairwise"),
        VERDICTS,  # which name it; nobody is asked again
        ROUNDS,
    ),
    "the judge's model": (
        set_("models/sharp/endpoint/model", "sharp-2"),
        VERDICTS | {"models"},
        ROUNDS,
    ),
    "the judge's URL": (set_("models/sharp/endpoint/urls", URL), set(), []),
    "the judge's price": (set_("models/sharp/price", PRICE), everywhere("judge_audit"), []),
    "the shadow judge's sample": (
        set_("shadow_judges/0/battles", 5),
        everywhere("judgments"),
        ROUNDS,
    ),
    "who meets whom": (
        set_("battles", {"mode": "target_against_opponents"}),
        everywhere("judgments"),
        ROUNDS,
    ),
    "flips": (
        set_("battles", {"flips": "mean"}),
        everywhere("battles", "arena_battles"),
        ROUNDS,
    ),
    # contestants
    "a contestant's temperature": (
        set_("opponents/1/sampling/temperature", 0.5),
        ANSWERS,
        ROUNDS,
    ),
    "a word of the system prompt": (
        edit("system.yaml", "brief", "rhyme"),
        ANSWERS | everywhere("checkpoint"),
        ROUNDS,
    ),
    "the label of the system prompt": (
        edit("system.yaml", "'1'", "'2'"),
        ANSWERS,  # which name it; nobody is asked again, and nothing trained again
        ROUNDS,
    ),
    "a comment in the system prompt's file": (
        edit("system.yaml", "version", "# short\nversion"),
        set(),
        [],
    ),
    "a word of the chat template": (
        edit("chat.jinja", "{{", "User: {{"),
        # shadow judge and base model have it; checkpoints were trained with it and have their own
        ANSWERS | everywhere("judgments", "promotions") | {f"checkpoint of {SFT}"},
        ROUNDS,
    ),
    "a comment in the chat template": (edit("chat.jinja", "plain", "simple"), set(), []),
    "the engine's number type": (
        set_("generation/engine/dtype", "float16"),
        ANSWERS | everywhere("judgments"),
        ROUNDS,
    ),
    "whether code that comes with weights is run": (
        set_("models/tiny/trust_remote_code", True),
        ANSWERS | everywhere("judgments") | {"models"},
        ROUNDS,
    ),
    "the engine's longest text": (
        set_("generation/engine/max_model_len", 1024),
        ANSWERS | everywhere("judgments"),
        ROUNDS,
    ),
    "the engine's share of memory": (
        set_("generation/engine/gpu_memory_utilization", 0.5),
        set(),
        [],
    ),
    "prompts asked together": (set_("generation/batch", 8), set(), []),
    "one opponent more": (one_opponent_more, ANSWERS, ROUNDS),
    "an opponent that leaves": (
        set_("opponents/0/leaves", RL),
        {f"responses of {RL}", f"arena_responses of {RL}"},
        [RL],
    ),
    "an opponent that joins": (
        set_("opponents/0/joins", DPO),
        {f"responses of {SFT}", f"arena_responses of {SFT}"},
        ROUNDS,
    ),
    "the order of opponents": (opponents_in_another_order, set(), []),
    "tokens per second": (set_("models/tiny/tokens_per_second", 9.0), set(), []),
    "an unused model": (
        set_("models/idle", {"endpoint": {"urls": URL, "model": "idle"}}),
        {"models"},
        [],
    ),
    # ratings
    "the anchor's rating": (set_("ratings/anchor_rating", 1200), everywhere("ratings"), ROUNDS),
    "resamples that are not drawn": (set_("ratings/bootstrap", 70), set(), []),
    "resamples": (set_("ratings/interval", "bootstrap"), everywhere("ratings"), ROUNDS),
    "who is promoted": (set_("promotion", "latest"), everywhere("promotions"), ROUNDS),
    "that a person has to approve": (
        set_("promotion", {"approval": "manual"}),
        everywhere("promotions"),
        ROUNDS,
    ),
    "what a category may lose": (
        set_("promotion", {"guard": {"category_drop": 0.1}}),
        everywhere("promotions"),
        ROUNDS,
    ),
    "what may be forgotten": (set_("quality", {"forgetting": 5.0}), set(), []),
    "a split into as large parts as before": (
        set_("prompts/testset/report_share", 0.5),
        set(),
        [],
    ),
    "the share that reports": (
        set_("prompts/testset/report_share", 0.3),
        {"arena_testset"},  # the same version, and so the same prompts
        ROUNDS,
    ),
    "what makes a family": (
        set_("prompts/testset/families", "category"),
        {"arena_testset"},
        ROUNDS,
    ),
    "what is held out": (set_("prompts/testset/held_out_constraints", 1), TESTSET, ROUNDS),
    # prompts
    "a source more": (a_source_more, COLLECTED | {"prompts of more"}, []),
    "the default encoder's batch": (
        set_("prompts/encoder", {"package": "wordllama", "batch": 8}),
        set(),
        [],
    ),
    "a step of curation": (set_("prompts/minimum_words", 4), {"dropped_short"}, []),
    "the test set's edition": (set_("prompts/testset/edition", 2), TESTSET, ROUNDS),
    "the rater's model": (
        set_("models/hard/endpoint/model", "hard-2"),
        TESTSET | {"models"},
        ROUNDS,
    ),
    "a word of the rater's template": (
        edit("rater.yaml", "how difficult", "how hard"),
        TESTSET,
        ROUNDS,
    ),
    "the label of the rater's template": (
        edit("rater.yaml", "version: ", "version: my-"),
        set(),
        [],
    ),
    "the rater's price": (set_("models/hard/price", PRICE), set(), []),
    "the rater's URL": (set_("models/hard/endpoint/urls", URL), set(), []),
    # all of it
    "seed": (
        set_("seed", 4),
        TESTSET | {"slices"} | ANSWERS | everywhere("judgments", "checkpoint"),
        ROUNDS,
    ),
    "limits of quality": (set_("quality", {"minimum_training_rows": 5}), set(), []),
    "the executor": (set_("executor", "multiprocess"), set(), []),
    "the arena's name": (set_("name", "other"), set(), []),
    "a round appended": (a_round_appended, {"slices"}, ["i02.1-sft"]),
}


def after(workshop: Path, tmp_path: Path, change: Callable[[dict[str, Any], Path], None]) -> Arena:
    """The same lake under another profile, whose files lie in another folder."""
    folder = tmp_path / "profile"
    shutil.copytree(workshop / "profile", folder)
    profile = yaml.safe_load((folder / "profile.yaml").read_text("utf-8"))
    change(profile, folder)
    (folder / "profile.yaml").write_text(yaml.safe_dump(profile), "utf-8")
    return opened(workshop, folder)


def made_again(arena: Arena) -> set[str]:
    old = set(outdated_preparation(arena))
    for key in ROUNDS:
        tables = [*OF_ROUND, *reports()]
        old |= {f"{table} of {key}" for table in outdated(arena, tables, key)}
    return old


def not_done(arena: Arena) -> list[str]:
    return [key for key, state in states(arena).items() if state.name != "done"]


@pytest.mark.parametrize("what", CHANGES)
def test_what_a_change_puts_out_of_date(workshop, tmp_path, what):
    change, tables, rounds = CHANGES[what]
    arena = after(workshop, tmp_path, change)
    assert made_again(arena) == tables
    assert not_done(arena) == rounds


@pytest.mark.parametrize(
    ("name", "tables", "rounds"),
    [
        ("battles", everywhere("battles"), ROUNDS),
        ("sft_rows", everywhere("sft_rows"), ROUNDS),  # the SFT round rests on them
        ("preference_pairs", everywhere("preference_pairs"), [DPO, RL]),
        ("rl_prompts", everywhere("rl_prompts"), [RL]),
        ("leaderboard", everywhere("leaderboard"), []),
        ("ratings", everywhere("ratings"), ROUNDS),
        ("verifier", VERDICTS | ANSWERS, ROUNDS),  # it chooses the best of several answers too
        ("slices", {"slices"}, []),
        # a version of the test set that was drawn stays, whoever rated it
        ("testset_versions", set(), []),
        ("difficulty", set(), []),
        ("served engine", VERDICTS | ANSWERS, ROUNDS),
        ("local engine", VERDICTS | ANSWERS, ROUNDS),
        ("asking", VERDICTS | ANSWERS, ROUNDS),
    ],
)
def test_what_another_version_of_code_puts_out_of_date(workshop, monkeypatch, name, tables, rounds):
    monkeypatch.setitem(code.CODE, name, replace(code.CODE[name], version=99))
    arena = opened(workshop, workshop / "profile")
    assert made_again(arena) == tables
    assert not_done(arena) == rounds


def test_a_later_stage_may_be_trained_with_other_settings(workshop, tmp_path):
    """The round before is done as ever, so the next one's target is its checkpoint."""
    arena = after(workshop, tmp_path, CHANGES["DPO learning rate"][0])
    assert target_of(arena, DPO).contestant == SFT


@pytest.mark.parametrize(
    ("what", "old"),
    [("the judge's price", ["judge_audit"]), ("the judge's URL", [])],
)
def test_reports_of_finished_rounds_are_made_anew_and_no_round_is_turned(
    workshop, tmp_path, what, old
):
    runs, said = [], []
    arena = after(workshop, tmp_path, CHANGES[what][0])
    _refresh(arena, SFT, lambda *job, only=None: runs.append((*job, only)), said.append)
    assert runs == ([("turn_round", SFT, old)] if old else [])
    assert said == [
        f"{SFT}: done, " + ("but for reports: judge_audit" if old else "nothing changed")
    ]


def test_status_and_plan_name_the_first_table_that_is_out_of_date_and_why(workshop, tmp_path):
    arena = after(workshop, tmp_path, CHANGES["DPO learning rate"][0])
    shown = [(r["round"], r["state"], r["out_of_date"], r["because"]) for r in round_states(arena)]
    old, why = f"checkpoint of {DPO}", "dpo.learning_rate 0.0001 -> 0.0002"
    expected = [
        (SFT, "done", None, None),
        (DPO, "out of date", old, why),
        (RL, "out of date", old, why),
    ]
    assert shown == expected
    lines = [f"{r}: out of date, first of all {old} ({why})" for r in (DPO, RL)]
    assert rounds_to_turn(arena) == lines
    assert rounds_to_turn(arena, SFT) == []
    assert changes(arena) == [("checkpoint", DPO, why)]
    assert changes(arena, SFT) == []


@pytest.mark.parametrize(
    ("what", "table", "why"),
    [
        ("K of one round", f"preference_pairs of {DPO}", "minimum_gap 2 -> 1"),
        ("one round's learning rate", f"checkpoint of {DPO}", "dpo.learning_rate 0.0001 -> 0.0002"),
        ("what one round trains from", f"checkpoint of {DPO}", "models counts now"),
        ("training's seed", f"checkpoint of {SFT}", "training_seed 3 -> 9"),
        ("who meets whom", f"judgments of {SFT}", "mode default -> target_against_opponents"),
        ("one opponent more", f"responses of {SFT}", "shy is new"),
        ("a contestant's temperature", f"responses of {SFT}", "best-of-2 changed"),
        ("an opponent that leaves", f"responses of {RL}", "reference is gone"),
        ("a word of the judge's template", f"judgments of {SFT}", "judge changed"),
        ("the anchor's rating", f"ratings of {SFT}", "ratings.anchor_rating default -> 1200"),
        ("the test set's edition", "testset_versions", "testset.edition default -> 2"),
        ("the rater's model", "testset_versions", "rater.model "),
        ("the rule of selection of one round", f"preference_pairs of {DPO}", "rule default -> ran"),
    ],
)
def test_a_change_is_told_with_the_tables_that_it_touches(workshop, tmp_path, what, table, why):
    found = {
        c.table if c.partition == "all" else f"{c.table} of {c.partition}": c.because
        for c in changes(after(workshop, tmp_path, CHANGES[what][0]))
    }
    assert why in found[table]


def test_a_version_of_code_is_told_and_a_file_that_somebody_changed(
    workshop, tmp_path, monkeypatch
):
    arena = a_copy(workshop, tmp_path)
    write_atomically(
        pa.table({"round": ["other"]}).to_reader(), arena.lake.path("arena_battles", DPO)
    )
    monkeypatch.setitem(code.CODE, "ratings", replace(code.CODE["ratings"], version=99))
    told = {(c.table, c.partition): c.because for c in changes(arena)}
    assert told["arena_battles", DPO] == "made by hand, or before this was noted"
    assert "-> 99, columns " in told["ratings", SFT]
    assert f"arena_battles of {DPO} changed" in told["ratings", DPO]


def test_a_window_of_fewer_rounds_makes_another_training_set_and_no_other_table(workshop, tmp_path):
    def shorter(profile, folder):
        a_round_appended(profile, folder)
        profile["rounds"]["i02.1-sft"]["data"] = "this"

    found = []
    for name, change in (("all", a_round_appended), ("this", shorter)):
        now = Moment(after(workshop, tmp_path / name, change))
        found.append({table: identity_of(now, table, "i02.1-sft") for table in OF_ROUND})
    assert {table for table in OF_ROUND if found[0][table] != found[1][table]} == {"training_set"}


def test_k_counts_for_rows_where_the_pair_judge_chooses_them(workshop, tmp_path):
    """Under another rule it says how many rows there are, and that is in what the rule chose."""
    found = []
    for number, gap in enumerate((1.0, 2.0)):

        def change(profile, folder, gap=gap):
            profile["rounds"][DPO] |= {"selection": "random", "minimum_gap": gap}

        now = Moment(after(workshop, tmp_path / str(number), change))
        found.append({table: identity_of(now, table, DPO) for table in (*OF_ROUND, *OF_REPORTS)})
    other = {table for table in found[0] if found[0][table] != found[1][table]}
    assert other == {"selection_candidates"}


def a_copy(workshop: Path, tmp_path: Path, change: Callable[..., None] = nothing) -> Arena:
    """Profile and lake, to work in."""
    shutil.copytree(workshop / "lake", tmp_path / "copied/lake")
    return opened(tmp_path / "copied", after(workshop, tmp_path, change).profile_path.parent)


def test_a_test_set_is_noted_with_the_settings_that_it_was_drawn_by(workshop, tmp_path):
    arena = a_copy(workshop, tmp_path, set_("seed", 4))
    lake, before = arena.lake, of.testset_identity(Moment(arena))
    making = Making(arena, ["testset_versions"])
    lake.write("testset_versions", [], "v002")
    edit("rater.yaml", "how difficult", "how hard")({}, tmp_path / "profile")
    making.ended("testset_versions", "v002")
    assert arena.made_from("testset_versions", "v002") == before
    assert of.testset_version(Moment(arena)) is None, "none was drawn by the template of now"


@pytest.mark.parametrize(
    ("tables", "key", "other", "made"),
    [
        (("leaderboard", "leaderboard_history"), DPO, ("leaderboard", SFT), "leaderboard_history"),
        (("sft_rows", "training_set"), "i02.1-sft", ("sft_rows", SFT), "training_set"),
    ],
)
def test_tables_of_earlier_rounds_count_as_they_were_when_the_making_began(
    workshop, tmp_path, tables, key, other, made
):
    arena = a_copy(workshop, tmp_path, a_round_appended)
    making = Making(arena, tables, key)
    for table, rounds in [(other[0], [other[1], "anew"]), *((table, [key]) for table in tables)]:
        place = arena.lake.path(table, other[1] if rounds[-1] == "anew" else key)
        write_atomically(pa.table({"round": rounds}).to_reader(), place)
    for table in tables:
        making.ended(table)
    assert outdated(arena, tables, key) == [made], "it was read before the other one changed"
    Making(arena, [made], key).ended(made)
    assert outdated(arena, tables, key) == []


def test_another_version_of_a_package_with_weights_puts_the_models_out_of_date(
    workshop, tmp_path, monkeypatch
):
    arena = after(workshop, tmp_path, set_("models/small", {"package": "llm-some"}))
    monkeypatch.setattr(of, "package_version", lambda model: model.package and "1.0")
    before = identity_of(Moment(arena), "models", "all")
    assert identity_of(Moment(arena), "models", "all") == before
    monkeypatch.setattr(of, "package_version", lambda model: model.package and "2.0")
    assert identity_of(Moment(arena), "models", "all") != before


@pytest.mark.parametrize("share", [None, 0.5])
def test_the_judge_that_chooses_the_battles_of_a_jury_counts(workshop, tmp_path, share):
    found = []
    for names in (("strict", "mild"), ("mild", "strict")):

        def change(profile, folder, names=names):
            seat = {"kind": "llm", "model": "sharp", "template": "judge.yaml"}
            members = [{"judge": seat | {"name": name}} for name in names]
            profile["judge"] = {"kind": "jury", "members": members}
            profile["ratings"]["sampling"] = share and {"share": share}

        now = Moment(after(workshop, tmp_path / names[0], change))
        found.append([identity_of(now, t, SFT) for t in ("judgments", "arena_judgments")])
    (judged, chosen), (judged_too, chosen_by_another) = found
    assert judged == judged_too
    assert (chosen == chosen_by_another) is (share is None)


def test_a_round_that_rests_on_an_old_test_set_names_what_to_make_again(workshop, tmp_path):
    arena = after(workshop, tmp_path, CHANGES["the test set's edition"][0])
    advice = r"first of all testset_versions\): materialize testset_versions, then i01.1-sft, again"
    with pytest.raises(BrokenChain, match=advice):
        target_of(arena, DPO)
    assert {row["out_of_date"] for row in round_states(arena)} == {"testset_versions"}
    assert outdated_round(arena, SFT)[:2] == ["testset_versions", "arena_testset"]


def test_every_table_is_in_the_table():
    """What no change of settings reaches is made from other tables alone."""
    named = {place.split(" of ")[0] for _, tables, _ in CHANGES.values() for place in tables}
    alone = {table for table in MADE_FROM if not MADE_FROM[table].settings and table not in named}
    settled = {"benchmarks", "dropped_unsafe", "consistency"}
    assert named | alone | settled == set(MADE_FROM)
