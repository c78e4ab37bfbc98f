"""The assets of curation together: every prompt is accounted for, and what was drawn stays."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pytest
import yaml

from arena_assets.assets import curation, prompts
from arena_assets.checks.expectations import failed_expectations
from arena_assets.curation.collection import STEPS
from arena_assets.lineage import prompts_fingerprint, round_fingerprint
from arena_assets.resources import ArenaResource

ASSETS = dg.load_assets_from_modules([prompts, curation])
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
    arena = ArenaResource(profile=str(file), lake_root=str(workshop / "lake"))
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
    assert arena.lake.fingerprint("prompt_drops") == prompts_fingerprint(arena.arena)
    for table in (*STEPS, "dropped_near_testset", *TABLES, "prompt_embeddings", "benchmarks"):
        assert failed_expectations(arena, table, "all") == [], table


def test_the_report_names_benchmark_rule_and_examples(arena):
    report = arena.lake.read("decontamination_report").to_pylist()
    rules = {"same words", "n-gram overlap", "nearest neighbour"}
    assert {(row["against"], row["reason"]) for row in report} == {
        (against, rule) for against in ("geography", "arena_testset") for rule in rules
    }
    (found,) = [row for row in report if row["against"] == "geography" and row["rows"]]
    (example,) = json.loads(found["examples"])
    assert (found["reason"], found["rows"]) == ("n-gram overlap", 1)
    assert example["prompt_id"] == "planted" and example["item"] == BENCHMARK


def test_new_prompts_change_neither_test_set_nor_slices_nor_finished_rounds(arena, workshop):
    before = [arena.lake.digest(table) for table in ("arena_testset", "slices")]
    fingerprint = round_fingerprint(arena, FIRST)
    drawn = arena.lake.query(
        "select messages from p semi join s using (prompt_id) order by prompt_id limit 1",
        p=("prompts_curated", "all"),
        s=("slices", "all"),
    )["messages"][0].as_py()
    source = workshop / "prompts.jsonl"
    repeated = {"prompt_id": "0-first-of-all", "messages": drawn}
    new = {"prompt_id": "new", "prompt": "Compare two old bridges of your choice with each other."}
    with source.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in (repeated, new))
    again = prepared(workshop)
    assert [again.lake.digest(table) for table in ("arena_testset", "slices")] == before
    assert round_fingerprint(again, FIRST) == fingerprint
    assert "new" in ids(again, "prompts_curated")
    assert "0-first-of-all" in ids(again, "dropped_prefixes"), "a prompt in a slice wins"


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
