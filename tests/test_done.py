"""Done is what was made from the present inputs, and weights that changed are refused."""

from __future__ import annotations

import os

import dagster as dg
import pyarrow.parquet as pq
import pytest
import yaml
from arena_assets.flywheel.lineage import (
    PREPARED_FROM,
    PROMOTED_FROM,
    BrokenChain,
    arena_contestants,
    inputs_fingerprint,
    models,
    outdated,
    outdated_preparation,
    prompts_fingerprint,
    round_fingerprint,
    state_of,
    target_of,
    verify_weights,
)
from conftest import record_round
from test_assets import FIRST, SECOND, arena, checkpoint_of, promote, rated  # noqa: F401
from test_checkpoints import CheckpointStore
from test_crash_safety import flip

from arena_assets.assets import training
from arena_assets.assets.battles import arena_responses, target_model
from arena_assets.assets.consistency import consistency
from arena_assets.assets.curation import prompt_drops
from arena_assets.assets.prompts import models as models_asset
from arena_assets.assets.ratings import promotions
from arena_assets.cli.wheel import prepared, round_states
from arena_assets.config.rounds import BASE
from arena_assets.curation.collection import STEPS
from arena_assets.definitions import defs
from arena_assets.flywheel.arena import Arena
from arena_assets.lake.lake import MissingPartition
from arena_assets.training.checkpoints import CorruptCheckpoint


def changed(arena, tmp_path, **changes):  # noqa: F811
    """The same lake under a profile with other settings, by path."""
    profile = yaml.safe_load(arena.profile_path.read_text("utf-8"))
    for path, value in changes.items():
        *parents, last = path.split("__")
        section = profile
        for part in parents:
            section = section[part]
        section[last] = value
    file = tmp_path / f"profile-{len(list(tmp_path.glob('profile-*')))}.yaml"
    file.write_text(yaml.safe_dump(profile), "utf-8")
    return Arena(str(file), arena.lake.root)


def materialize(asset, arena, key=None):  # noqa: F811
    fresh = Arena(arena.profile_path, arena.lake.root)
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(
            [asset],
            partition_key=key,
            resources={"arena": fresh},
            instance=instance,
            selection=[asset],
            raise_on_error=False,
        )


@pytest.fixture
def done(arena):  # noqa: F811
    """The first round, rated and promoted from the present inputs."""
    checkpoint_of(arena, FIRST)
    rated(arena, **{"base": 1000.0, FIRST: 1100.0, "reference": 2000.0})
    record_round(arena, FIRST)
    assert materialize(promotions, arena, FIRST).success
    assert state_of(arena, FIRST) == "done"
    return arena


DROPPED = {"prompt_id": "p", "step": "short", "reason": "one word"}


# -- rounds ------------------------------------------------------------------------------------


def test_a_promotion_alone_does_not_make_an_outdated_round_done(done, tmp_path):
    other = changed(
        done,
        tmp_path,
        **{f"rounds__{FIRST}__minimum_gap": 1.0, "target__sampling__temperature": 0.7},
    )
    assert state_of(other, FIRST) == "out of date"
    result = materialize(promotions, other, FIRST)
    assert result.success and state_of(other, FIRST) == "out of date"
    said = result.asset_materializations_for_node("promotions")[0].metadata["out_of_date"].value
    assert said == ", ".join(PROMOTED_FROM)
    with pytest.raises(BrokenChain, match=r"is out of date .*materialize i01.1-sft again"):
        target_of(other, SECOND)
    record_round(other, FIRST)  # the whole round is made again
    materialize(promotions, other, FIRST)
    assert state_of(other, FIRST) == "done" and target_of(other, SECOND).contestant == FIRST


def test_each_table_that_a_promotion_rests_on_has_to_be_of_the_present(done, tmp_path):
    other = changed(done, tmp_path, **{f"rounds__{FIRST}__minimum_gap": 1.0})
    old = done.made_from("ratings", FIRST)
    for table in PROMOTED_FROM:
        record_round(other, FIRST)
        assert outdated(other, PROMOTED_FROM, FIRST) == []
        other.record(table, FIRST, old)
        assert outdated(other, PROMOTED_FROM, FIRST) == [table]
    materialize(promotions, other, FIRST)
    assert state_of(other, FIRST) == "out of date"


def test_a_table_that_was_replaced_since_it_was_recorded_says_nothing(done):
    file = done.lake.path("battles", FIRST)
    pq.write_table(pq.read_table(file).slice(0, 0), file)
    selected = ["sft_rows", "preference_pairs", "rl_prompts"]  # from what is no more
    assert outdated(done, PROMOTED_FROM, FIRST) == ["battles", *selected]
    done.lake.path("responses", FIRST).unlink()
    assert outdated(done, PROMOTED_FROM, FIRST) == ["responses", "judgments", "battles", *selected]


@pytest.mark.parametrize("left", [0, 5, -9])
def test_a_round_whose_promotion_is_torn_is_missing_and_can_be_turned(done, left):
    file = done.lake.path("promotions", FIRST)
    file.write_bytes(file.read_bytes()[:left])
    assert [row["state"] for row in round_states(done)] == ["missing"] * 3
    with pytest.raises(MissingPartition, match=r"not a whole Parquet file .*promotions again"):
        done.lake.read("promotions", FIRST)
    assert materialize(promotions, done, FIRST).success and state_of(done, FIRST) == "done"


def test_another_checkpoint_under_the_same_name_is_not_the_recorded_one(done):
    checkpoint_of(done, FIRST, b"trained elsewhere")
    assert outdated(done, PROMOTED_FROM, FIRST) == ["checkpoint", "arena_responses"]


def test_what_a_promotion_and_a_preparation_rest_on_is_what_the_graph_says():
    """Every table above them writes a record, which knows the tables above that one."""
    graph = defs.resolve_asset_graph()

    def above(key):
        return {parent.to_user_string() for parent in graph.get(dg.AssetKey(key)).parent_keys}

    known = {**PREPARED_FROM, **PROMOTED_FROM}
    # of both there is a part in the settings of a round: digests, prompts and who is promoted
    elsewhere = {"models", "target_model", "slices", "prompts_curated", "arena_testset"}
    for table, tables in PROMOTED_FROM.items():
        assert above(table) - elsewhere == set(tables), table
    for table, tables in PREPARED_FROM.items():
        assert above(table) - {"models"} == set(tables), table
    assert above("promotions") - {"models"} == {"ratings", "checkpoint"}
    assert above("prompt_drops") <= set(PREPARED_FROM)
    assert {name for tables in known.values() for name in tables} - {"prompts"} <= set(known)


def test_every_asset_that_writes_a_table_records_its_inputs():
    """Also those that nothing rests on; who finishes a round or the preparation says so itself."""
    itself = {"target_model", "promotions", "prompt_drops", "prompts_of_source", "arena_dbt"}
    for asset in [consistency, *defs.assets]:
        function = asset.op.compute_fn.decorated_fn
        assert hasattr(function, "__wrapped__") != (asset.op.name in itself), asset.op.name


def test_tables_made_in_the_wrong_order_do_not_make_a_round_done(done, tmp_path):
    """Each is made again under the new settings, but some from what those above were before."""
    other = changed(done, tmp_path, **{f"rounds__{FIRST}__minimum_gap": 1.0})
    for table in reversed(PROMOTED_FROM):
        other.record(table, FIRST, inputs_fingerprint(other, table, FIRST))
        if table != "checkpoint":
            file = other.lake.path(table, FIRST)
            pq.write_table(pq.read_table(file).replace_schema_metadata({"new": table}), file)
            other.record(table, FIRST, inputs_fingerprint(other, table, FIRST))
    checkpoint_of(other, FIRST, b"trained under the new settings")
    other.record("checkpoint", FIRST, inputs_fingerprint(other, "checkpoint", FIRST))
    old = outdated(other, PROMOTED_FROM, FIRST)
    assert old == [
        table for table, above in PROMOTED_FROM.items() if above and table != "checkpoint"
    ]
    materialize(promotions, other, FIRST)
    assert state_of(other, FIRST) == "out of date"


def test_a_round_is_out_of_date_when_the_one_before_promotes_another_model(done):
    promote(done, SECOND, FIRST, "d")
    known = round_fingerprint(done, SECOND)
    promote(done, FIRST, FIRST, done.checkpoints.manifest(FIRST).digest)
    assert round_fingerprint(done, SECOND) == known, "the same one"
    checkpoint_of(done, FIRST, b"trained anew")
    promote(done, FIRST, FIRST, done.checkpoints.manifest(FIRST).digest)
    assert round_fingerprint(done, SECOND) != known


def test_rows_of_earlier_rounds_and_their_checkpoints_count(done, tmp_path):
    later = "i02.1-sft"
    rounds = {later: {"slice": "D3", "minimum_gap": 1.0}, FIRST: {"slice": "D1", "minimum_gap": 3}}
    other = changed(done, tmp_path, rounds=rounds)
    made = [inputs_fingerprint(other, t, later) for t in ("training_set", "arena_responses")]
    file = other.lake.path("sft_rows", FIRST)
    pq.write_table(pq.read_table(file).slice(0, 0), file)
    checkpoint_of(other, FIRST, b"trained anew")
    now = [inputs_fingerprint(other, t, later) for t in ("training_set", "arena_responses")]
    assert made[0] != now[0] and made[1] != now[1]


# -- preparation -------------------------------------------------------------------------------


def test_the_last_table_alone_does_not_make_an_outdated_preparation_done(arena, tmp_path):  # noqa: F811
    for table in PREPARED_FROM:
        arena.lake.write(table, [])
    arena.lake.write("prompts", [], "seed")

    def record_all(of):
        for table in (*PREPARED_FROM, "models"):
            of.record(table, "all", inputs_fingerprint(of, table, "all"))
        of.record("prompts", "seed", inputs_fingerprint(of, "prompts", "seed"))

    record_all(arena)
    materialize(prompt_drops, arena)
    assert prepared(arena)
    other = changed(arena, tmp_path, prompts__minimum_words=7)
    assert not prepared(other)
    assert materialize(prompt_drops, other).success
    assert not prepared(other), "nothing but the last table was made again"
    assert set(STEPS) <= set(outdated_preparation(other))
    assert "prompts of seed" not in outdated_preparation(other), "its source is as it was"
    record_all(other)
    materialize(prompt_drops, other)
    assert prepared(other)
    other.lake.write("dropped_short", [DROPPED])
    other.record("dropped_short", "all", inputs_fingerprint(other, "dropped_short", "all"))
    assert outdated_preparation(other) == ["dropped_prefixes"], "made from what it was before"


# -- weights -----------------------------------------------------------------------------------


def test_a_round_refuses_a_promoted_checkpoint_of_which_one_byte_changed(done):
    assert target_of(done, SECOND).contestant == FIRST
    flip(done.checkpoints.path(FIRST) / "model.safetensors")
    with pytest.raises(CorruptCheckpoint, match=r"i01.1-sft: its files have digest"):
        target_of(done, SECOND)
    with pytest.raises(CorruptCheckpoint):
        arena_contestants(done, FIRST)
    said = {row["weights"]: row["state"] for row in verify_weights(done)}
    assert "its files have digest" in said[FIRST]
    failure = materialize(target_model, done, SECOND).failure_data_for_node("target_model")
    assert "materialize checkpoint i01.1-sft again" in failure.user_failure_data.description


def test_a_corrupt_checkpoint_is_not_found_by_its_fingerprint_but_made_again(done):
    said, fingerprint = [], done.checkpoints.manifest(FIRST).fingerprint
    assert training._found(done, FIRST, fingerprint, said.append).digest
    assert training._found(done, FIRST, "another", said.append) is None
    flip(done.checkpoints.path(FIRST) / "model.safetensors")
    assert training._found(done, FIRST, fingerprint, said.append) is None
    assert "its files have digest" in said[-1] and "trained again" in said[-1]
    (done.checkpoints.path(FIRST) / "manifest.json").write_text('{"round": ')
    assert training._found(done, FIRST, fingerprint, said.append) is None
    assert "manifest.json: manifest: Invalid JSON" in said[-1] and "trained again" in said[-1]
    failure = materialize(arena_responses, done, FIRST).failure_data_for_node("arena_responses")
    assert "materialize checkpoint i01.1-sft again" in failure.user_failure_data.description


def test_base_weights_that_changed_are_refused_until_they_are_taken_in(arena, tmp_path):  # noqa: F811
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    (weights / "model.safetensors").write_bytes(b"0123456789")
    other = changed(arena, tmp_path, models__tiny__path=str(weights))
    assert materialize(models_asset, other).success
    before = target_of(other, FIRST).weights
    assert before.name == "tiny" and models(other)["tiny"].digest == before.digest
    promote(other, FIRST, BASE, before.digest)
    assert verify_weights(other) == [{"weights": "tiny", "state": "ok"}]
    flip(weights / "model.safetensors", keep_time=True)
    target_of(other, FIRST)
    (said,) = verify_weights(other)
    assert "models.tiny" in said["state"], "asked for, every file is read"
    os.utime(weights / "model.safetensors")
    for asked in (lambda: target_of(other, FIRST), lambda: target_of(other, SECOND)):
        with pytest.raises(CorruptCheckpoint, match=r"models.tiny: .*restore the files, or"):
            asked()
    failure = materialize(target_model, other, FIRST).failure_data_for_node("target_model")
    assert "models.tiny" in failure.user_failure_data.description
    assert materialize(models_asset, other).success
    assert target_of(other, FIRST).weights.digest != before.digest
    assert state_of(other, FIRST) == "out of date", "it was made with other weights"
    weights.rename(tmp_path / "moved")
    with pytest.raises(CorruptCheckpoint, match=r"models.tiny: the digest of .* is none"):
        target_of(other, FIRST)


def test_a_chat_template_that_changed_is_noticed_as_weights_are(arena, tiny_model, tmp_path):  # noqa: F811
    (tmp_path / "chat.jinja").write_text("{{ messages[0].content }}")
    settings = {"models__tiny__chat_template": str(tmp_path / "chat.jinja")}
    other = changed(arena, tmp_path, models__tiny__path=str(tiny_model), **settings)
    assert materialize(models_asset, other).success
    weights = target_of(other, FIRST).weights
    before = prompts_fingerprint(other.profile), round_fingerprint(other, FIRST)
    (tmp_path / "chat.jinja").write_text("{{ messages[-1].content }}")
    assert prompts_fingerprint(other.profile) != before[0], "the preparation is made again"
    assert round_fingerprint(other, FIRST) != before[1]
    assert target_of(other, FIRST).weights.digest != weights.digest, "it answers anew"


def test_the_weights_of_a_round_stay_while_they_are_used(done):
    used = target_of(done, SECOND).weights.path
    checkpoint_of(Arena(done.profile_path, done.lake.root), FIRST, b"newer")
    assert (used / "model.safetensors").read_bytes() == b"weights"
    assert CheckpointStore(done.checkpoints.root).current(FIRST) != used
