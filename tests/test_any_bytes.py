"""Any bytes as a source or a recording: rows, quarantine, or one clear error."""

import bz2
import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arena_assets.config.prompts import Source
from arena_assets.curation.sources import read_source
from arena_assets.models.recorded import RecordedEngine

NAMES = (
    *("a.jsonl", "a.ndjson", "a.json", "a.csv", "a.tsv", "a.parquet", "a.jsonl.gz", "a.json.zst"),
    *("a.csv.bz2", "a.parquet.gz", "a", "a.txt"),
)
BOUNDED = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

numbers = st.integers() | st.floats() | st.integers(min_value=10**20)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("role", "from", "content", "value", "type", "text", "label", "input")),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
columns = st.sampled_from(
    (
        *(
            "messages",
            "conversations",
            "data",
            "chosen",
            "prompt",
            "turns",
            "input",
            "text",
            "role",
        ),
        *("context", "choices", "history", "system", "second_turn", "prompt_id", "constraints"),
        *("category", "difficulty", "reference", "image", "turn", "other"),
    )
)
rows = st.dictionaries(columns, values, max_size=5)
texts_and_labels = st.fixed_dictionaries({"text": st.lists(values, max_size=2), "label": values})


def as_json(row):
    return json.dumps(row).encode()


def as_parquet(rows):
    file = io.BytesIO()
    cells = [{name: json.dumps(value) for name, value in row.items()} for row in rows]
    names = sorted({name for row in cells for name in row}) or ["prompt"]
    pq.write_table(pa.table({n: [row.get(n) for row in cells] for n in names}), file)
    return file.getvalue()


lines = st.lists(rows.map(as_json) | st.binary(max_size=20), max_size=5).map(b"\n".join)
arrays = st.lists(rows, max_size=5).map(as_json)
tables = st.lists(st.lists(st.text(max_size=6), max_size=3), max_size=4).map(
    lambda cells: ("prompt,prompt_id,text\n" + "\n".join(map(",".join, cells))).encode(
        "utf-8", "surrogatepass"
    )
)
sound = lines | arrays | tables | st.lists(rows, max_size=3).map(as_parquet)


@st.composite
def harmed(draw):
    """A file of a known kind, maybe compressed or in another encoding, cut or changed."""
    content = draw(sound)
    change = draw(st.sampled_from((None, gzip.compress, bz2.compress, "zstd", "utf-16", "utf-32")))
    if change == "zstd":
        content = pa.compress(content, "zstd", asbytes=True)
    elif isinstance(change, str):
        content = content.decode("utf-8", "replace").encode(change)
    elif change:
        content = change(content)
    harm = draw(st.sampled_from((None, "cut", "changed", "joined")))
    place = draw(st.integers(0, len(content)))
    if harm == "cut":
        return content[:place]
    if harm == "changed":
        return content[:place] + draw(st.binary(min_size=1, max_size=4)) + content[place + 2 :]
    return content + (draw(sound) if harm == "joined" else b"")


def read_as_source(path):
    prompts, quarantine = read_source(Source(name="web", path=str(path)), path)
    for messages in prompts["messages"].to_pylist():
        assert messages[-1]["role"] == "user" and all(m["content"].strip() for m in messages)
    ids = prompts["prompt_id"].to_pylist()
    assert len(set(ids)) == len(ids)
    assert all(row["reason"] and row["line"] >= 1 for row in quarantine.to_pylist())


def read_as_recording(path):
    assert all(", line " in text for text in RecordedEngine(path).unusable)


def check(read, path, content):
    path.write_bytes(content)
    try:
        read(path)
    except (ValueError, FileNotFoundError) as error:
        assert type(error) in (ValueError, FileNotFoundError), "an exception of a library"
        assert str(error).startswith(str(path)) and "\n" not in str(error)


@pytest.mark.parametrize("read", [read_as_source, read_as_recording])
@given(name=st.sampled_from(NAMES), content=st.binary(max_size=400))
@BOUNDED
def test_any_bytes_are_rows_or_quarantine_or_one_clear_error(tmp_path, read, name, content):
    check(read, tmp_path / name, content)


@pytest.mark.slow
@pytest.mark.parametrize("read", [read_as_source, read_as_recording])
@given(name=st.sampled_from(NAMES), content=harmed())
@BOUNDED
def test_harmed_files_of_known_kinds_are_too(tmp_path, read, name, content):
    check(read, tmp_path / name, content)


@given(row=rows | st.fixed_dictionaries({"question": st.just("Q"), "choices": texts_and_labels}))
@BOUNDED
def test_every_row_is_a_prompt_a_repetition_or_in_quarantine(tmp_path, row):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"prompt": "A sound row"}\n' + as_json(row) + b"\n")
    prompts, quarantine = read_source(Source(name="web", path=str(path)), path)
    assert prompts.num_rows + quarantine.num_rows == 2


fragments = st.lists(
    st.sampled_from(
        (
            "word",
            "other, thing",
            "line\nbreak",
            'say "hi" to',
            'a 5" pipe',
            'he said "no",',
            '"q" r',
        )
    ),
    min_size=1,
    max_size=4,
).map(" ".join)


def cell(text, broken=False):
    quoted = broken or any(sign in text for sign in ',"\n')
    return f'"{text if broken else text.replace(chr(34), chr(34) * 2)}"' if quoted else text


@given(texts=st.lists(fragments, min_size=2, max_size=6), broken=st.integers(0, 5))
@BOUNDED
def test_a_broken_cell_leaves_no_fragment_and_takes_no_sound_row(tmp_path, texts, broken):
    texts = [f"{text} #{number}" for number, text in enumerate(texts)]
    broken %= len(texts)
    texts[broken] = f'then "{texts[broken]}" #{broken}'
    rows = [f"{cell(text, number == broken)},x" for number, text in enumerate(texts)]
    path = tmp_path / "a.csv"
    path.write_text("prompt,category\n" + "\n".join(rows) + "\n", "utf-8")
    prompts, quarantine = read_source(Source(name="web", path=str(path)), path)
    found = [messages[0]["content"] for messages in prompts["messages"].to_pylist()]
    assert found == [text for text in texts if text != texts[broken]]
    assert quarantine.num_rows == 1
