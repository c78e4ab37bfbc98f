"""Recorded answers: what the file says is what fights, and what cannot be used is told."""

import datetime
import gzip
import json
import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arena_assets.config.models import Sampling
from arena_assets.models.engine import Request
from arena_assets.models.model import recording
from arena_assets.models.recorded import MissingRecording, RecordedEngine


def engine_of(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return RecordedEngine(path)


def answers(engine, *prompts):
    """The answers to prompts, an identifier or (identifier, turn) each."""
    requests = [Request(*((p[0], [], p[1]) if isinstance(p, tuple) else (p, []))) for p in prompts]
    return [drawn[0].text for drawn in engine.chat(requests, Sampling())]


A, B = '{"prompt_id": "a", "text": "high"}', '{"prompt_id": "b", "text": "low"}'
FILES = {
    "lines.jsonl": f"{A}\n{B}\n",
    "lines.ndjson": f"{A}\n{B}\n",
    "array.json": f"[{A}, {B}]",
    "array.jsonl": f"[{A},\n{B}]",
    "cells.csv": "text,prompt_id\nhigh,a\nlow,b\n",
    "mark.csv": "\ufeffprompt_id,text\na,high\nb,low\n",
    "cells.tsv": "prompt_id\ttext\na\thigh\nb\tlow\n",
    "lines.jsonl.gz": gzip.compress(f"{A}\n{B}\n".encode()),
    "mark.jsonl": f"\ufeff{A}\n{B}\n",
    "utf16.jsonl": f"{A}\n{B}\n".encode("utf-16"),
    "twice.jsonl": f"{A}\n{B}\n{A}\n",
}


@pytest.mark.parametrize("name", FILES)
def test_recordings_are_read_as_sources_are(tmp_path, name):
    engine = engine_of(tmp_path, name, FILES[name])
    assert answers(engine, "b", "a") == ["low", "high"] and engine.unusable == []


def test_folders_of_recordings_are_one_recording(tmp_path):
    (tmp_path / "a.jsonl").write_text(A)
    (tmp_path / "b.json").write_text(f"[{B}]")
    for place in (tmp_path, tmp_path / "?.json*"):
        assert answers(RecordedEngine(place), "a", "b") == ["high", "low"]
    assert recording(str(tmp_path)).digest == recording(f"{tmp_path}/*").digest


# the value of text or prompt_id in JSON, and the text that it is
VALUES = {
    "42": "42",
    "1.10": "1.10",
    "007": None,
    "12345678901234567890": "12345678901234567890",
    "1" + "0" * 5_000: "1" + "0" * 5_000,
    "-0.0": "-0.0",
    '"2024-01-05"': "2024-01-05",
    '"2024-1-5"': "2024-1-5",
    '"12:30:00"': "12:30:00",
    '"{\\"a\\": 1}"': '{"a": 1}',
    '"0e4f8a52-7a5d-4c4e-9f43-1d1f6ad7a3c5"': "0e4f8a52-7a5d-4c4e-9f43-1d1f6ad7a3c5",
    '"a\\nb \\"c\\""': 'a\nb "c"',
    '"NULL"': "NULL",
    '"1_000"': "1_000",
}


@pytest.mark.parametrize("value", VALUES)
def test_texts_and_identifiers_are_what_the_file_says(tmp_path, value):
    lines = f'{{"prompt_id": "x", "text": "plain"}}\n{{"prompt_id": "a", "text": {value}}}\n'
    lines += f'{{"prompt_id": {value}, "text": "found"}}\n'
    engine = engine_of(tmp_path, "a.jsonl", lines)
    assert answers(engine, "x") == ["plain"]
    if VALUES[value] is None:
        assert [text.split(": ")[1] for text in engine.unusable] == ["not JSON", "not JSON"]
    else:
        assert answers(engine, "a", VALUES[value]) == [VALUES[value], "found"]


def test_cells_are_texts(tmp_path):
    engine = engine_of(
        tmp_path, "a.csv", "prompt_id,text,turn\n007,1.10,\n1.0,2024-01-05,0\n1.0,,1\n"
    )
    assert answers(engine, "007", "1.0", ("1.0", 1)) == ["1.10", "2024-01-05", ""]


def test_parquet_says_what_its_types_say_and_dates_are_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"prompt_id": [1, 2], "text": ["one", "two"], "turn": [0.0, None]}), path
    )
    assert answers(RecordedEngine(path), "1", "2") == ["one", "two"]
    day = datetime.date(2024, 1, 5)
    pq.write_table(pa.table({"prompt_id": [1.0, 2.0], "text": [day, day]}), path)
    with pytest.raises(
        ValueError, match=r"no answer in it; 2 rows cannot be used: .*, line 1: prom"
    ):
        RecordedEngine(path)


def test_rows_that_cannot_be_used_are_told_by_line_and_reason(tmp_path, caplog):
    lines = [
        A,
        "{broken",
        '{"prompt_id": "b", "text": null}',
        '{"text": "nobody\'s"}',
        '{"prompt_id": "c", "text": ["x"]}',
        '{"prompt_id": "a", "text": "higher"}',
        '{"prompt_id": "d", "text": "x", "turn": "second"}',
        '{"prompt_id": "e", "text": "half \\ud83d"}',
        '{"prompt_id": "f", "text": true}',
        '["a list"]',
    ]
    with caplog.at_level(logging.WARNING):
        engine = engine_of(tmp_path, "a.jsonl", "\n".join(lines))
    path = tmp_path / "a.jsonl"
    assert answers(engine, "a") == ["high"]
    assert engine.unusable == [
        f"{path}, line 2: not JSON: Expecting property name enclosed in double quotes"
        " at character 2",
        f"{path}, line 3: text: missing",
        f"{path}, line 4: prompt_id: missing",
        f"{path}, line 5: text: expected text, got list",
        f"{path}, line 6: another answer to the same prompt (prompt_id 'a', first on line 1)",
        f"{path}, line 7: turn: expected a whole number from 0, got 'second'",
        f"{path}, line 8: not valid Unicode (half a surrogate pair, or not UTF-8)",
        f"{path}, line 9: text: expected text, got bool",
        f"{path}, line 10: expected a JSON object, got list",
    ]
    assert "9 rows cannot be used" in caplog.text and "line 2: not JSON" in caplog.text
    with pytest.raises(
        MissingRecording, match=r"no answer to 1 of 2 prompts, for example b; .*line 3"
    ):
        answers(engine, "a", "b")


def test_recordings_that_are_none_are_told(tmp_path):
    for name, content, words in (
        ("a.jsonl", '{"id": "a", "text": "x"}', r"columns prompt_id missing \(there: id, text\)"),
        ("a.csv", "prompt_id,answer\na,x\n", r"columns text missing \(there: prompt_id, answer\)"),
        ("b.jsonl", "", "no answer in it; it is empty"),
        ("c.jsonl", "{broken", "no answer in it; 1 rows cannot be used: .*line 1: not JSON"),
        ("d.json", f"[{A}", "the array breaks off"),
        ("a.txt", A, "file type '.txt' is not understood"),
    ):
        with pytest.raises(ValueError, match=words):
            engine_of(tmp_path, name, content)
    for read in (RecordedEngine, lambda path: recording(str(path))):
        with pytest.raises(FileNotFoundError, match=r"nothing.jsonl: no such file"):
            read(tmp_path / "nothing.jsonl")


def test_one_number_among_the_texts_changes_no_other_text(tmp_path):
    texts = ['a "quoted" line\n', "back\\slash", "ünï", "2024-01-05"]
    rows = [{"prompt_id": str(n), "text": text} for n, text in enumerate(texts)]
    lines = [json.dumps(row) for row in rows] + ['{"prompt_id": "n", "text": 5}']
    engine = engine_of(tmp_path, "a.jsonl", "\n".join(lines))
    assert answers(engine, *"0123n") == [*texts, "5"]
