"""Files of rows under their right and under a wrong name, whole and broken."""

import bz2
import gzip
import json
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arena_assets.config.places import PROJECT
from arena_assets.config.prompts import Source
from arena_assets.curation.sources import Notes, read_source
from arena_assets.reading import csv_rows, json_rows, parquet_rows
from arena_assets.reading.files import read_records
from arena_assets.reading.places import digest_of, locate
from arena_assets.reading.records import parse_json, text_of

LINES = b'{"prompt": "Name a tide"}\n{"prompt": "Name a moon"}\n'
ARRAY = b'[{"prompt": "Name a tide"}, {"prompt": "Name a moon"}]'
CSV = b"prompt,category\nName a tide,sea\nName a moon,sky\n"
BOTH = ["Name a tide", "Name a moon"]
SHARED = PROJECT.parent / "shared" / "cases" / "prompts"


def read(path, **settings):
    """The texts of the prompts, and (line, reason) of what was quarantined."""
    prompts, quarantine = read_source(Source(name="web", path=str(path), **settings), path)
    texts = [messages[0]["content"] for messages in prompts["messages"].to_pylist()]
    reasons = zip(quarantine["line"].to_pylist(), quarantine["reason"].to_pylist(), strict=True)
    return texts, list(reasons)


def file_of(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def zstd(content):
    return pa.compress(content, "zstd", asbytes=True)


FILES = {
    "a.jsonl": LINES,
    "a.ndjson": LINES,
    "a.JSONL": LINES,
    "a.json": ARRAY,
    "lines.json": LINES,
    "array.jsonl": ARRAY,
    "lines of an array.jsonl": b'[{"prompt": "Name a tide"},\n {"prompt": "Name a moon"}]\n',
    "indented.json": json.dumps(json.loads(ARRAY), indent=2).encode(),
    "indented.jsonl": json.dumps(json.loads(ARRAY), indent=2).encode(),
    "objects.json": b'{\n "prompt": "Name a tide"\n}\n{\n "prompt": "Name a moon"\n}\n',
    "a comma too much.json": ARRAY.replace(b"]", b",]"),
    "sequence.jsonl": b"\x1e" + LINES.replace(b"\n", b"\n\x1e"),
    "a.csv": CSV,
    "a.tsv": CSV.replace(b",", b"\t"),
    "semicolons.csv": CSV.replace(b",", b";"),
    "blank cells.csv": CSV.replace(b"sea", b"sea,,"),
    "mark.csv": b"\xef\xbb\xbf" + CSV,
    "mark.jsonl": b"\xef\xbb\xbf" + LINES,
    "marks.jsonl": b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\n\xef\xbb\xbf", 1),
    "old mac.jsonl": LINES.replace(b"\n", b"\r"),
    "old mac.csv": CSV.replace(b"\n", b"\r"),
    "windows.jsonl": LINES.replace(b"\n", b"\r\n"),
    "utf16.jsonl": LINES.decode().encode("utf-16"),
    "utf16.csv": CSV.decode().encode("utf-16"),
    "utf16 without a mark.csv": CSV.decode().encode("utf-16-le"),
    "utf16 of the other end.json": ARRAY.decode().encode("utf-16-be"),
    "utf32.jsonl": LINES.decode().encode("utf-32"),
    "a.jsonl.gz": gzip.compress(LINES),
    "members.jsonl.gz": gzip.compress(LINES[:26]) + gzip.compress(LINES[26:]),
    "a.json.zst": zstd(ARRAY),
    "a.csv.bz2": bz2.compress(CSV),
    "utf16.csv.gz": gzip.compress(CSV.decode().encode("utf-16")),
    "gzip under another name.jsonl": gzip.compress(LINES),
    "zstd under another name.csv": zstd(CSV),
    "plain.jsonl.gz": LINES,
    "no suffix": LINES,
}


@pytest.mark.parametrize("name", FILES)
def test_files_are_read_by_what_is_in_them(tmp_path, name):
    assert read(file_of(tmp_path, name, FILES[name])) == (BOTH, [])


def test_parquet_is_read_under_any_name(tmp_path):
    for name in ("a.parquet", "a.jsonl", "a.csv"):
        pq.write_table(pa.table({"prompt": BOTH}), tmp_path / name)
        assert read(tmp_path / name) == (BOTH, [])
    binary = pa.table({"prompt": pa.array([b"Name a tide", b"\xe9"], pa.binary())})
    pq.write_table(binary, tmp_path / "binary.parquet")
    assert read(tmp_path / "binary.parquet") == (
        ["Name a tide"],
        [(2, "not valid Unicode (half a surrogate pair, or not UTF-8)")],
    )


REFUSED = {
    "a.txt": (b"x", r"file type '.txt' is not understood \(valid: .jsonl, .ndjson"),
    "a.parquet": (LINES, r"not a Parquet file \(it begins with b'{\"prompt\""),
    "cut.jsonl.gz": (gzip.compress(LINES * 99)[:-9], "cannot be read: Truncated"),
    "harmed.jsonl.gz": (gzip.compress(LINES)[:-6] + b"harmed", "cannot be read: zlib"),
    "twice.jsonl.gz": (gzip.compress(gzip.compress(LINES)), "compressed twice"),
    "cut.json": (ARRAY[:-9], "the array breaks off in what begins on line 1"),
    "more.json": (b"[\n]\n[\n]", "there is more after the array that ends on line 2"),
    "cut utf16.jsonl": (LINES.decode().encode("utf-16")[:-1], "not utf-16-le: truncated data"),
    "pointer.jsonl": (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    "page.json": (b"\n<!DOCTYPE html><p>", "a web page"),
    "twice.csv": (b"prompt,prompt\na,b\n", "the column 'prompt' is there twice"),
    "header.csv": (b'"prompt" x,y\na,b\n', "the header is not CSV"),
    "magic.parquet": (b"PAR1 and no more", "cannot be read: "),
    "arrow.jsonl": (b"ARROW1\0\0", "an Arrow .* file; write it as Parquet"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_of_another_kind_is_named_in_one_sentence(tmp_path, name):
    content, words = REFUSED[name]
    with pytest.raises(ValueError, match=words) as caught:
        read(file_of(tmp_path, name, content))
    assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


def test_archives_are_named(tmp_path):
    file_of(tmp_path, "a.jsonl", LINES)
    with zipfile.ZipFile(tmp_path / "zip.jsonl", "w") as archive:
        archive.write(tmp_path / "a.jsonl")
    with tarfile.open(tmp_path / "tar.jsonl.gz", "w:gz") as archive:
        archive.add(tmp_path / "a.jsonl")
    with gzip.open(tmp_path / "a.parquet.gz", "wb") as file:
        pq.write_table(pa.table({"prompt": BOTH}), file)
    for name, words in (
        ("zip.jsonl", "a zip archive"),
        ("tar.jsonl.gz", "a tar archive"),
        ("a.parquet.gz", "a Parquet file inside gzip"),
    ):
        with pytest.raises(ValueError, match=words):
            read(tmp_path / name)


# what one broken row costs: (file, texts, lines of quarantine, words of the first reason)
BROKEN = {
    "a cell with quotes inside, of two lines": (
        "a.csv",
        'prompt,category\n"Quote: "x" in a cell\nthat goes on here",y\nName a tide,z\n',
        *(["Name a tide"], [2], "not CSV: ',' expected after '\"'"),
    ),
    "of three lines, with commas": (
        "a.csv",
        'prompt,category\n"He said "aye" to,\nthe sea, the wind\nand left",y\nName a tide,z\n',
        *(["Name a tide"], [2], "not CSV"),
    ),
    "with quotes in pairs": (
        "a.csv",
        'prompt,category\n"He said "aye\nand left",y\nName a tide,z\n',
        *(["Name a tide"], [2], "not CSV"),
    ),
    "after a good row of several lines": (
        "a.csv",
        'prompt,category\n"One\ntwo, three",x\n"He said "aye" to\nthe sea",y\nName a tide,z\n',
        *(["One\ntwo, three", "Name a tide"], [4], "not CSV"),
    ),
    "in a file with tabs": (
        "a.tsv",
        'prompt\tcategory\n"He said "aye" to\nthe sea"\ty\nName a tide\tz\n',
        *(["Name a tide"], [2], "not CSV"),
    ),
    "a quote that is never closed": (
        "a.csv",
        'prompt,category\n"Never closed,x\nName a tide,y\nName a moon,z\n',
        *(BOTH, [2], "not CSV: unexpected end of data"),
    ),
    "a quote that is closed by another row's": (
        "a.csv",
        'prompt,category\n"Never closed,x\n"Name a tide",y\nName a moon,z\n',
        *(BOTH, [2], "not CSV"),
    ),
    "a quote inside a cell without quotes": (
        "a.csv",
        'prompt,category\n"Say "aye" now",y\nA 5" pipe,z\nName a tide,z\n',
        *(['A 5" pipe', "Name a tide"], [2], "not CSV"),
    ),
    "ragged rows": (
        "a.csv",
        "prompt,category\na,b,c\nd\n\nName a tide,z\n",
        *(["Name a tide"], [2, 3], "expected 2 cells, got 3"),
    ),
    "a deep cell": (
        "a.csv",
        'messages,category\n"' + "[" * 90_000 + '",x\n"[""Name a tide""]",y\n',
        *(["Name a tide"], [2], "messages: nested too deep"),
    ),
    "a broken line": (
        "a.jsonl",
        '{broken\n{"prompt": "Name a tide"}\n["a list"]\n',
        *(["Name a tide"], [1, 3], "not JSON: Expecting property name"),
    ),
    "a deep line": (
        "a.jsonl",
        '{"prompt": "x", "y": ' + "[" * 90_000 + '\n{"prompt": "Name a tide"}\n',
        *(["Name a tide"], [1], "nested too deep"),
    ),
    "a broken line under .json": (
        "a.json",
        '{broken\n{"prompt": "Name a tide"}\n{"prompt": "Name a moon"}\n',
        *(BOTH, [1], "not JSON"),
    ),
    "a broken element": (
        "a.json",
        '[{"prompt": "Name a tide"},\n{"prompt": "x",},\n{"prompt": "Name a moon"}]',
        *(BOTH, [2], "not JSON"),
    ),
    "an element without its bracket": (
        "a.json",
        '[\n  {"prompt": "Name a tide"},\n  {"prompt": "x",\n'
        '  {"prompt": "Name a moon", "more": {\n    "a": 1}}\n]',
        *(BOTH, [3], "not JSON"),
    ),
    "an element with an open text": (
        "a.json",
        '[\n{"prompt": "Name a tide"},\n{"prompt": "x},\n{"prompt": "Name a moon"}\n]',
        *(BOTH, [3], "not JSON"),
    ),
    "a bracket of another kind": (
        "a.json",
        '[{"prompt": ["x", "y"}, {"prompt": "Name a tide"}]',
        *(["Name a tide"], [1], "not JSON"),
    ),
    "values that are no objects": (
        "a.json",
        '["x", 5, {"prompt": "Name a tide"}]',
        *(["Name a tide"], [1, 1], "expected a JSON object, got str"),
    ),
    "a file that was cut in the end": (
        "a.jsonl",
        '{"prompt": "Name a tide"}\n' + "\0" * 9,
        *(["Name a tide"], [2], "not JSON"),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_row_costs_itself_and_nothing_else(tmp_path, name):
    file, content, texts, lines, words = BROKEN[name]
    found, quarantined = read(file_of(tmp_path, file, content.encode()))
    assert found == texts and [line for line, _ in quarantined] == lines
    assert words in quarantined[0][1]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_bytes_that_are_no_utf8_cost_their_row(tmp_path, name):
    content = {"a.jsonl": b'{"prompt": "caf\xe9"}\n' + LINES, "a.csv": CSV + b"caf\xe9,x\n"}[name]
    texts, quarantined = read(file_of(tmp_path, name, content))
    assert texts == BOTH and [reason for _, reason in quarantined] == [
        "not valid Unicode (half a surrogate pair, or not UTF-8)"
    ]


def test_half_a_surrogate_pair_costs_its_row_and_a_pair_none(tmp_path):
    lines = b'{"prompt": "half \\ud83d of it"}\n{"prompt": "all \\ud83d\\ude00 of it"}\n'
    texts, quarantined = read(file_of(tmp_path, "a.jsonl", lines))
    assert texts == ["all 😀 of it"] and [line for line, _ in quarantined] == [1]


@pytest.mark.parametrize("column", ["other", "difficulty", "prompt_id"])
def test_whole_numbers_of_any_length_are_read(tmp_path, column):
    row = f'{{"prompt": "Name a tide", "{column}": 1{"0" * 5_000}}}'
    for name, content in (("a.jsonl", row), ("a.json", f"[{row}]")):
        assert read(file_of(tmp_path, name, content.encode())) == (["Name a tide"], [])


@pytest.mark.parametrize(
    "literal", ["1.10", "-0", "1e5", "12345678901234567890", "0.1000000000000000055"]
)
def test_a_number_keeps_its_digits(literal):
    assert text_of(parse_json(literal)) == literal


def test_values_that_could_be_written_in_several_ways_are_no_text():
    assert [text_of(value) for value in (1.5, True, None, ["a"], {})] == [None] * 5


def test_long_arrays_are_cut_at_any_place(tmp_path, monkeypatch):
    monkeypatch.setattr(json_rows, "_CHUNK", 7)
    rows = [{"prompt": f'"{n}" [{{,\\ \\" é\n', "more": [{"a": [1, "]"]}]} for n in range(40)]
    for indent in (None, 1):
        path = file_of(tmp_path, "a.json", json.dumps(rows, indent=indent).encode())
        records = [record for _, record in read_records(locate(str(path)))]
        assert [record.row for record in records] == rows
        lines = [record.line for record in records]
        assert lines == ([1] * 40 if indent is None else list(range(2, 2 + 40 * 11, 11)))


def test_a_row_that_never_ends_is_told(tmp_path, monkeypatch):
    for module in (json_rows, csv_rows):
        monkeypatch.setattr(module, "LONGEST", 30)
    path = file_of(tmp_path, "a.jsonl", b'{"prompt": "' + b"x" * 90 + b'"}\n{"prompt": "Name"}\n')
    assert read(path) == (["Name"], [(1, "longer than 30 characters")])
    monkeypatch.setattr(json_rows, "_CHUNK", 20)
    path = file_of(tmp_path, "a.json", b'[{"prompt": "' + b"x" * 90 + b'"}]')
    with pytest.raises(ValueError, match=r"what begins on line 1 is longer than 30 characters"):
        read(path)


def test_parquet_is_read_in_batches_of_bounded_size(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_rows, "_BYTES", 1_000)
    rows = pa.table({"prompt": [f"{n} tides" for n in range(300)], "other": ["x" * 90] * 300})
    pq.write_table(rows, tmp_path / "a.parquet")
    notes = Notes()
    prompts, _ = read_source(Source(name="web", path="x"), tmp_path / "a.parquet", notes)
    assert prompts.num_rows == 300 and notes.summary() == {"columns_left_out": "other (300)"}


# real and nearly real inputs beside the project: prompts, repetitions, lines of quarantine
CASES = {
    "array.json": (3, 0, []),
    "big_integer.jsonl": (2, 0, []),
    "constraints_struct.parquet": (2, 0, []),
    "content_dup.jsonl": (1, 2, []),
    "cr_only.jsonl": (3, 0, []),
    "deep_string_messages.jsonl": (1, 0, [2]),
    "docs_example.parquet": (2, 0, []),
    "dolly.jsonl": (1, 0, []),
    "empty_system.jsonl": (2, 0, []),
    "folder": (2, 0, []),
    "folder.parquet": (1, 0, []),
    "list_prompt.parquet": (1, 0, []),
    "lmsys_chat_1m.jsonl": (1, 0, []),
    "lone_surrogate.jsonl": (1, 0, [1]),
    "messages_parts.jsonl": (5, 7, [2, 8, 9, 14]),
    "mixed_nulls.parquet": (2, 0, []),
    "mtbench_turns.jsonl": (1, 0, []),
    "multiline_fragment.csv": (1, 0, [2]),
    "ndjson.ndjson": (3, 0, []),
    "p.jsonl.gz": (3, 0, []),
    "p.tsv": (1, 0, []),
    "sharegpt_roles.jsonl": (7, 7, [12, 13, 14, 17]),
    "sharegpt_system.jsonl": (1, 0, []),
}


@pytest.mark.skipif(not SHARED.exists(), reason="the inputs of ../shared are not there")
@pytest.mark.parametrize("name", CASES)
def test_inputs_that_once_failed_are_read(name):
    notes = Notes()
    prompts, quarantine = read_source(Source(name="web", path="x"), SHARED / name, notes)
    found = prompts.num_rows, notes.repeated, quarantine["line"].to_pylist()
    assert found == CASES[name]


# -- places ----------------------------------------------------------------------------------------


def test_folders_and_patterns_are_read_file_by_file_in_order(tmp_path):
    folder = tmp_path / "shards.parquet"
    (folder / "more").mkdir(parents=True)
    file_of(folder, "b.jsonl", b'{"prompt": "Second"}\n{broken\n')
    file_of(folder, "a.csv", b"prompt\nFirst\n")
    file_of(folder / "more", "c.json.gz", gzip.compress(b'[{"prompt": "Third"}]'))
    for name in ("README.md", "_SUCCESS", ".hidden.jsonl"):
        file_of(folder, name, b"x")
    notes = Notes()
    prompts, quarantine = read_source(Source(name="web", path="x"), folder, notes)
    assert [m[0]["content"] for m in prompts["messages"].to_pylist()] == [
        *("First", "Second", "Third"),
    ]
    assert quarantine["path"].to_pylist() == [f"{folder}/b.jsonl"]
    assert notes.summary() == {"files_left_out": f"{folder}/README.md"}
    assert read(folder / "*.jsonl")[0] == ["Second"]
    assert read(folder / "**" / "*.json*")[0] == ["Second", "Third"]
    assert read(tmp_path / "sh*")[0] == ["First", "Second", "Third"]
    source = Source(name="web", path=f"{folder.as_uri()}/*.csv")
    assert read_source(source, source.path)[0].num_rows == 1


def test_an_identifier_in_two_files_names_the_other_file(tmp_path):
    file_of(tmp_path, "a.jsonl", b'{"prompt": "One", "prompt_id": "x"}\n')
    file_of(tmp_path, "b.jsonl", b'{"prompt": "Two", "prompt_id": "x"}\n')
    assert read(tmp_path)[1] == [(1, f"prompt_id 'x' is already on line 1 of {tmp_path}/a.jsonl")]


def test_places_without_files_are_told(tmp_path):
    (tmp_path / "empty").mkdir()
    for place, words in (
        ("nothing.jsonl", "no such file"),
        ("empty", "no file of a known type in it"),
        ("*.jsonl", "no file fits this pattern"),
    ):
        with pytest.raises(FileNotFoundError, match=words):
            read(tmp_path / place)


def test_a_digest_follows_the_content_of_every_file_and_not_the_folder(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        file_of(tmp_path / name, "a.jsonl", LINES)
        file_of(tmp_path / name, "b.jsonl", ARRAY)
    first = digest_of(str(tmp_path / "one"))
    assert first == digest_of(str(tmp_path / "two")) == digest_of(str(tmp_path / "one" / "*"))
    file_of(tmp_path / "one", "b.jsonl", LINES)
    assert digest_of(str(tmp_path / "one")) != first


def test_a_data_set_of_the_hub_that_cannot_be_read_is_told_in_one_sentence(tmp_path):
    file_of(tmp_path, "train.jsonl", b'{"prompt": "Name a tide"}\n{broken\n')
    with pytest.raises(ValueError, match=r"^hub:.*/train: cannot be read: ") as caught:
        read_source(Source(name="web", hub=str(tmp_path)), None)
    assert "\n" not in str(caught.value)
