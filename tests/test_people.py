"""What people decide about promotions: who may fight on, that it is obeyed, told, and undone."""

from __future__ import annotations

import getpass
import json

import dagster as dg
import pytest
from conftest import asset_named, record_round
from registry_lake import fill, put_checkpoint, put_promotion, small_arena
from test_assets import FIRST, SECOND, THIRD
from test_crash_safety import flip
from typer.testing import CliRunner

from arena_assets.cli.models import app
from arena_assets.config.rounds import UnknownRound
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.decisions import decision_on, decisions
from arena_assets.flywheel.handover import target_of
from arena_assets.flywheel.made_from import Making
from arena_assets.flywheel.people import approve, pin, roll_back, unpin
from arena_assets.flywheel.registry import RegistryError, resolve
from arena_assets.flywheel.state import state_of


@pytest.fixture
def arena(tmp_path):
    return small_arena(tmp_path)


@pytest.fixture
def digests(arena):
    return fill(arena)


def kinds(arena):
    return [(taken.kind, taken.round, taken.contestant) for taken in decisions(arena.lake)]


def materialize(name, arena, key):
    asset, fresh = asset_named(name), Arena(arena.profile_path, arena.lake.root)
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [asset],
            partition_key=key,
            resources={"arena": fresh},
            instance=instance,
            selection=[asset],
        )
        handed = instance.get_latest_materialization_event(dg.AssetKey("target_model"))
    event = result.asset_materializations_for_node(name)[-1]
    return event.metadata, handed and handed.asset_materialization


@pytest.fixture
def done(arena, digests):
    """Two rounds from the present inputs; the second one promoted its own checkpoint."""
    for key in (FIRST, SECOND):
        record_round(arena, key)
        Making(arena, ["promotions"], key).ended("promotions")
    materialize("promotions", arena, SECOND)
    assert state_of(arena, SECOND).name == "done"
    return arena


def test_a_rollback_is_obeyed_told_in_lineage_and_undone(done, digests):
    """One walk through all of it, since noting two rounds takes a second."""
    assert target_of(done, THIRD).contestant == SECOND
    (taken,) = roll_back(done, FIRST, reason="it forgot its manners", who="ann")
    assert (taken.kind, taken.round, taken.digest) == ("rollback", SECOND, digests[FIRST])
    assert state_of(done, SECOND).first == ("promotions", SECOND), "nothing else is out of date"
    assert state_of(done, FIRST).name == "done"

    _, handed = materialize("promotions", done, SECOND)
    said = f"rolled back to {FIRST} by ann on {taken.when}: it forgot its manners"
    assert done.lake.read("promotions", SECOND)["reason"].to_pylist() == [said]
    assert handed.partition == THIRD and handed.metadata["reason"].value == said
    assert handed.metadata["checkpoint"].value == FIRST
    target = target_of(done, THIRD)
    assert (target.contestant, target.model.digest, target.reason) == (FIRST, digests[FIRST], said)
    metadata, _ = materialize("target_model", done, THIRD)
    assert metadata["reason"].value == said and metadata["digest"].value == digests[FIRST]
    assert resolve(done, "promoted").name == FIRST

    unpin(done, reason="the test was wrong", who="ben")
    assert [found.kind for found in decisions(done.lake)] == ["rollback", "withdraw"]
    assert state_of(done, SECOND).first == ("promotions", SECOND)
    materialize("promotions", done, SECOND)
    assert target_of(done, THIRD).contestant == SECOND


def test_a_pin_holds_for_the_last_promoted_round_and_those_that_follow(arena, digests):
    pin(arena, "base", who="ann")
    assert kinds(arena) == [("pin", SECOND, "base"), ("pin", THIRD, "base")]
    assert decision_on(arena.lake, FIRST) is None
    pin(arena, digests[FIRST][:10], after=FIRST, who="ann")
    assert kinds(arena)[2:] == [("pin", key, FIRST) for key in (FIRST, SECOND, THIRD)]
    unpin(arena, who="ben")
    assert decision_on(arena.lake, SECOND) is None and decision_on(arena.lake, THIRD) is None
    assert decision_on(arena.lake, FIRST).contestant == FIRST, "that round is turned: it stays"
    unpin(arena, after=FIRST, who="ben")
    assert decision_on(arena.lake, FIRST) is None


def test_who_decides_is_by_default_the_user(arena, digests):
    (taken,) = roll_back(arena, "base")
    assert taken.who == getpass.getuser() and taken.reason == ""


@pytest.mark.parametrize(
    ("decide", "sentence"),
    [
        (lambda arena: roll_back(arena, SECOND), f"is the one that {SECOND} promoted: nothing to"),
        (lambda arena: roll_back(arena, "promoted"), "nothing to roll back"),
        (lambda arena: roll_back(arena, SECOND, after=FIRST), f"none of those .* after {FIRST}: b"),
        (lambda arena: roll_back(arena, "i07.1-sft"), "no model 'i07.1-sft'"),
        (lambda arena: roll_back(arena, "base", after=THIRD), f"{THIRD} has promoted nobody yet"),
        (lambda arena: pin(arena, THIRD), f"no model '{THIRD}'"),
        (unpin, f"nothing is pinned or rolled back after {SECOND} or later"),
        (approve, f"nobody waits for approval after {SECOND}: {SECOND} is promoted"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written_down(arena, digests, decide, sentence):
    with pytest.raises(RegistryError, match=sentence):
        decide(arena)
    assert decisions(arena.lake) == []


def test_a_newer_one_is_no_way_back(arena, digests):
    put_promotion(arena, SECOND, FIRST, digests[FIRST])
    with pytest.raises(RegistryError, match=f"newer than {FIRST}.*`arena models pin {SECOND}`"):
        roll_back(arena, SECOND)


def test_a_round_that_is_none_and_a_lake_without_rounds_are_told(arena):
    with pytest.raises(RegistryError, match="no round has promoted anybody yet: run `arena run`"):
        roll_back(arena, "base")
    with pytest.raises(UnknownRound, match=r"i07\.1-sft"):
        pin(arena, "base", after="i07.1-sft")


def test_weights_that_are_not_whole_do_not_fight_on(arena, digests):
    flip(arena.checkpoints.path(FIRST).resolve() / "model.safetensors")
    with pytest.raises(RegistryError, match=f"{FIRST} cannot fight: .*its files have digest"):
        roll_back(arena, FIRST)
    assert decisions(arena.lake) == []


# -- approval ------------------------------------------------------------------------------------


@pytest.fixture
def waiting(arena, digests):
    put_promotion(arena, SECOND, SECOND, digests[SECOND], waiting="approval")
    return arena


def test_who_waits_is_approved_with_the_weights_that_wait(waiting, digests):
    assert resolve(waiting, "promoted").name == FIRST, "who waits is not promoted"
    assert resolve(waiting, SECOND).promoted_after == ()
    with pytest.raises(RegistryError, match=f"after {SECOND} it is {SECOND} .* waits, not base"):
        approve(waiting, name="base")
    (taken,) = approve(waiting, SECOND, name=SECOND, reason="read 20 answers", who="ann")
    assert (taken.kind, taken.contestant, taken.digest) == ("approve", SECOND, digests[SECOND])


def test_weights_that_were_replaced_while_they_waited_are_not_approved(waiting):
    put_checkpoint(waiting, SECOND, b"trained again", stage="dpo")
    with pytest.raises(RegistryError, match="is not there any more: run `arena run`"):
        approve(waiting)
    assert decisions(waiting.lake) == []


# -- the command ---------------------------------------------------------------------------------


def test_the_command_writes_promotes_again_and_says_what_follows(done, monkeypatch):
    monkeypatch.setenv("ARENA_PROFILE", str(done.profile_path))
    monkeypatch.setenv("ARENA_LAKE", str(done.lake.root))
    arguments = ["rollback", FIRST, "--reason", "on a hunch", "--by", "ann"]
    said = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert said.exit_code == 0, said.output
    assert f"after {SECOND}: rollback {FIRST} by ann on" in said.stdout
    assert f"{THIRD}: missing" in said.stdout and f"{SECOND}: out of date" not in said.stdout
    (row,) = done.lake.read("promotions", SECOND).to_pylist()
    assert row["contestant"] == FIRST and row["reason"].endswith(": on a hunch")
    listed = json.loads(CliRunner().invoke(app, ["list", "--format", "json"]).stdout)
    assert [row["name"] for row in listed if row["promoted"]] == [FIRST]
