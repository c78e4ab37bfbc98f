"""From collections of any usual shape to curated prompts, a test set and disjoint slices."""

import json
import random

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arena_assets.config.prompts import Language, Slices, Source, Unsafe
from arena_assets.config.prompts import Testset as ArenaTestset
from arena_assets.curation import filters
from arena_assets.curation.contamination import Items, nearest
from arena_assets.curation.difficulty import rate
from arena_assets.curation.near_duplicates import near_duplicates
from arena_assets.curation.slices import draw_slices
from arena_assets.curation.sources import read_source
from arena_assets.curation.testset import build_testset, freeze
from arena_assets.curation.words import words_of
from arena_assets.lake.lake import Lake
from arena_assets.lake.tables import MESSAGES, PROMPTS, TESTSET_VERSIONS
from arena_assets.models.engine import Completion

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


def test_consecutive_turns_of_the_user_wait_for_the_contestant(tmp_path):
    turns = [{"role": "user", "content": text} for text in ("One", "Two")]
    rows = [
        {"prompt_id": "1", "prompt": "One", "second_turn": "Two"},
        {"prompt_id": "2", "messages": turns},
    ]
    prompts, quarantine = read(source_file(tmp_path, "a.jsonl", [json.dumps(row) for row in rows]))
    assert prompts["messages"].to_pylist() == [turns, turns] and quarantine.num_rows == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", ['{"prompt": "Hi there"}']),
        ("a.csv", 'prompt\n"Hi there"\n'),
        ("a.parquet", [{"prompt": "Hi there"}]),
    ],
)
def test_files_of_an_object_store_are_read_by_their_uri(tmp_path, name, content):
    path = source_file(tmp_path, name, content)
    source = Source(name="web", path=path.as_uri())
    assert source.remote and not Source(name="web", path=str(path)).remote
    prompts, _ = read_source(source, source.path)
    assert prompts["messages"].to_pylist() == [[{"role": "user", "content": "Hi there"}]]
    with pytest.raises(FileNotFoundError, match=r"nothing.jsonl: no such file"):
        read_source(source, path.with_name("nothing.jsonl").as_uri())
    with pytest.raises(ValueError, match=r"no place that can be read \(valid: s3://, gs://\)"):
        read_source(source, "nowhere://a.jsonl")


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
        '{"messages": [{"role": "critic", "content": "x"}]}',
        '{"messages": [{"role": "assistant", "content": "x"}]}',
        '{"prompt": "Same id", "prompt_id": "1"}',
        '{"prompt": "Bad rule", "constraints": [{"type": "rhymes"}]}',
        '["a list"]',
        '{"other": 1}',
    ]
    path = source_file(tmp_path, "a.jsonl", lines)
    prompts, quarantine = read(path)
    assert prompts["prompt_id"].to_pylist() == ["1"]
    rows = quarantine.to_pylist()
    assert [row["line"] for row in rows] == list(range(2, 11))
    assert [row["raw"] for row in rows] == lines[1:]
    assert {row["path"] for row in rows} == {str(path)}
    expected = (
        "not JSON",
        "prompt: empty",
        "messages, turn 1: empty",
        "turn 1: unknown role 'critic' (valid: system, developer, user, human, prompter, assistant",
        "messages: no user message",
        "'1' is already on line 1",
        "rhymes",
        "expected a JSON object, got list",
        "no column is known",
    )
    for row, words in zip(rows, expected, strict=True):
        assert words in row["reason"], row["line"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.txt",
            ["x"],
            r"file type '.txt' is not understood \(valid: .jsonl, .ndjson, .json, .csv",
        ),
        ("a.csv", "a,b\n1,2\n", r"no column is known \(there: a, b\); understood: dialogues"),
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
    words = [
        f"{topic}{letter}{more}" for topic in TOPICS for letter in "abcdefghij" for more in "wxyz"
    ]
    return [
        prompt(f"p{number:04d}", " ".join(draw.sample(words, 12)))
        | {
            "constraints": "[]" if number % 5 == 0 else '[{"type": "no_commas"}]',
            "difficulty": float(number % 10),
        }
        for number in range(count)
    ]


def prompt(prompt_id, content, source="test"):
    return {
        "prompt_id": prompt_id,
        "source": source,
        "messages": [{"role": "user", "content": content}],
        "constraints": "[]",
        "category": "test",
        "difficulty": None,
        "reference": None,
    }


def as_table(rows):
    return pa.Table.from_pylist(rows, schema=PROMPTS.schema)


def said(texts):
    """Prompts p0, p1, ... with these texts."""
    return as_table([prompt(f"p{number}", text) for number, text in enumerate(texts)])


@pytest.fixture
def remaining():
    """DuckDB with the relation that steps look at, over the prompts given."""
    with duckdb.connect() as connection:

        def over(prompts):
            connection.register("remaining", prompts)
            return connection

        yield over


def by_prompt(drops, *columns):
    return {row["prompt_id"]: tuple(row[c] for c in columns) for row in drops.to_pylist()}


# -- steps -------------------------------------------------------------------------------------


def test_a_phrase_of_the_lexicon_counts_as_whole_words_across_punctuation(remaining, tmp_path):
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("# harm\nHire a hitman!\n", "utf-8")
    prompts = said(["Where do I hire\na HITMAN?", "hire a hitmanager", "Say hello"])
    drops = filters.unsafe(remaining(prompts), Unsafe(), lexicon)
    assert by_prompt(drops, "step", "reason") == {"p0": ("unsafe", "lexicon: hire a hitman")}
    lexicon.write_text("# nothing\n", "utf-8")
    with pytest.raises(ValueError, match=r"lexicon.txt: no phrase; write one a line"):
        filters.unsafe(remaining(prompts), Unsafe(), lexicon)


def shouting(texts):
    """A classifier: the share of capital letters."""
    return [sum(c.isupper() for c in text) / len(text) for text in texts]


def test_a_classifier_is_a_function_of_any_module(remaining):
    prompts = said(["SHOUT", "whisper"])
    settings = Unsafe(classifier="test_curation:shouting", threshold=0.9)
    drops = filters.unsafe(remaining(prompts), settings, None)
    assert by_prompt(drops, "reason", "score") == {"p0": ("classifier", 1.0)}
    with pytest.raises(ValueError, match=r"'json:nothing' cannot be loaded"):
        filters.load_classifier("json:nothing")
    with pytest.raises(ValueError, match=r"expected module:function, got 'json'"):
        Unsafe(classifier="json")


def test_length_is_counted_in_words_and_systems_say_nothing(remaining):
    prompts = said(["one two", "one, two: three", "写一首诗"])
    drops = filters.short(remaining(prompts), 3)
    assert by_prompt(drops, "reason") == {"p0": ("fewer than 3 words",)}
    spoken = prompts.to_pylist()[:1]
    spoken[0]["messages"].insert(0, {"role": "system", "content": "You are a very kind helper."})
    assert filters.short(remaining(as_table(spoken)), 3).num_rows == 1


def test_a_prefix_is_kept_once(remaining):
    prompts = said(["a b c d", "A, b C! e", "a b", "a b", "x y z"])
    drops = filters.repeated_prefixes(remaining(prompts), 3)
    assert by_prompt(drops, "match") == {"p1": ("p0",), "p3": ("p2",)}
    whole = filters.repeated_prefixes(remaining(prompts), None)
    assert by_prompt(whole, "match", "reason") == {"p3": ("p2", "same words")}


def test_languages_are_dropped_when_the_detector_is_sure(remaining):
    prompts = said(
        [
            "Explain how the tides work in a few simple sentences.",
            "¿Cuál es la capital de Francia y por qué es famosa?",
            "Schreibe ein kurzes Gedicht über den Herbst im Wald.",
            "x = [i for i in range(10)]",
        ]
    )
    drops = filters.other_languages(remaining(prompts), Language())
    assert by_prompt(drops, "reason") == {"p1": ("language es",), "p2": ("language de",)}
    assert all(0.6 <= score <= 1 for score in drops["score"].to_pylist())
    kept = filters.other_languages(remaining(prompts), Language(keep=("en", "de")))
    assert kept["prompt_id"].to_pylist() == ["p1"]


# -- near-duplicates ---------------------------------------------------------------------------


def near_copies(count=60):
    """Prompts with copies of growing difference, so that some are similar only through others."""
    draw = random.Random(3)
    rows = {}
    for row in prompt_rows(count):
        words = row["messages"][0]["content"].split()
        rows[row["prompt_id"]] = words
        for copy in range(4):
            words = [*words, f"extra{'abcd'[copy]}"]
            if copy == 3:
                words = [*words[:5], "other", *words[6:]]
            rows[f"{row['prompt_id']}-{copy}"] = list(words)
    names = list(rows)
    draw.shuffle(names)
    return as_table([prompt(name, " ".join(rows[name])) for name in names])


def groups_by_all_pairs(table, threshold):
    """The first prompt of the group of each other one, found by comparing all pairs."""
    words = {r["prompt_id"]: r["messages"][0]["content"].split() for r in table.to_pylist()}
    sets = {name: {tuple(w[i : i + 3]) for i in range(len(w) - 2)} for name, w in words.items()}
    first = {name: name for name in sorted(sets)}
    changed = True
    while changed:
        changed = False
        for one in sets:
            for two in sets:
                similar = len(sets[one] & sets[two]) / len(sets[one] | sets[two]) >= threshold
                if similar and first[two] < first[one]:
                    first[one], changed = first[two], True
    return {name: match for name, match in first.items() if name != match}


def test_near_duplicates_are_those_of_a_comparison_of_all_pairs():
    table = near_copies()
    found = near_duplicates(words_of(table), 0.8, 3)
    expected = groups_by_all_pairs(table, 0.8)
    assert len(expected) > 100
    assert (
        dict(zip(*(found[c].to_pylist() for c in ("prompt_id", "match")), strict=True)) == expected
    )
    assert min(found["score"].to_pylist()) < 0.8, "a group reaches further than one step"


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 2, 7, 60])
def test_neither_row_order_nor_shards_change_what_is_a_near_duplicate(shards):
    table = near_copies()
    expected = near_duplicates(words_of(table.sort_by("prompt_id")), 0.8, 3)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(table.num_rows)
        shuffled = table.take(order)
        size = -(-table.num_rows // shards)
        parts = [shuffled.slice(start, size) for start in range(0, table.num_rows, size)]
        found = near_duplicates((w for part in parts for w in words_of(part)), 0.8, 3)
        assert found.equals(expected)


def test_of_near_duplicates_the_first_stays():
    table = said([*["one two three four five six seven eight nine ten"] * 3, "quite another text"])
    found = near_duplicates(words_of(table), 0.8, 3)
    assert found.to_pylist() == [
        {"prompt_id": name, "match": "p0", "score": 1.0} for name in ("p1", "p2")
    ]
    assert near_duplicates([], 0.8, 3).num_rows == 0


# -- decontamination ---------------------------------------------------------------------------


def items(texts, against="bench"):
    rows = [
        {"against": against, "item_id": f"i{number}", "messages": [{"role": "user", "content": t}]}
        for number, t in enumerate(texts)
    ]
    schema = pa.schema([("against", pa.string()), ("item_id", pa.string()), ("messages", MESSAGES)])
    return pa.Table.from_pylist(rows, schema=schema)


def contaminated(benchmark, prompts, share=0.5):
    """What the two rules over words say of each prompt."""
    known = Items(benchmark, 3, share)
    with duckdb.connect() as connection:
        connection.register("prompts", prompts)
        found = {row["prompt_id"]: row for row in known.exact(connection, "prompts")}
    for part in words_of(prompts):
        for row in known.overlapping(part):
            found.setdefault(row["prompt_id"], row)
    return found


def test_each_rule_of_decontamination_says_what_it_found():
    benchmark = items(["What is AI?", "Write a long poem about the autumn rain in Lisbon."])
    found = contaminated(
        benchmark,
        said(
            [
                "what is A.I. ...",
                "Hello. Write a long poem about the autumn rain in Lisbon. Thanks!",
                "write a long poem on the summer sun in Madrid and about what is ai",
            ]
        ),
    )
    told = {name: (row["reason"], row["match"], row["score"]) for name, row in found.items()}
    assert told == {"p0": ("same words", "i0", 1.0), "p1": ("n-gram overlap", "i1", 1.0)}
    assert contaminated(benchmark.slice(0, 0), said(["anything at all"])) == {}


def test_every_turn_of_a_conversation_is_compared():
    turns = [("user", "Hello you"), ("assistant", "Hi"), ("user", "What is AI?")]
    row = prompt("p0", "") | {"messages": [{"role": r, "content": c} for r, c in turns]}
    assert contaminated(items(["What is AI"]), as_table([row]))["p0"]["reason"] == "same words"


def test_nearest_neighbours_are_the_top_ones_above_the_floor():
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1], [0.96, 0.28]], np.float32)
    ids = np.array(["a", "b", "c", "d"], object)

    def found(neighbours, floor, parts):
        rows = nearest([("bench", "i")], vectors[:1], parts, neighbours, floor)
        return {row["prompt_id"]: round(row["score"], 2) for row in rows}

    whole = [(ids, vectors)]
    assert found(5, 0.7, whole) == {"a": 1.0, "b": 0.8, "d": 0.96}
    assert found(2, 0.7, whole) == {"a": 1.0, "d": 0.96}
    single = [(ids[n : n + 1], vectors[n : n + 1]) for n in (3, 1, 0, 2)]
    assert found(2, 0.7, single) == found(2, 0.7, whole)


# -- the test set ------------------------------------------------------------------------------

TESTSET = ArenaTestset(clusters=10, diverse_per_cluster=2, hard=10, constrained_only=True)


def vectors_of(table):
    """A direction a prompt, by its own identifier."""
    found = []
    for prompt_id in table["prompt_id"].to_pylist():
        found.append(np.random.default_rng(int(prompt_id[1:])).normal(size=8))
    found = np.array(found)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def test_the_test_set_has_a_diverse_and_a_hard_part():
    table = as_table(prompt_rows(300))
    testset = build_testset(table, vectors_of(table), TESTSET, 5, None)
    rows = testset.to_pylist()
    parts = [row["part"] for row in rows]
    assert (parts.count("diverse"), parts.count("hard")) == (20, 10)
    assert len({row["cluster"] for row in rows if row["part"] == "diverse"}) == 10
    assert len({row["prompt_id"] for row in rows}) == 30
    assert all(row["constraints"] != "[]" and row["turns"] == 1 for row in rows)
    assert min(row["difficulty"] for row in rows if row["part"] == "hard") >= 8
    assert build_testset(table, vectors_of(table), TESTSET, 5, None).equals(testset)
    other = build_testset(table, vectors_of(table), TESTSET, 6, None)
    assert not other["prompt_id"].equals(testset["prompt_id"])


def test_a_frozen_version_is_never_written_again(tmp_path):
    table, lake = as_table(prompt_rows(300)), Lake(tmp_path)
    testset = build_testset(table, vectors_of(table), TESTSET, 5, None)
    first = freeze(lake, testset)
    before = lake.digest("testset_versions", first)
    second = freeze(lake, testset.slice(1))
    assert (first[:5], second[:5]) == ("v001-", "v002-")
    assert lake.digest("testset_versions", first) == before
    frozen = lake.read("testset_versions", first)
    assert frozen.schema.names == TESTSET_VERSIONS.schema.names
    assert frozen["messages"].to_pylist() == testset["messages"].to_pylist()


def test_the_test_set_says_what_it_lacks():
    few = as_table(prompt_rows(20))
    with pytest.raises(ValueError, match=r"asks for 30 prompts .*only 16 qualify"):
        build_testset(few, vectors_of(few), TESTSET, 0, None)
    unrated = as_table([row | {"difficulty": None} for row in prompt_rows(300)])
    with pytest.raises(ValueError, match=r"candidates have no difficulty; name a model in"):
        build_testset(unrated, vectors_of(unrated), TESTSET, 0, None)
    one_each = TESTSET.model_copy(update={"hard_candidates_per_cluster": 1, "hard": 11})
    plenty = as_table(prompt_rows(300))
    with pytest.raises(ValueError, match=r"only 10 candidates; raise hard_candidates_per_cluster"):
        build_testset(plenty, vectors_of(plenty), one_each, 0, None)


class LengthRater:
    """An engine whose difficulty is the number of words; its first word on "p0001" is nonsense."""

    def __init__(self):
        self.asked = []

    def chat(self, requests, sampling, samples=1, json_schema=None):
        self.asked.append([request.prompt_id for request in requests])
        answers = []
        for request in requests:
            first = len(self.asked) == 1 and request.prompt_id == "p0001"
            said = "very hard" if first else json.dumps({"explanation": "", "difficulty": 4.5})
            answers.append([Completion(said, "stop")])
        return answers


def test_difficulty_is_asked_once_again_where_it_cannot_be_parsed_and_then_kept(tmp_path):
    settings = ArenaTestset.model_validate({"rater": {"model": "m"}}).rater
    table, engine = as_table(prompt_rows(3)), LengthRater()
    rated = rate(table, settings, "digest", lambda: engine, tmp_path, 10, print)
    assert rated == {"p0000": 4.5, "p0001": 4.5, "p0002": 4.5}
    assert sorted(engine.asked[0]) == ["p0000", "p0001", "p0002"] and engine.asked[1] == ["p0001"]
    assert rate(table, settings, "digest", None, tmp_path, 10, print) == rated, (
        "nothing is asked again"
    )


# -- slices ------------------------------------------------------------------------------------


def drawn(slices):
    names = {}
    for row in slices.to_pylist():
        names.setdefault(row["slice"], []).append(row["prompt_id"])
    return names


def test_slices_are_equal_random_parts_and_an_initial_one():
    rows = prompt_rows(90) + [prompt(f"chat{n}", "hi", source="chat") for n in range(20)]
    settings = Slices.model_validate(
        {"names": ["D1", "D2", "D3"], "rows": 25, "initial": {"rows": 10, "source": "chat"}}
    )
    slices = draw_slices(as_table(rows), settings, 5)
    parts = drawn(slices)
    assert {name: len(ids) for name, ids in parts.items()} == {
        "D0": 10,
        "D1": 25,
        "D2": 25,
        "D3": 25,
    }
    assert all(name.startswith("chat") for name in parts["D0"])
    assert len(set(slices["prompt_id"].to_pylist())) == 85
    assert draw_slices(as_table(rows[::-1]), settings, 5).equals(slices)
    assert not draw_slices(as_table(rows), settings, 6).equals(slices)
    with pytest.raises(
        ValueError, match=r"initial asks for 10 prompts of chat, but only 5 are left"
    ):
        draw_slices(as_table(rows[:95]), settings, 5)


def test_asking_for_more_prompts_than_there_are_is_refused():
    settings = Slices(names=("D1", "D2", "D3"), rows=30)
    with pytest.raises(ValueError, match=r"asks for 3 slices of 30 prompts, but only 20 are left"):
        draw_slices(as_table(prompt_rows(20)), settings, 0)
