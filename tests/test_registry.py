"""The registry: names, what weights did, where they come from, what they took, how they differ."""

from __future__ import annotations

import csv
import io
import json
import shutil

import pytest
from conftest import arena_command
from registry_lake import fill, put_arena, put_checkpoint, put_training_set, small_arena
from test_assets import FIRST, SECOND, THIRD
from test_crash_safety import flip
from typer.testing import CliRunner

from arena_assets.cli.models import app
from arena_assets.flywheel.comparison import compare, differences
from arena_assets.flywheel.details import details
from arena_assets.flywheel.registry import RegistryError, entries, lineage, resolve
from arena_assets.training.summaries import summary


@pytest.fixture
def arena(tmp_path):
    return small_arena(tmp_path)


@pytest.fixture
def digests(arena):
    return fill(arena)


@pytest.fixture
def command(arena, monkeypatch):
    """`arena models ...` in this process, on the lake of the test."""
    monkeypatch.setenv("ARENA_PROFILE", str(arena.profile_path))
    monkeypatch.setenv("ARENA_LAKE", str(arena.lake.root))
    return lambda *arguments: CliRunner().invoke(app, arguments, catch_exceptions=False)


# -- names -------------------------------------------------------------------------------------


def test_names_are_rounds_base_promoted_and_first_digits_of_a_digest(arena, digests):
    for name in ("base", FIRST, SECOND):
        assert resolve(arena, name).name == name
    assert resolve(arena, "promoted").name == SECOND
    for name in (FIRST, SECOND):
        for cut in (digests[name], digests[name][:12], digests[name][:12].upper()):
            assert resolve(arena, cut).name == name


def test_an_unknown_name_is_refused_with_those_that_are_there(arena, digests):
    short = digests[FIRST][:12]
    for name in ("i07.1-sft", digests[FIRST][:3], "", "0000000", "../x"):
        with pytest.raises(RegistryError, match=rf"no model .*base.*{FIRST} \({short}\)"):
            resolve(arena, name)


def test_digits_that_several_digests_begin_with_are_refused_with_the_candidates(arena, digests):
    put_checkpoint(arena, THIRD, b"weights", stage="rl")  # the same files as the first
    assert resolve(arena, THIRD).digest == digests[FIRST]
    with pytest.raises(RegistryError, match=rf"may be {FIRST} \(.*, {THIRD} \(.*more digits"):
        resolve(arena, digests[FIRST][:8])


def test_nobody_is_promoted_in_an_empty_lake(arena):
    assert [entry.name for entry in entries(arena)] == ["base"]
    with pytest.raises(RegistryError, match="nobody is promoted yet: run `arena run`"):
        resolve(arena, "promoted")


def test_a_promoted_checkpoint_that_was_replaced_is_not_taken_for_the_other_one(arena, digests):
    put_checkpoint(arena, SECOND, b"trained again", stage="dpo")
    with pytest.raises(
        RegistryError, match=f"promoted {SECOND} with digest {digests[SECOND][:12]}"
    ):
        resolve(arena, "promoted")


# -- what is there -----------------------------------------------------------------------------


def test_the_list_says_what_weights_did_and_whether_they_are_whole(arena, digests):
    base, first, second = entries(arena)
    assert (base.name, base.digest, base.stage, base.state) == (
        "base",
        "base-digest",
        "base",
        "intact",
    )
    assert (first.promoted_after, first.fought_in, first.promoted) == ((FIRST,), (SECOND,), False)
    assert (second.promoted_after, second.fought_in, second.promoted) == ((SECOND,), (), True)
    assert base.fought_in == (FIRST,)
    assert [(r.after, r.rating, r.lower, r.upper) for r in first.ratings] == [
        (FIRST, 1000.0, 991.0, 1009.0), (SECOND, 1010.0, 1001.0, 1019.0),
    ]  # fmt: skip
    assert second.rating.rating == 1050.0
    assert second.size == sum(
        f.stat().st_size for f in arena.checkpoints.path(SECOND).resolve().iterdir() if f.is_file()
    )


def test_a_rating_of_other_weights_under_the_same_name_does_not_count(arena, digests):
    put_checkpoint(arena, FIRST, b"trained again")
    first = resolve(arena, FIRST)
    assert (first.ratings, first.promoted_after, first.fought_in) == ((), (), ())


def test_missing_and_corrupt_checkpoints_are_listed_as_such_with_the_reason(arena, digests):
    flip(arena.checkpoints.path(FIRST).resolve() / "model.safetensors")
    link = arena.checkpoints.path(SECOND)
    shutil.rmtree(link.resolve())
    _, first, second = entries(arena)
    assert first.state == "corrupt" and "its files have digest" in first.problem
    assert (second.state, second.digest) == ("missing", None) and "not there" in second.problem
    link.unlink()
    assert entries(arena)[2].state == "missing", "its note is still there"
    (arena.checkpoints.path(FIRST).resolve() / "manifest.json").write_text("{", "utf-8")
    assert entries(arena)[1].state == "corrupt"


def test_checkpoints_of_rounds_that_the_profile_lost_are_still_listed(arena, digests):
    put_checkpoint(arena, "i05.1-sft", b"of another profile")
    (arena.checkpoints.root / "notes").mkdir()
    assert [e.name for e in entries(arena)] == ["base", FIRST, SECOND, "i05.1-sft"]
    assert details(arena, resolve(arena, "i05.1-sft"))["state"] == "intact"


def test_weights_that_were_not_taken_in_are_missing(arena):
    arena.lake.path("models").unlink()
    (base,) = entries(arena)
    assert (base.state, base.digest) == ("missing", None) and "run `arena run`" in base.problem


# -- where it comes from ------------------------------------------------------------------------


def test_parents_are_told_up_to_the_base_model(arena, digests):
    assert lineage(arena, resolve(arena, SECOND)) == [
        {"name": FIRST, "digest": digests[FIRST], "present": True},
        {"name": "base", "digest": "base-digest", "present": True},
    ]
    assert lineage(arena, resolve(arena, "base")) == []


def test_a_parent_that_was_trained_again_is_not_taken_for_the_one_of_then(arena, digests):
    put_checkpoint(arena, FIRST, b"trained again", parent_digest="base-digest")
    assert lineage(arena, resolve(arena, SECOND)) == [
        {"name": FIRST, "digest": digests[FIRST], "present": False}
    ]


def test_details_name_data_by_digest_and_judges_by_version(arena, digests):
    known = details(arena, resolve(arena, FIRST))
    parts = {(row["table"], row["partition"]): row for row in known["data"]}
    learned = parts["training_set", FIRST]
    assert (learned["rows"], learned["state"]) == (2, "as learned")
    assert parts["judgments", FIRST]["digest"] == arena.lake.digest("judgments", FIRST)
    assert (parts["judgments", FIRST]["rows"], parts["responses", FIRST]["rows"]) == (2, 2)
    assert known["judges"] == [{"judge": "j", "role": "deciding", "version": "1", "games": 2}]
    assert known["config"]["sft"]["learning_rate"] == 1e-4
    json.dumps(known, default=str)


def test_a_training_set_that_was_made_anew_is_said_to_be_another_one(arena, digests):
    before = details(arena, resolve(arena, FIRST))["data"][0]
    put_training_set(arena, FIRST, {"r1": "A pine."})
    after = details(arena, resolve(arena, FIRST))["data"][0]
    assert after == before | {"rows": None, "state": "replaced since"}


def test_cost_is_tokens_seconds_and_hours_of_gpus(arena, digests):
    cost = details(arena, resolve(arena, FIRST))["cost"]
    assert cost["training"] == {
        "tokens_learned": 900,
        "seconds": 36.0,
        "step_seconds": 30.0,
        "devices": 2,
        "device": "cuda",
        "gpu_hours": 0.02,  # 36 s on two
    }
    # the recorded reference took nothing
    assert cost["answers"] == {
        "calls": 1, "prompt_tokens": 1, "completion_tokens": 1, "seconds": None,
    }  # fmt: skip
    assert cost["games"] == {
        "calls": 2, "prompt_tokens": 2, "completion_tokens": 2, "seconds": 0.2,
    }  # fmt: skip
    unknown = details(arena, resolve(arena, SECOND))["cost"]
    assert set(unknown["training"].values()) == {None}, "what nobody noted is not zero"
    assert details(arena, resolve(arena, "base"))["cost"]["training"] == {}


# -- two of them ---------------------------------------------------------------------------------


def test_a_comparison_tells_what_differs(arena, digests):
    found = compare(arena, resolve(arena, FIRST), resolve(arena, SECOND))
    settings = {row["what"]: (row["a"], row["b"]) for row in found["settings"]}
    assert settings["sft.epochs"] == (2, None) and settings["dpo.beta"] == (None, 0.1)
    assert settings["stage"] == ("sft", "dpo") and "dtype" not in settings
    assert found["versions"] == [{"what": "trl", "a": "1.15.0", "b": "1.16.0"}]
    assert {row["what"] for row in found["metrics"]} >= {"sft_loss", "wall_seconds"}
    # r1 is the same, r2 says something else, r3 is new
    assert found["rows"] == {"same": 1, "changed": 1, "only_a": 0, "only_b": 1}
    assert (found["ratings"]["a"]["rating"], found["ratings"]["b"]["rating"]) == (1010.0, 1050.0)


def test_two_models_are_paired_on_the_prompts_of_the_last_arena_with_both(arena, digests):
    first, second = resolve(arena, FIRST), resolve(arena, SECOND)
    assert compare(arena, second, first)["paired"] is None, "no battles are there"
    # 3 won, 1 lost, 1 tie of 5
    won = {"p1": SECOND, "p2": SECOND, "p3": SECOND, "p4": FIRST, "p5": None}
    put_arena(arena, SECOND, won)
    found = compare(arena, second, first)["paired"]
    assert (found["after"], found["prompts"]) == (SECOND, 5)
    assert found["difference"] == pytest.approx(0.4)
    assert found["lower"] < 0 < 0.4 < found["upper"] and 0.05 < found["p_value"] < 1
    turned = compare(arena, first, second)["paired"]
    assert turned["difference"] == pytest.approx(-0.4)
    assert turned["lower"] == pytest.approx(-found["upper"])
    assert compare(arena, first, first)["paired"] is None
    # its weights of now met nobody
    put_checkpoint(arena, SECOND, b"trained again", stage="dpo")
    assert compare(arena, resolve(arena, SECOND), first)["paired"] is None


def test_the_base_model_learned_no_row(arena, digests):
    found = compare(arena, resolve(arena, "base"), resolve(arena, FIRST))
    assert found["rows"] == {"same": 0, "changed": 0, "only_a": 0, "only_b": 2}


def test_rows_are_unknown_where_a_training_set_is_another_one_now(arena, digests):
    put_training_set(arena, FIRST, {"r1": "A pine."})
    assert compare(arena, resolve(arena, FIRST), resolve(arena, SECOND))["rows"] is None
    arena.lake.path("training_set", FIRST).unlink()
    assert compare(arena, resolve(arena, FIRST), resolve(arena, SECOND))["rows"] is None


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ({}, {}, []),
        ({"x": 1}, {"x": 1.0}, []),
        ({"x": {"y": 1}}, {"x": 1}, [("x", None, 1), ("x.y", 1, None)]),
        ({"x": None}, {}, []),
        ({"b": 1, "a": 2}, {}, [("a", 2, None), ("b", 1, None)]),
    ],
)
def test_differences_are_told_by_dotted_name(a, b, expected):
    assert [(row["what"], row["a"], row["b"]) for row in differences(a, b)] == expected


# -- the command --------------------------------------------------------------------------------


def test_the_list_is_printed_for_people_and_for_scripts(command, digests):
    names = ["base", FIRST, SECOND]
    said = command("list").stdout
    assert all(name in said for name in names) and digests[FIRST][:12] in said
    rows = json.loads(command("list", "--format", "json").stdout)
    assert [row["name"] for row in rows] == names and rows[2]["promoted"] is True
    assert rows[1]["digest"] == digests[FIRST] and rows[1]["promoted_after"] == [FIRST]
    table = list(csv.DictReader(io.StringIO(command("list", "--format", "csv").stdout)))
    assert [row["name"] for row in table] == names and table[2]["rating"] == "1050.0"
    assert f"| {FIRST} | sft |" in command("list", "--format", "markdown").stdout


def test_one_and_two_models_are_printed(command, digests):
    shown = command("show", SECOND).stdout
    for words in (digests[FIRST], "as learned", "1050", "dpo.beta"):
        assert words in shown, words
    assert json.loads(command("show", "promoted", "--format", "json").stdout)["name"] == SECOND
    compared = command("compare", FIRST, SECOND).stdout
    for words in ("sft.epochs", "1.15.0", "changed"):
        assert words in compared, words
    found = json.loads(command("compare", FIRST, SECOND, "--format", "json").stdout)
    assert found["rows"]["same"] == 1
    assert "### versions" in command("compare", FIRST, SECOND, "--format", "markdown").stdout


def test_a_corrupt_checkpoint_is_named_beside_the_list(command, arena, digests):
    flip(arena.checkpoints.path(FIRST).resolve() / "model.safetensors")
    result = command("list")
    assert "corrupt" in result.stdout and "its files have digest" in result.stderr


def test_a_mistake_gets_a_sentence_and_no_trace(tiny_model):
    done = arena_command("models", "show", "i99.1-sft")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("no model 'i99.1-sft': write a name")
    assert "Traceback" not in done.stderr


def test_training_notes_tokens_and_devices_for_the_manifest():
    logged = [
        {"phase": "sft", "step": 0, "devices": 4, "device": "cuda"},
        {"phase": "sft", "step": 1, "loss": 2.0, "num_tokens": 100.0},
        {"phase": "sft", "step": 2, "loss": 1.5, "num_tokens": 250.0},
        {"phase": "sft", "step": 2, "train_runtime": 3.25, "train_loss": 1.75},
    ]
    assert summary(logged) == {
        "devices": 4,
        "device": "cuda",
        "sft_loss": 1.5,
        "sft_num_tokens": 250.0,
        "sft_train_runtime": 3.25,
    }
