"""From collections of any usual shape to curated prompts, a test set and disjoint slices."""

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arena_assets.config import Prompts, Source
from arena_assets.curation.curate import conversation_words, curate, near_duplicates
from arena_assets.curation.slices import draw_slices
from arena_assets.curation.sources import read_source
from arena_assets.curation.testset import build_testset
from arena_assets.tables import PROMPTS

TOPICS = ("rivers", "glass", "bees", "clocks", "bread", "tides", "maps", "paper", "salt", "kites")


def source_file(tmp_path, name, content):
    path = tmp_path / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(content), path)
    elif name.endswith(".csv"):
        path.write_text(content, encoding="utf-8")
    else:
        path.write_text("".join(line + "\n" for line in content), encoding="utf-8")
    return path


def read(path):
    return read_source(Source(name="web", path=str(path)), path)


SHAPES = {
    "messages": {"messages": [{"role": "user", "content": "Hi there"}]},
    "conversations": {"conversations": [{"from": "human", "value": "Hi there"}]},
    "with an answer": {
        "conversations": [{"from": "human", "value": "Hi there"}, {"from": "gpt", "value": "Hello"}]
    },
    "instruction": {"instruction": "Hi there", "input": "", "output": "Hello"},
    "prompt": {"prompt": "Hi there"},
    "question": {"question": "Hi there"},
    "text": {"text": "Hi there"},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_usual_shapes_become_the_same_prompt(tmp_path, shape):
    prompts, quarantine = read(source_file(tmp_path, "a.jsonl", [json.dumps(SHAPES[shape])]))
    assert quarantine.num_rows == 0
    assert prompts["messages"].to_pylist() == [[{"role": "user", "content": "Hi there"}]]
    parquet, _ = read(source_file(tmp_path, "a.parquet", [SHAPES[shape]]))
    assert parquet.to_pylist() == prompts.to_pylist()


def test_alpaca_inputs_and_earlier_turns_are_kept(tmp_path):
    dialogue = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Two"},
        {"role": "user", "content": "Three"},
    ]
    rows = [{"instruction": "Sum up.", "input": "A text."}, {"messages": dialogue}]
    prompts, _ = read(source_file(tmp_path, "a.jsonl", [json.dumps(row) for row in rows]))
    assert prompts["messages"].to_pylist() == [
        [{"role": "user", "content": "Sum up.\n\nA text."}],
        dialogue,
    ]


def test_csv_cells_with_line_breaks_are_read(tmp_path):
    path = source_file(tmp_path, "a.csv", 'prompt,category\n"Two\nlines",x\n"Next, please",y\n')
    prompts, quarantine = read(path)
    assert [m[0]["content"] for m in prompts["messages"].to_pylist()] == [
        "Two\nlines",
        "Next, please",
    ]
    assert prompts["category"].to_pylist() == ["x", "y"] and quarantine.num_rows == 0


def test_malformed_rows_are_quarantined_with_their_line_and_text(tmp_path):
    lines = [
        '{"prompt": "Fine", "prompt_id": "1"}',
        "{broken",
        '{"prompt": "  "}',
        '{"messages": [{"role": "user"}]}',
        '{"messages": [{"role": "bot", "content": "x"}]}',
        '{"messages": [{"role": "assistant", "content": "x"}]}',
        '{"prompt": "Same id", "prompt_id": "1"}',
        '{"prompt": "Bad rule", "constraints": [{"type": "rhymes"}]}',
        '{"prompt": "Too hard", "difficulty": 11}',
        '["a list"]',
        '{"other": 1}',
    ]
    path = source_file(tmp_path, "a.jsonl", lines)
    prompts, quarantine = read(path)
    assert prompts["prompt_id"].to_pylist() == ["1"]
    rows = quarantine.to_pylist()
    assert [row["line"] for row in rows] == list(range(2, 12))
    assert [row["raw"] for row in rows] == lines[1:]
    assert {row["path"] for row in rows} == {str(path)}
    expected = (
        "not JSON",
        "prompt: empty",
        "turn 1, content: missing",
        "unknown role 'bot' (valid: system, user, assistant, human, gpt)",
        "expected user, got assistant",
        "'1' is already on line 1",
        "rhymes",
        "difficulty: expected a number from 0 to 10, got 11",
        "expected a JSON object, got list",
        "no column is known",
    )
    for row, words in zip(rows, expected, strict=True):
        assert words in row["reason"], row["line"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", ["x"], r"file type '.txt' is not understood \(valid: .jsonl, .csv, .parquet\)"),
        ("a.csv", "a,b\n1,2\n", r"no column is known \(there: a, b\); understood: messages"),
        ("a.jsonl", ['{"a": 1}', '{"b": 1}'], r"no column is known \(there: a, b\)"),
        ("a.parquet", [{"a": 1}], r"no column is known \(there: a\)"),
    ],
)
def test_a_file_that_is_no_collection_is_refused(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        read(source_file(tmp_path, name, content))


def test_hub_data_sets_are_streamed(tmp_path):
    """A local folder in the form of a hub data set: the same loader, without a network."""
    pytest.importorskip("datasets")
    folder = tmp_path / "hub"
    folder.mkdir()
    source_file(folder, "train.jsonl", ['{"prompt": "Hi there"}', '{"prompt": ""}'])
    prompts, quarantine = read_source(Source(name="hub", hub=str(folder)), None)
    assert prompts.num_rows == 1
    assert quarantine.to_pylist()[0]["line"] == 2


def prompt_rows(count, seed=0):
    """Prompts of random words, so that none repeats another."""
    draw = random.Random(seed)
    words = [f"{topic}{number}" for topic in TOPICS for number in range(40)]
    return [
        {
            "prompt_id": f"p{number:04d}",
            "source": "test",
            "messages": [{"role": "user", "content": " ".join(draw.sample(words, 12))}],
            "constraints": "[]" if number % 5 == 0 else '[{"type": "no_commas"}]',
            "category": "test",
            "difficulty": float(number % 10),
            "reference": None,
        }
        for number in range(count)
    ]


def as_table(rows):
    return pa.Table.from_pylist(rows, schema=PROMPTS.schema)


SETTINGS = Prompts.model_validate(
    {
        "sources": [{"name": "test", "path": "x"}],
        "slices": {"names": ["D1", "D2", "D3"], "rows": 30},
        "testset": {"clusters": 10, "diverse_per_cluster": 2, "hard": 10, "constrained_only": True},
    }
)


def test_short_repeated_and_nearly_repeated_prompts_are_dropped_with_their_reason():
    rows = prompt_rows(40)
    text = rows[7]["messages"][0]["content"]

    def variant(number, content):
        return rows[0] | {
            "prompt_id": f"q{number}",
            "messages": [{"role": "user", "content": content}],
        }

    extra = [
        variant(1, "Hi there"),
        variant(2, text.upper() + "!"),
        variant(3, text + " please"),
        variant(4, " ".join(reversed(text.split()))),
    ]
    kept, dropped = curate(as_table(rows + extra), SETTINGS)
    assert {row["prompt_id"]: (row["step"], row["match"]) for row in dropped.to_pylist()} == {
        "q1": ("minimum length", None),
        "q2": ("exact duplicate", "p0007"),
        "q3": ("near-duplicate", "p0007"),
    }
    assert kept.num_rows + dropped.num_rows == len(rows + extra)
    random.Random(1).shuffle(shuffled := rows + extra)
    again, _ = curate(as_table(shuffled), SETTINGS)
    assert again.equals(kept)


def test_near_duplicates_are_those_of_a_comparison_of_all_pairs():
    draw = random.Random(3)
    words = {}
    for row in prompt_rows(60):
        said = list(conversation_words(row["messages"]))
        words[row["prompt_id"]] = tuple(said)
        for copy in range(3):
            changed = list(said)
            for _ in range(copy):
                changed[draw.randrange(len(changed))] = "other"
            words[f"{row['prompt_id']}-{copy}"] = tuple(changed + ["so"] * 2)

    def grams(said):
        return {said[start : start + 3] for start in range(len(said) - 2)}

    expected = {}
    for name in words:
        for other in sorted(words):
            one, two = grams(words[name]), grams(words[other])
            if other != name and len(one & two) / len(one | two) >= 0.8:
                expected.setdefault(name, other)
    assert expected and near_duplicates(words, words, 0.8) == expected


def test_test_set_and_slices_are_disjoint_also_up_to_near_duplicates():
    rows = prompt_rows(300)
    held_out = build_testset(as_table(rows), SETTINGS.testset, seed=5)
    parts = held_out["part"].to_pylist()
    assert (parts.count("diverse"), parts.count("hard")) == (20, 10)
    by_id = {row["prompt_id"]: row for row in rows}
    tested = held_out["prompt_id"].to_pylist()
    assert all(by_id[prompt_id]["constraints"] != "[]" for prompt_id in tested)
    hard = [row["difficulty"] for row in held_out.to_pylist() if row["part"] == "hard"]
    assert min(hard) == 9.0
    copied = by_id[tested[0]]["messages"][0]["content"] + " now"
    rows.append(rows[1] | {"prompt_id": "copy", "messages": [{"role": "user", "content": copied}]})
    slices, drops = draw_slices(as_table(rows), held_out, SETTINGS, seed=5)
    assert drops.to_pylist()[0] | {"reason": ""} == {
        "prompt_id": "copy",
        "step": "decontamination",
        "reason": "",
        "match": tested[0],
    }
    drawn = slices["prompt_id"].to_pylist()
    assert len(drawn) == len(set(drawn)) == 90
    assert not set(drawn) & set(tested) and "copy" not in drawn
    again, _ = draw_slices(as_table(rows[::-1]), held_out, SETTINGS, seed=5)
    other, _ = draw_slices(as_table(rows), held_out, SETTINGS, seed=6)
    assert again.equals(slices) and not other.equals(slices)


def test_asking_for_more_prompts_than_there_are_is_refused():
    few = as_table(prompt_rows(20))
    with pytest.raises(ValueError, match=r"asks for 30 prompts .*only 16 qualify"):
        build_testset(few, SETTINGS.testset, seed=0)
    with pytest.raises(ValueError, match=r"asks for 3 slices of 30 prompts, but only 20 are left"):
        draw_slices(few, as_table([]).select(["prompt_id"]), SETTINGS, seed=0)
