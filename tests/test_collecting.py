"""The assets that collect sources and benchmarks: what they publish, and how they refuse."""

from __future__ import annotations

import json

import dagster as dg
import pytest
import yaml

from arena_assets.assets import curation, prompts
from arena_assets.assets.partitions import sources_of
from arena_assets.flywheel.arena import Arena, open_arena
from arena_assets.flywheel.state import outdated

ASSETS = [*prompts.assets(sources_of(open_arena().profile)), *curation.assets()]
QUESTION = "Why do tides lag behind the moon?"


@pytest.fixture
def collect(tmp_path, tiny_profile):
    """Writes files, reads them as the source `seed` or as a benchmark, and gives what happened."""

    def run(files, asset="prompts", benchmark=False, path="", **settings):
        for name, rows in files.items():
            lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
            (tmp_path / "data").mkdir(exist_ok=True)
            (tmp_path / "data" / name).write_text("\n".join(lines) + "\n", "utf-8")
        profile = yaml.safe_load(tiny_profile.read_text("utf-8"))
        source = {"name": "seed", "path": str(tmp_path / "data" / path), **settings}
        if benchmark:
            profile["prompts"]["decontamination"]["benchmarks"] = [source]
        else:
            profile["prompts"]["sources"] = [source]
        (tmp_path / "profile.yaml").write_text(yaml.safe_dump(profile), "utf-8")
        arena = Arena(str(tmp_path / "profile.yaml"), str(tmp_path / "lake"))
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize(
                ASSETS,
                selection=[asset, "quarantine"] if asset == "prompts" else [asset],
                partition_key="seed" if asset == "prompts" else None,
                resources={"arena": arena},
                instance=instance,
                raise_on_error=False,
            )
        return arena, result

    return run


def failure(result):
    """The sentence with which an asset failed."""
    (event,) = [event for event in result.all_events if event.is_step_failure]
    data = event.step_failure_data
    return data.user_failure_data.description if data.user_failure_data else data.error.message


def metadata(result, asset):
    (event,) = result.asset_materializations_for_node("prompts_of_source")[-1:]
    assert event.asset_key == dg.AssetKey(asset)
    return {name: value.value for name, value in event.metadata.items()}


def test_what_was_left_out_of_a_source_is_in_its_metadata(collect):
    rows = [
        {"prompt": QUESTION, "language": "en", "difficulty": "easy", "response": "x"},
        {"prompt": QUESTION, "language": "en"},
        "{broken",
    ]
    arena, result = collect({"a.jsonl": rows, "notes.md": ["x"]})
    found = metadata(result, "prompts")
    folder = arena.profile.prompts.sources[0].path.rstrip("/")
    left_out = {
        "columns_left_out": "language (2)",
        "columns_of_answers": "response (1)",
        "values_dropped": (
            f"difficulty: no number from 0 to 10, first in {folder}/a.jsonl, line 1 (1)"
        ),
        "repeated_rows": 1,
        "files_left_out": f"{folder}/notes.md",
    }
    assert {name: found[name] for name in left_out} == left_out
    assert arena.lake.read("quarantine", "seed")["line"].to_pylist() == [3]


def test_a_source_without_a_prompt_is_told_and_takes_none_away(collect):
    arena, result = collect({"a.jsonl": [{"prompt": QUESTION}]})
    assert result.success
    assert outdated(arena, ["prompts"], "seed") == []
    arena, result = collect({"a.jsonl": ["{broken"]})
    assert failure(result).startswith(
        "source seed: no prompt in it; of 1 quarantined rows the first"
    )
    assert "a.jsonl, line 1: not JSON" in failure(result)
    assert arena.lake.read("prompts", "seed").num_rows == 1
    assert arena.lake.read("quarantine", "seed").num_rows == 1
    assert outdated(arena, ["prompts"], "seed") == ["prompts"]
    assert failure(collect({"a.jsonl": []})[1]) == "source seed: no prompt in it; it has no rows"


@pytest.mark.parametrize(
    ("files", "settings", "words"),
    [
        ({"a.jsonl": [{"prompt": "x"}]}, {"path": "b.jsonl"}, "b.jsonl: no such file"),
        ({"a.jsonl": [{"body": "x"}]}, {}, "no column is known (there: body)"),
        ({"a.jsonl": [{"prompt": "x"}]}, {"ignore": ["y"]}, "no column 'y', which the profile"),
        ({"a.json": ['[{"prompt": "x"}']}, {}, "the array breaks off"),
    ],
)
def test_a_source_that_cannot_be_read_fails_in_one_sentence(collect, files, settings, words):
    sentence = failure(collect(files, **settings)[1])
    assert sentence.startswith("source seed: ") and words in sentence and "\n" not in sentence


def test_a_benchmark_may_ask_twice_but_not_be_broken(collect):
    rows = [{"question": QUESTION}, {"question": "And on a lake?"}, {"question": QUESTION}]
    arena, result = collect({"a.jsonl": rows}, asset="benchmarks", benchmark=True)
    assert result.success and arena.lake.read("benchmarks").num_rows == 2
    _, result = collect({"a.jsonl": [*rows, "{broken"]}, asset="benchmarks", benchmark=True)
    assert "benchmark seed: of 1 quarantined rows the first:" in failure(result)
    assert "a.jsonl, line 4: not JSON" in failure(result)
    _, result = collect({"a.jsonl": []}, asset="benchmarks", benchmark=True)
    assert failure(result).startswith("benchmark seed: it has no rows; a benchmark that is read")


def test_a_collection_of_which_nothing_is_left_is_told(collect):
    arena, result = collect({"a.jsonl": [{"prompt": "Hi"}]})
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            ASSETS,
            selection=dg.AssetSelection.all()
            - dg.AssetSelection.assets("prompts", "quarantine", "models"),
            resources={"arena": arena},
            instance=instance,
            raise_on_error=False,
        )
    assert failure(result).startswith("no prompt is left: this step drops all 1 that remained")
