"""Decisions about weights that are others by now, and what is said while somebody has to decide."""

from __future__ import annotations

import pytest
import yaml
from registry_lake import fill, put_answers, put_checkpoint, put_promotion, small_arena
from test_assets import FIRST, SECOND
from test_promotion_rules import prepared, promote
from typer.testing import CliRunner

from arena_assets.cli import wheel
from arena_assets.cli.main import app
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.decisions import decide, decisions
from arena_assets.flywheel.people import roll_back
from arena_assets.flywheel.promotion import promotion_of
from arena_assets.flywheel.registry import resolve
from arena_assets.flywheel.weights import BrokenChain


@pytest.mark.parametrize(("kind", "done"), [("pin", "pinned to"), ("rollback", "rolled back to")])
def test_whom_a_person_named_is_refused_with_other_weights(tmp_path, tiny_profile, kind, done):
    arena = prepared(tmp_path, tiny_profile, "best")
    seen = arena.checkpoints.manifest(FIRST).digest
    decide(arena.lake, kind, FIRST, FIRST, digest=seen, who="ann", reason="it listens")
    assert promote(arena)["model_digest"] == seen
    decide(arena.lake, kind, FIRST, FIRST, digest="f" * 64, who="ann", reason="it listens")
    told = rf"{FIRST} was {done} {FIRST} with digest ffffffffffff by ann on .*: it listens, and "
    told += rf"{FIRST} is another one since \({seen[:12]}\): `arena models pin {FIRST} --after "
    with pytest.raises(BrokenChain, match=told):
        promotion_of(arena, FIRST)
    decide(arena.lake, "withdraw", FIRST)
    assert promote(arena)["reason"].startswith("the best rating")


def test_a_rollback_from_a_round_that_the_profile_has_no_more(tmp_path):
    arena = small_arena(tmp_path)
    digests = fill(arena)
    put_promotion(arena, SECOND, "i00.1-sft", "gone")
    (taken,) = roll_back(arena, "base", who="ann")
    assert (taken.contestant, digests[FIRST] != taken.digest) == ("base", True)


def test_who_fought_a_round_by_own_samples_has_fought_in_it(tmp_path):
    arena = small_arena(tmp_path)
    digests = fill(arena)
    samples = {f"{FIRST}.sample-0{draw}": digests[FIRST] for draw in (1, 2, 3)}
    put_answers(arena, "responses", SECOND, **samples)
    assert resolve(arena, FIRST).fought_in == (SECOND,)
    assert resolve(arena, "base").fought_in == (FIRST,)


def test_promoted_is_who_fights_next_in_the_rounds_that_the_profile_has(tmp_path):
    arena = small_arena(tmp_path)
    digests = fill(arena)
    put_checkpoint(arena, "i07.1-sft", b"of a longer profile")
    put_promotion(arena, "i07.1-sft", "i07.1-sft", arena.checkpoints.manifest("i07.1-sft").digest)
    late, now = resolve(arena, "i07.1-sft"), resolve(arena, digests[SECOND])
    assert (late.promoted, late.promoted_after) == (False, ("i07.1-sft",))
    assert now.promoted and resolve(arena, "promoted").name == SECOND


# -- what a run and a decision say -----------------------------------------------------------------


@pytest.fixture
def waiting(tmp_path, tiny_profile, monkeypatch) -> Arena:
    """An arena whose one round waits for a person."""
    one_round = yaml.safe_load(tiny_profile.read_text("utf-8"))
    one_round["rounds"] = {FIRST: one_round["rounds"][FIRST]}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(one_round), "utf-8")
    arena = prepared(tmp_path / "arena", tmp_path / "one.yaml", {"approval": "manual"})
    promote(arena)
    monkeypatch.setenv("ARENA_PROFILE", str(arena.profile_path))
    monkeypatch.setenv("ARENA_LAKE", str(arena.lake.root))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setattr(wheel, "outdated_preparation", lambda arena: [])
    return arena


def test_a_run_that_waits_for_a_person_does_not_say_that_all_is_done(waiting):
    said = CliRunner().invoke(app, ["run"])
    assert said.exit_code == 0, said.output
    assert f"{FIRST}: {FIRST} waits for a person's approval, `arena models approve" in said.output
    assert "every round is done" not in said.output


def test_a_promotion_that_cannot_be_made_after_a_decision_is_told_in_words(waiting, monkeypatch):
    def stops(*_, **__):
        raise wheel.WheelStopped("turn_round i01.1-sft failed:\n  promotions: no battles")

    monkeypatch.setattr(wheel, "run_job", stops)
    said = CliRunner().invoke(app, ["models", "approve", "--by", "ann"])
    assert said.exit_code == 1 and said.exception.__class__ is SystemExit
    assert "promotions: no battles\nthe decision is written down" in said.output
    assert [taken.kind for taken in decisions(waiting.lake)] == ["approve"]
