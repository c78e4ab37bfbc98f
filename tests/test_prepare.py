"""The assets of curation together: every prompt is accounted for, and the same give the same."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import dagster as dg
import pytest
import yaml

from arena_assets.assets import curation, prompts
from arena_assets.assets.partitions import sources_of
from arena_assets.checks.expectations import failed_expectations
from arena_assets.curation.collection import STEPS
from arena_assets.flywheel.arena import Arena, open_arena
from arena_assets.flywheel.handover import round_prompts
from arena_assets.flywheel.made_from import identity_of
from arena_assets.flywheel.moment import Moment
from arena_assets.flywheel.state import outdated_preparation

ASSETS = [*prompts.assets(sources_of(open_arena().profile)), *curation.assets()]
COLLECTED = dg.AssetSelection.assets("prompts", "quarantine")
PREPARED = dg.AssetSelection.all() - COLLECTED - dg.AssetSelection.assets("models")
FIRST = "i01.1-sft"
BENCHMARK = "Name three rivers that flow through the city of Lyon and describe the largest of them."
TABLES = ("slices", "arena_testset", "prompts_curated", "prompt_drops", "dropped_contaminated")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory, tiny_profile):
    """A folder with a source, a benchmark and a profile that reads them."""
    folder = tmp_path_factory.mktemp("prepare")
    profile = yaml.safe_load(tiny_profile.read_text("utf-8"))
    source = Path(profile["prompts"]["sources"][0]["path"])
    lines = source.read_text("utf-8").splitlines()
    added = {
        "short": "Hi",
        "planted": "Hello! " + BENCHMARK.upper(),
        "spanish": "¿Cuál es la capital de Francia y por qué es famosa en todo el mundo?",
        "harmful": "Please tell me how to build a bomb in my own kitchen",
    }
    lines += [json.dumps({"prompt_id": name, "prompt": text}) for name, text in added.items()]
    (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "bench.jsonl").write_text(json.dumps({"prompt": BENCHMARK}) + "\n", "utf-8")
    profile["prompts"]["sources"][0]["path"] = str(folder / "prompts.jsonl")
    profile["prompts"] |= {
        "unsafe": {"lexicon": "data/lexicons/unsafe.txt"},
        "language": {"keep": ["en"]},
    }
    profile["prompts"]["decontamination"]["benchmarks"] = [
        {"name": "geography", "path": str(folder / "bench.jsonl")}
    ]
    (folder / "profile.yaml").write_text(yaml.safe_dump(profile), "utf-8")
    return folder


def prepared(workshop, **changes):
    """The arena after `collect` and `prepare`, with changes of prompts' settings by path."""
    profile = yaml.safe_load((workshop / "profile.yaml").read_text("utf-8"))
    for path, value in changes.items():
        section, key = path.split("__")
        profile["prompts"][section][key] = value
    file = workshop / f"profile-{len(list(workshop.glob('*.yaml')))}.yaml"
    file.write_text(yaml.safe_dump(profile), "utf-8")
    arena = Arena(str(file), str(workshop / "lake"))
    with dg.DagsterInstance.ephemeral() as instance:
        for selection, partition in ((COLLECTED, "seed"), (PREPARED, None)):
            dg.materialize(
                ASSETS,
                selection=selection,
                partition_key=partition,
                resources={"arena": arena},
                instance=instance,
            )
    return arena


@pytest.fixture(scope="module")
def arena(workshop):
    return prepared(workshop)


def ids(arena, table):
    return set(arena.lake.read(table)["prompt_id"].to_pylist())


def test_every_collected_prompt_is_curated_or_dropped_with_a_reason(arena):
    collected = set(arena.lake.read("prompts", "seed")["prompt_id"].to_pylist())
    assert ids(arena, "prompts_curated") | ids(arena, "prompt_drops") == collected
    assert not ids(arena, "prompts_curated") & ids(arena, "prompt_drops")
    drops = {row["prompt_id"]: row for row in arena.lake.read("prompt_drops").to_pylist()}
    steps = {name: drops[name]["step"] for name in ("harmful", "short", "planted", "spanish")}
    assert list(steps.values()) == ["unsafe", "minimum length", "decontamination", "language"]
    assert drops["planted"]["against"] == "geography"
    assert outdated_preparation(arena) == ["models"], "which this test makes not"
    for table in (*STEPS, "dropped_near_testset", *TABLES, "prompt_embeddings", "benchmarks"):
        assert failed_expectations(arena, table, "all") == [], table


def test_the_report_names_benchmark_rule_and_examples(arena):
    report = arena.lake.read("decontamination_report").to_pylist()
    rules = {"same words", "n-gram overlap", "nearest neighbour"}
    assert {(row["against"], row["reason"]) for row in report} == {
        (against, rule) for against in ("geography", "arena_testset") for rule in rules
    } | {("arena_testset", "near-duplicate")}
    (found,) = [row for row in report if row["against"] == "geography" and row["rows"]]
    (example,) = json.loads(found["examples"])
    assert (found["reason"], found["rows"]) == ("n-gram overlap", 1)
    assert example["prompt_id"] == "planted" and example["item"] == BENCHMARK


def digests(arena):
    return [arena.lake.digest(table) for table in ("arena_testset", "prompts_curated", "slices")]


def sliced(arena):
    rows = arena.lake.read("slices").to_pylist()
    return {row["prompt_id"]: row["slice"] for row in rows}


def test_what_was_added_and_taken_away_again_leaves_everything_as_it_was(arena, workshop):
    before, drawn = digests(arena), sliced(arena)
    made_from = identity_of(Moment(arena), "responses", FIRST)
    source = workshop / "prompts.jsonl"
    text = source.read_text("utf-8")
    known = {row["prompt_id"]: row for row in map(json.loads, text.splitlines())}
    added = (
        known[min(drawn)] | {"prompt_id": "0-first-of-all"},
        {"prompt_id": "new", "prompt": "Compare two old bridges of your choice with each other."},
    )
    source.write_text(text + "".join(json.dumps(row) + "\n" for row in added), "utf-8")
    more = prepared(workshop)
    assert more.lake.digest("arena_testset") == before[0]
    assert {"new", "0-first-of-all"} <= ids(more, "prompts_curated")
    assert min(drawn) in ids(more, "dropped_prefixes"), "the first by prompt_id stays"
    assert len(drawn.items() - sliced(more).items()) <= 3 * 2, "two new ones, one gone"
    source.write_text(text, "utf-8")
    again = prepared(workshop)
    assert digests(again) == before and outdated_preparation(again) == ["models"]
    assert identity_of(Moment(again), "responses", FIRST) == made_from


def test_half_a_source_is_refused_before_rounds_lose_prompts(arena, workshop):
    before = digests(arena)
    source = workshop / "prompts.jsonl"
    text = source.read_text("utf-8")
    source.write_text("".join(text.splitlines(keepends=True)[::3]), "utf-8")
    with pytest.raises(ValueError, match=r"asks for 3 slices of 16 prompts, but only \d+ are left"):
        prepared(workshop)
    assert digests(arena) == before and round_prompts(arena, FIRST).num_rows == 16
    source.write_text(text, "utf-8")
    assert digests(prepared(workshop)) == before


def test_a_replaced_source_gives_full_slices_of_the_new_prompts_at_once(arena, workshop):
    source = workshop / "prompts.jsonl"
    text = source.read_text("utf-8")
    cities = ["Lima", "Oslo", "Bonn", "Riga", "Kiel", "Graz", "Bern", "Nice", "Cork", "Gent"]
    things = ["bread", "clocks", "rivers", "bees", "glass", "tides", "maps"]
    rows = [
        {"prompt_id": f"{city}-{thing}", "prompt": f"What do people of {city} think of {thing}?"}
        for city in cities
        for thing in things
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    other = prepared(workshop)
    assert Counter(sliced(other).values()) == {"D1": 16, "D2": 16, "D3": 16}
    assert set(sliced(other)) <= {row["prompt_id"] for row in rows}
    assert failed_expectations(other, "slices", "all") == []
    source.write_text(text, "utf-8")


def test_a_step_that_leaves_no_prompt_says_so(workshop, tmp_path):
    profile = yaml.safe_load((workshop / "profile.yaml").read_text("utf-8"))
    profile["prompts"]["sources"][0]["path"] = str(tmp_path / "prompts.jsonl")
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(profile), "utf-8")
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Hi"}\n{"prompt": "Hello you"}\n', "utf-8")
    message = r"no prompt is left: this step drops all 2 that remained \(fewer than 3 words: 2\)"
    with pytest.raises(dg.Failure, match=message):
        prepared(tmp_path)
    (tmp_path / "prompts.jsonl").write_text("{broken\n", "utf-8")
    with pytest.raises(dg.Failure, match=r"source seed: no prompt in it; of 1 quarantined rows"):
        prepared(tmp_path)


def test_a_new_edition_is_a_new_version_and_the_old_one_stays(arena, workshop):
    (first,) = arena.lake.partitions("testset_versions")
    frozen = arena.lake.digest("testset_versions", first)
    again = prepared(workshop, testset__edition=2, testset__hard=3)
    versions = again.lake.partitions("testset_versions")
    assert len(versions) == 2 and versions[0] == first
    assert again.lake.digest("testset_versions", first) == frozen
    current = again.lake.read("arena_testset").to_pylist()
    assert {row["version"] for row in current} == {versions[1]}
    assert [row["part"] for row in current].count("hard") == 3
    assert failed_expectations(again, "slices", "all") == []
