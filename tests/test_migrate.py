"""`arena migrate`: what version 0.3.0 paid for is found under the keys of now."""

from __future__ import annotations

import errno
import json
import shutil
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from arena_assets.assets import prompts as prompt_assets
from arena_assets.assets import training as training_assets
from arena_assets.cli.main import _explains_itself, app
from arena_assets.curation import difficulty
from arena_assets.flywheel import old_keys
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.handover import round_contestants
from arena_assets.flywheel.migration import Moved, migrate
from arena_assets.flywheel.weights import known_models
from arena_assets.generation import responses
from arena_assets.generation.contestants import Contestant
from arena_assets.judging.judges import LanguageModelJudge, Verifier
from arena_assets.judging.panel import judge_round, members_of_round
from arena_assets.lake import rekeying
from arena_assets.lake.lake import Lake, NotWritable, UnmigratedStore, has_rows
from arena_assets.lake.tables import PROMPTS
from arena_assets.models.engine import Completion
from arena_assets.models.model import Local, Model, Served
from arena_assets.training.checkpoints import MANIFEST, Manifest

ROUND = "i01.1-sft"
TEMPLATE = "{# plain #}{% for m in messages %}{{ m.content }}{% endfor %}"


class Scribe:
    """An engine that answers, judges and rates, and counts what it was asked."""

    def __init__(self):
        self.asked, self.name = 0, ""

    def opened(self, weights):
        self.name = weights.name
        return self

    def chat(self, requests, sampling, samples=1, json_schema=None):
        self.asked += len(requests)
        said = json.dumps({"explanation": "So.", "score_a": 7, "score_b": 4, "difficulty": 3})
        return [
            [
                Completion(
                    said
                    if json_schema
                    else f"{self.name} {sampling.temperature} {request.prompt_id} {n}",
                    "stop",
                    3,
                    2,
                    dtype="float32",
                )
                for n in range(samples)
            ]
            for request in requests
        ]


def build(tmp_path: Path, tiny_profile: Path) -> Arena:
    """An arena of 0.3.0: two models with their tables, prompts, and nothing paid for yet."""
    profile = yaml.safe_load(tiny_profile.read_text("utf-8"))
    (tmp_path / "template.jinja").write_text(TEMPLATE, "utf-8")
    (tmp_path / "recorded.jsonl").write_text('{"prompt_id": "p0", "text": "x"}\n', "utf-8")
    (tmp_path / "brief.yaml").write_text("version: b1\nsystem: Be brief.\n", "utf-8")
    path = profile["models"]["tiny"]["path"]
    profile["models"]["tiny"]["chat_template"] = str(tmp_path / "template.jinja")
    profile["models"]["served"] = {
        "endpoint": {"urls": ["http://127.0.0.1:1/v1"], "model": "one", "system_role": False}
    }
    profile["generation"]["engine"].pop("dtype")
    profile["opponents"][0]["recorded"] = str(tmp_path / "recorded.jsonl")
    served = {"name": "served", "model": "served", "system_prompt": str(tmp_path / "brief.yaml")}
    profile["opponents"].append(served | {"sampling": {"max_tokens": 9}})
    judge = {"kind": "llm", "name": "judge", "model": "served", "self_judging": "allow"}
    profile["judge"] = judge
    profile["shadow_judges"] = []
    profile["prompts"]["testset"]["rater"] = {"model": "served"}
    (tmp_path / "arena.yaml").write_text(yaml.safe_dump(profile), "utf-8")
    arena = Arena(str(tmp_path / "arena.yaml"), str(tmp_path / "lake"))
    row = {"name": "tiny", "origin": path, "path": path, "digest": "weights"}
    arena.lake.write("models", [row])
    rest = {"source": "seed", "category": "c", "constraints": '[{"type": "no_commas"}]'}
    prompts = [
        rest | {"prompt_id": f"p{n}", "messages": [{"role": "user", "content": f"Question {n}"}]}
        for n in range(4)
    ]
    arena.lake.write("prompts", pa.Table.from_pylist(prompts, schema=PROMPTS.schema), "seed")
    arena.lake.write("prompts_curated", pa.Table.from_pylist(prompts, schema=PROMPTS.schema))
    return arena


@pytest.fixture
def arena(tmp_path, tiny_profile) -> Arena:
    return build(tmp_path, tiny_profile)


def work(arena: Arena) -> int:
    """Answer, judge and rate all that a round has; how often a model was asked."""
    engine, lake, known = Scribe(), arena.lake, known_models(arena)
    prompts = lake.read("prompts_curated")
    contestants = round_contestants(arena, ROUND)
    setting = responses.Setting(engine.opened, arena.profile.seed, 8, print)
    columns = prompts.select(["prompt_id", "messages", "constraints"])
    responses.respond(lake, "responses", ROUND, columns, contestants, setting)
    members = members_of_round(arena.profile, known, engine.opened)
    judge_round(lake, "judgments", "responses", ROUND, members, arena.profile, print)
    rater = arena.profile.prompts.testset.rater
    rate = difficulty.rate(
        prompts,
        rater,
        known["served"].identity,
        lambda: engine,
        lake.store("difficulty"),
        8,
        print,
    )
    assert len(rate) == prompts.num_rows
    return engine.asked


def old_digest(model: Model) -> str:
    if isinstance(model, Served):
        return old_keys.served(model.endpoint)
    if isinstance(model, Local) and model.chat_template:
        return old_keys.templated("weights", model.chat_template)
    return model.digest


@pytest.fixture(scope="module")
def worked_in(tmp_path_factory, tiny_profile) -> Arena:
    """The arena after version 0.3.0 worked in it."""
    arena = build(tmp_path_factory.mktemp("old"), tiny_profile)

    def requested(connection, contestant, seed):
        sql = old_keys.response_sql(contestant, old_digest(contestant.model), seed)
        connection.execute(
            f"create or replace temp view requested as select *, {sql} as response_id from prompts"
        )

    with pytest.MonkeyPatch.context() as old:
        old.setattr(
            Contestant,
            "key",
            lambda self, seed: old_keys.answers(self, old_digest(self.model), seed),
        )
        old.setattr(responses, "create_requested", requested)
        key = property(
            lambda self: old_keys.verdicts(self.settings, self.template, old_digest(self.model))
        )
        old.setattr(LanguageModelJudge, "key", key)
        old.setattr(Verifier, "key", old_keys.VERIFIER)
        digest = old_keys.served(arena.profile.models["served"].endpoint)
        old.setattr(
            difficulty,
            "key_of",
            lambda model, sampling, messages: old_keys.difficulty(digest, sampling, messages),
        )
        old.setattr(Lake, "stores", property(lambda self: self.root / "store"))
        old.setattr(Lake, "refuse_unmigrated", lambda self, *kinds: None)
        # four contestants answer four prompts, and each pair plays twice
        assert work(arena) == 4 * 4 + 4 * 6 * 2 + 4
    return arena


@pytest.fixture
def old_lake(worked_in, tmp_path) -> Arena:
    """A copy of it."""
    shutil.copytree(worked_in.lake.root, tmp_path / "lake")
    profile = shutil.copy(worked_in.profile_path, tmp_path / "arena.yaml")
    return Arena(str(profile), str(tmp_path / "lake"))


def rows_of(arena: Arena, *kinds: str) -> list[str]:
    """The keys of all stored rows, old and new."""
    found = []
    for kind in kinds or ("responses", "judgments", "difficulty"):
        for folder in (arena.lake.root / "store" / kind, arena.lake.stores / kind):
            for shard in folder.rglob("*.parquet"):
                table = pq.read_table(shard, partitioning=None)
                found += table.column(0).to_pylist()
    return found


def test_all_that_was_paid_for_is_found_again_and_nothing_is_asked(old_lake):
    before = len(rows_of(old_lake))
    assert before == 16 + 48 + 4
    moved = migrate(old_lake, print)
    assert {row.what: (row.moved, row.left) for row in moved} == {
        "answers of base": (4, 0),
        "answers of reference": (4, 0),
        "answers of best-of-2": (4, 0),
        "answers of served": (4, 0),
        "verdicts of judge": (48, 0),
        "difficulties": (4, 0),
    }
    assert work(old_lake) == 0
    assert len(rows_of(old_lake)) == before
    for kind in ("responses", "judgments", "difficulty"):
        assert not has_rows(old_lake.lake.root / "store" / kind)


def test_it_may_be_run_again_and_then_does_nothing(old_lake):
    migrate(old_lake, print)
    rows = sorted(rows_of(old_lake))
    assert migrate(old_lake, print) == []
    assert sorted(rows_of(old_lake)) == rows


@pytest.mark.parametrize("step", [0, 1, 2, 4, 7, 13])
def test_a_kill_at_any_step_loses_nothing(old_lake, monkeypatch, step):
    before = len(rows_of(old_lake))
    steps = iter(range(1_000))

    def maybe(act):
        def counted(*args, **kwargs):
            if next(steps) == step:
                raise KeyboardInterrupt
            return act(*args, **kwargs)

        return counted

    with monkeypatch.context() as kill:
        kill.setattr(rekeying, "_add_shard", maybe(rekeying._add_shard))
        kill.setattr(Path, "unlink", maybe(Path.unlink))
        with pytest.raises(KeyboardInterrupt):
            migrate(old_lake, print)
        assert not old_lake.lake.migrated.exists()
    assert len(set(rows_of(old_lake))) >= before
    migrate(old_lake, print)
    assert work(old_lake) == 0
    assert Counter(rows_of(old_lake)).most_common(1)[0][1] == 1, "no row stands there twice"


def test_a_run_on_a_lake_that_was_not_migrated_says_so_and_pays_nothing(old_lake, monkeypatch):
    sentence = "made by an earlier version, under other keys.*run `arena migrate` once"
    for begin in (work, lambda arena: arena.lake.refuse_unmigrated()):
        with pytest.raises(UnmigratedStore, match=sentence):
            begin(old_lake)
    monkeypatch.setenv("ARENA_PROFILE", str(old_lake.profile_path))
    monkeypatch.setenv("ARENA_LAKE", str(old_lake.lake.root))
    run = CliRunner().invoke(app, ["run"])
    assert isinstance(run.exception, UnmigratedStore)
    moved = CliRunner().invoke(app, ["migrate"], catch_exceptions=False)
    assert "verdicts of judge" in moved.stdout and "48" in moved.stdout
    assert "nothing to do" in CliRunner().invoke(app, ["migrate"]).stdout
    assert work(old_lake) == 0


def test_a_full_disk_is_told_in_a_sentence(old_lake, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rekeying, "write_atomically", full)
    monkeypatch.setenv("ARENA_PROFILE", str(old_lake.profile_path))
    monkeypatch.setenv("ARENA_LAKE", str(old_lake.lake.root))
    stopped = CliRunner().invoke(app, ["migrate"]).exception
    assert isinstance(stopped, NotWritable) and "the disk is full" in str(stopped)
    assert _explains_itself(stopped) and _explains_itself(UnmigratedStore("run `arena migrate`"))


def test_a_new_lake_has_nothing_to_migrate(arena):
    arena.lake.refuse_unmigrated()
    assert work(arena) > 0 and work(arena) == 0
    assert migrate(arena, print) == []


def test_what_belongs_to_nobody_stays_and_is_counted(old_lake):
    profile = yaml.safe_load(old_lake.profile_path.read_text("utf-8"))
    kept = [o for o in profile["opponents"] if o["name"] != "best-of-2"]
    profile["opponents"], profile["ratings"]["anchor"] = kept, "reference"
    profile["prompts"]["testset"]["rater"] = None
    less = old_lake.profile_path.with_name("less.yaml")
    less.write_text(yaml.safe_dump(profile), "utf-8")
    moved = {row.what: row for row in migrate(Arena(str(less), old_lake.lake.root), print)}
    assert moved["other responses"] == Moved(
        "other responses", 0, 4, "nobody in the profile made them"
    )
    assert moved["other difficulty"].left == 4
    assert moved["verdicts of judge"].moved == 48, "the round's table has the answers of all"
    again = {row.what: row.moved for row in migrate(old_lake, print)}
    assert again == {"answers of best-of-2": 4, "difficulties": 4}, "its owner is back"
    assert work(old_lake) == 0


def test_rows_whose_prompts_are_gone_stay_and_are_counted(old_lake):
    prompts = old_lake.lake.read("prompts", "seed")
    old_lake.lake.write("prompts", prompts.slice(0, 3), "seed")
    old_lake.lake.write("prompts_curated", prompts.slice(0, 3))
    moved = {row.what: row for row in migrate(old_lake, print)}
    assert moved["answers of base"] == Moved(
        "answers of base", 3, 1, "no table of the lake holds what they are about"
    )
    assert (moved["verdicts of judge"].moved, moved["verdicts of judge"].left) == (36, 12)
    old_lake.lake.write("prompts", prompts, "seed")
    old_lake.lake.write("prompts_curated", prompts)
    again = {row.what: (row.moved, row.left) for row in migrate(old_lake, print)}
    assert again["verdicts of judge"] == (12, 0) and again["answers of base"] == (1, 0)
    assert work(old_lake) == 0


def test_answers_of_another_number_type_are_not_taken_for_those_of_the_profile_s(old_lake):
    profile = yaml.safe_load(old_lake.profile_path.read_text("utf-8"))
    profile["generation"]["engine"]["dtype"] = "bfloat16"
    old_lake.profile_path.write_text(yaml.safe_dump(profile), "utf-8")
    other = Arena(str(old_lake.profile_path), old_lake.lake.root)
    moved = {row.what: row for row in migrate(other, print)}
    assert (moved["answers of base"].moved, moved["answers of base"].left) == (0, 4)
    assert "another number type than bfloat16" in moved["answers of base"].why
    assert moved["answers of served"].moved == 4, "a server's is not ours to say"


@pytest.mark.parametrize(
    ("asked_for", "noted", "moved"),
    [
        ("float32", "float", 4),
        ("float", "float32", 4),
        ("float16", "half", 4),
        ("half", "float", 0),
    ],
)
def test_a_number_type_is_the_same_under_each_of_its_names(old_lake, asked_for, noted, moved):
    for shard in (old_lake.lake.root / "store/responses").rglob("*.parquet"):
        rows = pq.read_table(shard, partitioning=None)
        names = pa.array([noted] * len(rows))
        pq.write_table(rows.set_column(rows.schema.get_field_index("dtype"), "dtype", names), shard)
    profile = yaml.safe_load(old_lake.profile_path.read_text("utf-8"))
    profile["generation"]["engine"]["dtype"] = asked_for
    old_lake.profile_path.write_text(yaml.safe_dump(profile), "utf-8")
    found = migrate(Arena(str(old_lake.profile_path), old_lake.lake.root), print)
    assert {row.what: row.moved for row in found}["answers of base"] == moved


def test_torn_files_are_left_out_and_named_and_the_rest_moves(old_lake):
    lake = old_lake.lake
    torn = [
        lake.root / "store/responses/0123abcd/1-1.parquet",  # of nobody in the profile
        lake.path("prompts", "other"),
        lake.path("arena_testset"),
    ]
    for file in torn:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"PAR1 half of a")
    said = []
    moved = {row.what: (row.moved, row.left) for row in migrate(old_lake, said.append)}
    for file in torn[:2]:
        assert f"{file}: not a whole Parquet file; its rows are left out" in said
    assert moved["verdicts of judge"] == (48, 0) and moved["test set"] == (0, 1)
    assert "other responses" not in moved, "nobody can count them"
    assert work(old_lake) == 0


@pytest.mark.parametrize(
    ("asset", "made"), [("testset_versions", "testset_versions"), ("checkpoint", "checkpoints")]
)
def test_an_asset_that_is_made_first_in_the_ui_loses_nothing_of_an_older_lake(
    old_lake, asset, made
):
    make = getattr(training_assets if asset == "checkpoint" else prompt_assets, asset)
    context = dg.build_asset_context(partition_key=ROUND)
    with pytest.raises(dg.Failure, match="run `arena migrate` once, which keeps it") as refused:
        make(context, old_lake)
    assert not refused.value.allow_retries
    assert not (old_lake.lake.root / made).exists()


def test_a_checkpoint_of_version_030_stays_and_is_said_to_be_trained_again(arena):
    """Of the same rows training makes other weights now: it starts from float32 masters."""
    store = arena.checkpoints
    scratch = store.scratch(ROUND)
    scratch.mkdir(parents=True)
    (scratch / "model.safetensors").write_bytes(b"weights")
    old = Manifest(
        round=ROUND,
        stage="sft",
        digest="d",
        parent="base",
        parent_digest="weights",
        training_set_digest="rows",
        fingerprint="of version 0.3.0",
        config={"dtype": "float32", "rows_version": 2},
        dtype="float32",
        versions={},
        metrics={},
        run_id="x",
        created_at=datetime.now(UTC),
    )
    store.commit(scratch, old)
    (told,) = migrate(arena, print)
    assert told == Moved(f"checkpoint {ROUND}", 0, 1, told.why)
    assert "the next run trains it again" in told.why
    assert store.manifest(ROUND) == old, "it fights as it did until then"
    new = {"config": {"dtype": "float32"}, "fingerprint": "of now"}
    manifest = store.path(ROUND) / MANIFEST
    manifest.write_text(old.model_copy(update=new).model_dump_json(), "utf-8")
    assert migrate(arena, print) == []
