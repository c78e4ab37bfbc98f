"""Done is what was made from the present inputs, and weights that changed are refused."""

from __future__ import annotations

import os

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import PROMOTED_FROM, asset_named, record_round, record_testset
from test_assets import FIRST, SECOND, arena, checkpoint_of, promote, rated  # noqa: F401
from test_checkpoints import CheckpointStore
from test_crash_safety import flip

from arena_assets.assets import consistency
from arena_assets.assets.partitions import rounds_of
from arena_assets.cli.wheel import round_states
from arena_assets.config.rounds import BASE
from arena_assets.definitions import defs
from arena_assets.flywheel.arena import Arena, open_arena
from arena_assets.flywheel.handover import arena_contestants, target_of
from arena_assets.flywheel.made_from import (
    MADE_FROM,
    OF_PREPARATION,
    OF_REPORTS,
    OF_ROUND,
    OF_SOURCE,
    Making,
    identity_of,
    read_tables,
)
from arena_assets.flywheel.moment import Moment
from arena_assets.flywheel.state import (
    State,
    outdated,
    outdated_preparation,
    round_identity,
    state_of,
)
from arena_assets.flywheel.weights import BrokenChain, models, verify_weights
from arena_assets.lake.lake import MissingPartition
from arena_assets.training.checkpoints import CorruptCheckpoint
from arena_assets.training.making import found


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


def settled(arena, key, table):  # noqa: F811
    """Note that a table was made from what is there now."""
    Making(arena, [table], key).ended(table)


def materialize(name, arena, key=None):  # noqa: F811
    asset = asset_named(name)
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
    assert materialize("promotions", arena, FIRST).success
    assert state_of(arena, FIRST) == State("done")
    return arena


DROPPED = {"prompt_id": "p", "step": "short", "reason": "one word"}


# -- rounds ------------------------------------------------------------------------------------


def test_a_promotion_alone_does_not_make_an_outdated_round_done(done, tmp_path):
    other = changed(
        done,
        tmp_path,
        **{f"rounds__{FIRST}__minimum_gap": 1.0, "target__sampling__temperature": 0.7},
    )
    assert state_of(other, FIRST) == State("out of date", ("responses", FIRST))
    result = materialize("promotions", other, FIRST)
    assert result.success and state_of(other, FIRST).name == "out of date"
    said = result.asset_materializations_for_node("promotions")[0].metadata["out_of_date"].value
    assert said == "responses, sft_rows, arena_responses", "what these settings count for"
    with pytest.raises(
        BrokenChain, match=r"is out of date .*responses.*materialize i01.1-sft again"
    ):
        target_of(other, SECOND)
    record_round(other, FIRST)  # the whole round is made again
    materialize("promotions", other, FIRST)
    assert state_of(other, FIRST).name == "done" and target_of(other, SECOND).contestant == FIRST


# the first round is of SFT, and the pair judge chooses its rows: nothing of it rests on these
UNREAD = ["preference_pairs", "rl_prompts", "selection_candidates", "selected_candidates"]
LEARNED = [table for table in PROMOTED_FROM if table not in UNREAD]


@pytest.mark.parametrize("table", LEARNED)
def test_each_table_that_a_promotion_rests_on_has_to_be_of_the_present(done, table):
    assert outdated(done, PROMOTED_FROM, FIRST) == []
    done.record(table, FIRST, "other settings")
    assert outdated(done, PROMOTED_FROM, FIRST) == [table]
    assert state_of(done, FIRST) == State("out of date", (table, FIRST))
    materialize("promotions", done, FIRST)
    assert state_of(done, FIRST).name == "out of date"


@pytest.mark.parametrize("table", [*UNREAD, *OF_REPORTS])
def test_what_nothing_rests_on_makes_no_round_out_of_date(done, table):
    done.lake.path(table, FIRST).unlink(missing_ok=True)
    assert state_of(done, FIRST).name == "done"


def test_a_table_that_was_replaced_since_it_was_recorded_says_nothing(done):
    file = done.lake.path("judgments", FIRST)
    pq.write_table(pq.read_table(file).slice(0, 0), file)
    assert outdated(done, PROMOTED_FROM, FIRST) == ["judgments", "battles"], "from what is no more"
    done.lake.path("responses", FIRST).unlink()
    selected = ["selection_candidates", "sft_rows", "preference_pairs", "rl_prompts"]
    assert outdated(done, PROMOTED_FROM, FIRST) == ["responses", "judgments", "battles", *selected]


@pytest.mark.parametrize("left", [0, 5, -9])
def test_a_round_whose_promotion_is_torn_is_missing_and_can_be_turned(done, left):
    file = done.lake.path("promotions", FIRST)
    file.write_bytes(file.read_bytes()[:left])
    assert [row["state"] for row in round_states(done)] == ["missing"] * 3
    with pytest.raises(MissingPartition, match=r"not a whole Parquet file .*promotions again"):
        done.lake.read("promotions", FIRST)
    assert materialize("promotions", done, FIRST).success and state_of(done, FIRST).name == "done"


def test_another_checkpoint_under_the_same_name_is_not_the_recorded_one(done):
    checkpoint_of(done, FIRST, b"trained elsewhere")
    assert outdated(done, OF_ROUND, FIRST) == ["checkpoint", "arena_responses", "promotions"]


def test_a_checkpoint_whose_manifest_is_torn_puts_its_round_out_of_date(done):
    (done.checkpoints.path(FIRST) / "manifest.json").write_text('{"round": ')
    assert state_of(done, FIRST) == State("out of date", ("checkpoint", FIRST))


def test_what_tables_are_made_from_is_what_the_graph_of_assets_says():
    """Every table is read over an edge, and every edge is read."""
    graph = defs.resolve_asset_graph()
    elsewhere = {"consistency": {"ratings"}}  # the tests' profile names no reference
    for table, made in MADE_FROM.items():
        key = dg.AssetKey(table)
        there = graph.has(key)
        above = graph.get(key).parent_keys if there else ()
        edges = {parent.to_user_string() for parent in above} if there else elsewhere[table]
        assert edges == read_tables([*made.reads, *made.drawn_from]), table
    assets = {key.to_user_string() for key in graph.materializable_asset_keys}
    assert assets - {"target_model"} == set(MADE_FROM) - set(elsewhere)


def test_a_table_reads_only_what_is_made_before_it():
    order = [*OF_SOURCE, *OF_PREPARATION, "target_model", *OF_ROUND, *OF_REPORTS]
    for table, made in MADE_FROM.items():
        for above in read_tables([*made.reads, *made.drawn_from]) - {"leaderboard"}:
            assert order.index(above) < order.index(table), (table, above)


def test_every_asset_that_writes_a_table_records_its_inputs():
    """Some write several tables or partitions, and note each themselves."""
    itself = {"target_model", "testset_versions", "prompts_of_source", "arena_dbt"}
    for asset in [*consistency.assets(rounds_of(open_arena().profile)), *defs.assets]:
        function = asset.op.compute_fn.decorated_fn
        assert hasattr(function, "__wrapped__") != (asset.op.name in itself), asset.op.name


def test_tables_made_in_the_wrong_order_do_not_make_a_round_done(done, tmp_path):
    """Each is made again under the new settings, but from what those above were before."""
    other = changed(done, tmp_path, **{f"rounds__{FIRST}__minimum_gap": 1.0})
    for table in reversed(PROMOTED_FROM):
        if table == "checkpoint":
            checkpoint_of(other, FIRST, b"trained under the new settings")
        else:
            file = other.lake.path(table, FIRST)
            pq.write_table(pq.read_table(file).replace_schema_metadata({"new": table}), file)
        settled(other, FIRST, table)
    old = outdated(other, PROMOTED_FROM, FIRST)
    # battles without one that decides are to the selections what they were
    whole = {"responses", "judgments", "arena_judgments", "training_set", "arena_battles"}
    assert set(old) == {
        table
        for table in PROMOTED_FROM
        if read_tables(OF_ROUND[table].reads) & (whole | {"checkpoint", "arena_responses"})
        or table == "training_set"
    }
    materialize("promotions", other, FIRST)
    assert state_of(other, FIRST).name == "out of date"


def test_a_round_is_out_of_date_when_the_one_before_promotes_another_model(done):
    checkpoint_of(done, SECOND, b"second")
    promote(done, SECOND, FIRST, "d")
    known = round_identity(done, SECOND)
    promote(done, FIRST, FIRST, done.checkpoints.manifest(FIRST).digest)
    assert round_identity(done, SECOND) == known, "the same one"
    assert state_of(done, SECOND).name == "done"
    checkpoint_of(done, FIRST, b"trained anew")
    promote(done, FIRST, FIRST, done.checkpoints.manifest(FIRST).digest)
    assert round_identity(done, SECOND) != known
    assert state_of(done, SECOND) == State("out of date", ("responses", SECOND))


def test_a_round_is_out_of_date_as_long_as_one_before_is(done):
    checkpoint_of(done, SECOND, b"second")
    promote(done, SECOND, FIRST, "d")
    done.record("ratings", FIRST, "other settings")
    assert state_of(done, SECOND) == State("out of date", ("ratings", FIRST))
    settled(done, FIRST, "ratings")
    assert state_of(done, SECOND).name == "done", "made again, the same was promoted"


def test_rows_of_earlier_rounds_and_their_checkpoints_count(done, tmp_path):
    later = "i02.1-sft"
    rounds = {later: {"slice": "D3", "minimum_gap": 1.0}, FIRST: {"slice": "D1", "minimum_gap": 3}}
    other = changed(done, tmp_path, rounds=rounds)

    def made_from():
        now = Moment(other)
        return [identity_of(now, table, later) for table in ("training_set", "arena_responses")]

    before = made_from()
    file = other.lake.path("sft_rows", FIRST)
    pq.write_table(pq.read_table(file).slice(0, 0), file)
    checkpoint_of(other, FIRST, b"trained anew")
    now = made_from()
    assert before[0] != now[0] and before[1] != now[1]


def test_another_shadow_judge_leaves_what_the_deciding_one_led_to(done):
    def battles(*judges):
        rows = [{"battle_id": j, "role": role, "winner": "a"} for j, role in judges]
        pq.write_table(pa.Table.from_pylist(rows), done.lake.path("battles", FIRST))
        settled(done, FIRST, "battles")
        return outdated(done, PROMOTED_FROM, FIRST)

    selected = ["selection_candidates", "sft_rows", "preference_pairs", "rl_prompts"]
    assert battles(("verifier", "deciding")) == selected
    record_round(done, FIRST)
    assert battles(("verifier", "deciding"), ("second opinion", "shadow")) == []
    assert battles(("another", "deciding")) == selected


# -- preparation -------------------------------------------------------------------------------


def test_the_last_table_alone_does_not_make_an_outdated_preparation_done(arena, tmp_path):  # noqa: F811
    for table in OF_PREPARATION:
        if table not in ("models", "testset_versions"):
            arena.lake.write(table, [])
    arena.lake.write("testset_versions", [], "v001")
    arena.lake.write("prompts", [], "seed")

    def record_all(of):
        settled(of, "seed", "prompts")
        record_testset(of)
        for table in set(OF_PREPARATION) - {"testset_versions"}:
            settled(of, "all", table)

    record_all(arena)
    assert outdated_preparation(arena) == []
    other = changed(arena, tmp_path, prompts__minimum_words=7)
    assert outdated_preparation(other) == ["dropped_short"]
    assert materialize("prompt_drops", other).success
    assert outdated_preparation(other) == ["dropped_short"], "the last table was made again"
    other.lake.write("dropped_short", [DROPPED])
    settled(other, "all", "dropped_short")
    later = ["dropped_prefixes", "dropped_near_duplicates", "prompt_embeddings"]
    later += ["dropped_contaminated", "dropped_languages", "dropped_near_testset"]
    later += ["prompts_curated", "prompt_drops"]
    assert outdated_preparation(other) == later, "made from what it was before"
    record_all(other)
    assert outdated_preparation(other) == []


def test_a_version_of_the_test_set_that_is_there_is_found_again(arena, tmp_path):  # noqa: F811
    arena.lake.write("arena_testset", [])
    arena.lake.write("testset_versions", [], "v001")
    record_testset(arena)
    other = changed(arena, tmp_path, prompts__testset__edition=2)
    old = ["testset_versions", "arena_testset"]
    assert outdated(other, old, "all") == old
    other.lake.write("testset_versions", [], "v002")
    record_testset(other)
    assert outdated(other, old, "all") == []
    assert outdated(arena, ["testset_versions"], "all") == [], "the first edition is still there"
    failure = materialize(
        "arena_testset", changed(arena, tmp_path, prompts__testset__edition=3)
    ).failure_data_for_node("arena_testset")
    assert "materialize testset_versions" in failure.user_failure_data.description


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
    failure = materialize("target_model", done, SECOND).failure_data_for_node("target_model")
    assert "materialize checkpoint i01.1-sft again" in failure.user_failure_data.description


def test_a_corrupt_checkpoint_is_not_found_by_its_fingerprint_but_made_again(done):
    said, fingerprint = [], done.checkpoints.manifest(FIRST).fingerprint
    assert found(done.checkpoints, FIRST, fingerprint, said.append).digest
    assert found(done.checkpoints, FIRST, "another", said.append) is None
    flip(done.checkpoints.path(FIRST) / "model.safetensors")
    assert found(done.checkpoints, FIRST, fingerprint, said.append) is None
    assert "its files have digest" in said[-1] and "trained again" in said[-1]
    (done.checkpoints.path(FIRST) / "manifest.json").write_text('{"round": ')
    assert found(done.checkpoints, FIRST, fingerprint, said.append) is None
    assert "manifest.json: manifest: Invalid JSON" in said[-1] and "trained again" in said[-1]
    done.lake.write("prompts_curated", [])
    failure = materialize("arena_responses", done, FIRST).failure_data_for_node("arena_responses")
    assert "materialize checkpoint i01.1-sft again" in failure.user_failure_data.description


def test_base_weights_that_changed_are_refused_until_they_are_taken_in(arena, tmp_path):  # noqa: F811
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    (weights / "model.safetensors").write_bytes(b"0123456789")
    other = changed(arena, tmp_path, models__tiny__path=str(weights))
    assert materialize("models", other).success
    before = target_of(other, FIRST).model
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
    failure = materialize("target_model", other, FIRST).failure_data_for_node("target_model")
    assert "models.tiny" in failure.user_failure_data.description
    assert materialize("models", other).success
    assert target_of(other, FIRST).model.digest != before.digest
    assert state_of(other, FIRST).name == "out of date", "it was made with other weights"
    weights.rename(tmp_path / "moved")
    with pytest.raises(CorruptCheckpoint, match=r"models.tiny: the digest of .* is none"):
        target_of(other, FIRST)


def test_other_weights_in_the_same_place_put_rounds_out_of_date_and_absent_ones_do_not(
    arena,  # noqa: F811
    tmp_path,
):
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    (weights / "model.safetensors").write_bytes(b"0123456789")
    other = changed(arena, tmp_path, models__tiny__path=str(weights))
    assert materialize("models", other).success
    before = round_identity(other, FIRST)
    weights.rename(tmp_path / "elsewhere")
    assert round_identity(other, FIRST) == before, "what they made is made"
    (tmp_path / "elsewhere").rename(weights)
    flip(weights / "model.safetensors")
    assert "tiny" not in Moment(other).known and round_identity(other, FIRST) != before
    assert outdated(other, ["models"], "all") == [], "nobody takes them in without being asked"


def test_a_chat_template_that_changed_is_noticed_as_weights_are(arena, tiny_model, tmp_path):  # noqa: F811
    (tmp_path / "chat.jinja").write_text("{{ messages[0].content }}")
    settings = {"models__tiny__chat_template": str(tmp_path / "chat.jinja")}
    other = changed(arena, tmp_path, models__tiny__path=str(tiny_model), **settings)
    assert materialize("models", other).success
    weights = target_of(other, FIRST).model
    before = round_identity(other, FIRST)
    (tmp_path / "chat.jinja").write_text("{{ messages[-1].content }}")
    assert round_identity(other, FIRST) != before
    assert outdated(other, ["models"], "all") == [], "its weights are the same"
    assert target_of(other, FIRST).model.digest != weights.digest, "it answers anew"


def test_the_weights_of_a_round_stay_while_they_are_used(done):
    used = target_of(done, SECOND).model.path
    checkpoint_of(Arena(done.profile_path, done.lake.root), FIRST, b"newer")
    assert (used / "model.safetensors").read_bytes() == b"weights"
    assert CheckpointStore(done.checkpoints.root).current(FIRST) != used
