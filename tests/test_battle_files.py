"""Tables of battles as they come: text stays text, and what is unclear is named by its row."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from arena_assets.cli.main import app
from arena_assets.config.places import PROJECT
from arena_assets.ratings.battles import BadBattles, read_battles
from arena_assets.ratings.bradley_terry import Anchor, rate
from arena_assets.ratings.comparisons import UnratableBattles
from arena_assets.ratings.reading import SUFFIXES

REAL = PROJECT.parent / "shared" / "data"


def arena_rate(*arguments):
    return CliRunner().invoke(app, ["rate", *map(str, arguments)])


def rated(*arguments):
    done = arena_rate(*arguments, "--format", "json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def jsonl(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


# -- whose table it is ------------------------------------------------------------------------


def annotation(question, generator, preference):
    return {
        "instruction": f"own question {question}",
        "generator_1": "base",
        "generator_2": generator,
        "preference": preference,
    }


def test_alpaca_evals_zero_is_a_draw_and_every_preference_between_weighs(tmp_path):
    rows = [
        annotation(n, "m", preference) for n, preference in enumerate([0, 0.0, 1.5, 1, 2, 1.93])
    ]
    path = write(tmp_path, "a.json", json.dumps([*rows, annotation(9, "m", None)]))
    found = read_battles(path, "alpaca_eval")
    assert found.table["score"].to_pylist() == pytest.approx([0.5, 0.5, 0.5, 1, 0, 0.07])
    assert found.undecided == 1
    result = rated(path, "--loader", "alpaca_eval")
    assert {row["contestant"]: row["ties"] for row in result["ratings"]} == {"base": 3, "m": 3}


def test_a_preference_that_was_not_annotated_is_undecided_and_one_out_of_range_is_refused(tmp_path):
    nan = write(tmp_path, "n.json", '[{"instruction": "q", "model_a": "a", "model_b": "b", ')
    nan.write_text(nan.read_text() + '"preference": NaN}]')
    assert read_battles(nan, "alpaca_eval").undecided == 1
    for value in (0.5, -1, 2.5, "inf", "m"):
        path = write(tmp_path, "v.jsonl", jsonl(annotation(1, "m", value)))
        with pytest.raises(BadBattles, match=r"row 1: unknown verdict .*from 1 to 2, or 0"):
            read_battles(path, "alpaca_eval")


@pytest.mark.parametrize(
    ("label", "share", "weight"),
    [
        ("A>>B", 1, 3),
        ("A>B", 1, 1),
        ("A=B", 0.5, 1),
        ("B=A", 0.5, 1),
        ("A<B", 0, 1),
        ("A<<B", 0, 3),
        ("B>A", 0, 1),
        ("B>>A", 0, 3),
        ("B<A", 1, 1),
        ("B<<A", 1, 3),
        ("[[A>B]]", 1, 1),
        ("[[ b >> a ]]", 0, 3),
        (" A = B ", 0.5, 1),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_every_label_of_arena_hard_is_read(tmp_path, label, share, weight, suffix):
    row = {"question_id": "q", "model": "m", "games": [{"score": label}, {"score": "A>B"}]}
    path = tmp_path / f"judgments{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([row]), path)
    else:
        path.write_text(jsonl(row))
    first = read_battles(path, "arena_hard").table.to_pylist()[0]
    assert (first["contestant_1"], first["score"], first["weight"]) == ("gpt-4-0314", share, weight)


@pytest.mark.parametrize(
    ("games", "scores", "undecided"),
    [
        ([None, {"score": "A>B"}], [1.0], 1),
        ([{"score": "A>B"}, None], [1.0], 1),
        ([{"score": None}, {"score": "A<B"}], [0.0], 1),
        ([{"judgment": "..."}, {"score": "A<B"}], [0.0], 1),
        ([{"score": "A>B"}], [1.0], 1),
        ([None, None], [], 2),
        ([], [], 2),
        (None, [], 2),
    ],
)
def test_one_failed_game_of_arena_hard_leaves_the_other(tmp_path, games, scores, undecided):
    path = write(tmp_path, "j.jsonl", jsonl({"uid": "u", "model": "m", "games": games}))
    found = read_battles(path, "arena_hard")
    assert found.table["score"].to_pylist() == scores and found.undecided == undecided


@pytest.mark.parametrize("games", [[{"score": "A>B"}] * 3, "A>B", {"score": "A>B"}])
def test_games_that_are_no_two_games_are_refused(tmp_path, games):
    path = write(tmp_path, "j.jsonl", jsonl({"uid": "u", "model": "m", "games": games}))
    with pytest.raises(BadBattles, match="row 1: unknown verdict"):
        read_battles(path, "arena_hard")


def test_verdicts_are_read_in_any_case_and_between_blanks(tmp_path):
    path = write(tmp_path, "b.csv", "model_a,model_b,winner\na,b, Model_A \na,b,TIE\n")
    assert read_battles(path).table["score"].to_pylist() == [1.0, 0.5]


# -- text stays text --------------------------------------------------------------------------


@pytest.mark.parametrize("pair", [("1.1", "1.10"), ("007", "7"), ("1e5", "100000"), ("1", "b")])
def test_contestants_that_look_like_numbers_stay_what_they_are(tmp_path, pair):
    one, two = pair
    rows = [(one, "x", "model_a"), (two, "x", "model_b"), (one, two, "model_a")]
    table = "".join(f"{a},{b},{w}\n" for a, b, w in rows)
    (tmp_path / "t.tsv").write_text(("model_a,model_b,winner\n" + table).replace(",", "\t"))
    write(tmp_path, "t.csv", "model_a,model_b,winner\n" + table)
    objects = [{"model_a": a, "model_b": b, "winner": w} for a, b, w in rows]
    write(tmp_path, "t.jsonl", jsonl(*objects))
    pq.write_table(pa.Table.from_pylist(objects), tmp_path / "t.parquet")
    for suffix in (".csv", ".tsv", ".jsonl", ".parquet"):
        result = rated(tmp_path / f"t{suffix}")
        assert {row["contestant"] for row in result["ratings"]} == {one, two, "x"}, suffix


def test_numbers_as_names_keep_the_text_that_json_holds(tmp_path):
    lines = '{"model_a": 1.1, "model_b": 1.10, "winner": "model_a"}\n'
    found = read_battles(write(tmp_path, "n.jsonl", lines)).table.to_pylist()
    assert (found[0]["contestant_1"], found[0]["contestant_2"]) == ("1.1", "1.10")


def test_integers_of_parquet_are_names_too(tmp_path):
    rows = {"model_a": pa.array([7, 8]), "model_b": ["x", "x"], "winner": ["model_a", "tie"]}
    path = tmp_path / "i.parquet"
    pq.write_table(pa.table(rows), path)
    assert {row["contestant"] for row in rated(path)["ratings"]} == {"7", "8", "x"}


def test_prompt_ids_are_not_rounded(tmp_path):
    ids = ["1.1", "1.10", "01", "1", "2024-01-02", "true", "True"]
    lines = "".join(f"{n},a,b,tie\n" for n in ids)
    path = write(tmp_path, "p.csv", "prompt_id,model_a,model_b,winner\n" + lines)
    assert read_battles(path).table["prompt_id"].to_pylist() == ids


def test_a_word_after_many_numbers_is_found(tmp_path):
    lines = "a,b,1\n" * 25_000 + "a,b,tie\n"
    path = write(tmp_path, "w.csv", "model_a,model_b,preference\n" + lines)
    with pytest.raises(BadBattles, match=r"row 25001: unknown verdict 'tie' \(valid: a number"):
        read_battles(path)


@pytest.mark.parametrize(
    "column",
    ["prompt_id", "question_id", "instruction_id", "uid", "instruction", "prompt", "question"],
)
def test_battles_of_one_prompt_are_found_by_whatever_names_it(tmp_path, column):
    rows = [{column: n // 2, "model_a": "a", "model_b": "b", "winner": "tie"} for n in range(6)]
    done = arena_rate(write(tmp_path, "c.jsonl", jsonl(*rows)))
    assert "6 battles on 3 prompts" in done.stdout and not done.stderr


def test_a_warning_says_when_battles_are_taken_for_independent(tmp_path):
    path = write(tmp_path, "c.csv", "model_a,model_b,winner\na,b,tie\na,b,model_a\n")
    done = arena_rate(path)
    assert done.exit_code == 0
    assert "2 of 2 battles name no prompt" in done.stderr and done.stderr.count("\n") == 1
    path = write(tmp_path, "d.csv", "prompt_id,model_a,model_b,winner\np,a,b,tie\n,a,b,tie\n")
    assert "1 of 2 battles name no prompt" in arena_rate(path).stderr
    path = write(tmp_path, "e.csv", "prompt_id,model_a,model_b,winner\np,a,b,tie\np,a,b,tie\n")
    assert "all battles are on one prompt" in arena_rate(path).stderr


def test_an_array_is_read_under_either_name_and_columns_by_any_delimiter(tmp_path):
    rows = [{"model_a": "a", "model_b": "b", "winner": "tie", "question_id": 1}]
    for name in ("r.json", "r.jsonl", "r.ndjson"):
        assert read_battles(write(tmp_path, name, json.dumps(rows))).table.num_rows == 1
    path = write(tmp_path, "s.csv", "\ufeffmodel_a;model_b;winner\r\na;b;tie\r\n\r\n")
    assert read_battles(path).table.num_rows == 1


def test_half_a_surrogate_pair_is_shown_and_does_not_stop_the_rest(tmp_path):
    path = write(
        tmp_path, "s.jsonl", '{"model_a": "\\ud800", "model_b": "b", "winner": "model_a"}\n'
    )
    assert read_battles(path).table["contestant_1"].to_pylist() == ["\\ud800"]


def test_names_with_brackets_and_colons_are_printed_as_they_are(tmp_path):
    path = write(tmp_path, "m.csv", "model_a,model_b,winner\n[/b],:tada:,tie\n")
    done = arena_rate(path)
    assert done.exit_code == 0 and "[/b]" in done.stdout and ":tada:" in done.stdout


# -- what is unclear is named -----------------------------------------------------------------

HEADER = "model_a,model_b,winner"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.csv", f"{HEADER},weight\na,b,tie,heavy\n", "row 1: weight heavy is no positive number"),
        ("w.csv", f"{HEADER},weight\na,b,tie,1\na,b,tie,nan\n", "row 2: weight nan is no positive"),
        ("w.csv", f"{HEADER},weight\na,b,tie,inf\n", "row 1: weight inf is no positive"),
        ("w.csv", f"{HEADER},weight\na,b,tie,-1\n", "row 1: weight -1 is no positive"),
        ("w.csv", f"{HEADER},weight\na,b,tie,0\n", "row 1: weight 0 is no positive"),
        ("r.csv", f"{HEADER}\na,b,tie\na,b\n", "row 2 (line 3): 2 fields where the header names 3"),
        ("r.csv", f"{HEADER}\na,b,tie,x\n", "row 1 (line 2): 4 fields where the header names 3"),
        ("q.csv", f'{HEADER}\na,b,"tie\n', "no valid CSV"),
        ("d.csv", f"{HEADER},winner\na,b,tie,tie\n", "the column 'winner' is there twice"),
        ("l.csv", f"{HEADER}\ncafé,b,tie\n".encode("latin-1"), "line 2: the byte 0xe9 is no UTF-8"),
        ("u.csv", f"{HEADER}\na,b,tie\n".encode("utf-16"), "this is UTF-16 text"),
        ("g.jsonl", b"\x1f\x8b\x08\x00", "compressed by gzip"),
        ("p.csv", b"PAR1....", "this is Parquet; name it .parquet"),
        ("e.csv", "", "the file is empty"),
        ("e.jsonl", "\ufeff \n", "the file is empty"),
        ("h.csv", f"{HEADER}\n", "there are no decided battles"),
        ("e.json", "[]", "no rows"),
        ("j.jsonl", '{"model_a": "a"}\n{"model_a":\n', "line 2: no valid JSON"),
        ("j.json", '[\n{"model_a": "a"},\n{"model_a" "b"}]', "line 3: no valid JSON"),
        ("j.jsonl", '{"model_a": "a"}\n5\n', 'line 2: "5" where an object is needed'),
        ("j.json", '[{"model_a": "a"}, ["b"]]', 'row 2: ["b"] where an object is needed'),
        ("n.jsonl", "[" * 100_000, "lists in lists without end"),
        (
            "o.jsonl",
            jsonl({"model_a": {"name": "a"}, "model_b": "b", "winner": "tie"}),
            "row 1: model_a is a list or an object where a name is needed",
        ),
        ("b.parquet", b"PAR1 and then nothing", "cannot be read as Parquet"),
        ("x.xlsx", b"PK\x03\x04", "not one of .parquet, .csv"),
        (
            "c.csv",
            f"{HEADER},preference\na,b,model_a,0.9\na,b,model_a,0.1\n",
            "row 2: the winner 'model_a' and the preference '0.1'",
        ),
        (
            "c.csv",
            f"{HEADER},preference\na,b,tie,1\n",
            "row 1: the winner 'tie' and the preference",
        ),
        ("c.csv", f"{HEADER},preference\na,b,,0.9\n", "row 1: the winner None and the preference"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_in_one_sentence(tmp_path, name, content, message):
    done = arena_rate(write(tmp_path, name, content))
    assert done.exit_code == 1, done.output
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert "Traceback" not in done.output


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    assert "gone.csv: no such file" in arena_rate(tmp_path / "gone.csv").stderr
    assert ": a folder; name one of its files" in arena_rate(tmp_path).stderr


@pytest.mark.parametrize("anchor", ["a=nan", "a=inf", "a=-inf", "=1000", "a=much", "a"])
def test_an_anchor_that_is_no_number_is_refused(tmp_path, anchor):
    path = write(tmp_path, "a.csv", f"{HEADER}\na,b,tie\n")
    done = arena_rate(path, "--anchor", anchor)
    assert done.exit_code == 1 and "write NAME=RATING" in done.stderr


@pytest.mark.parametrize(
    "options", [["--seed", "-1"], ["--seed", "x"], ["--bootstrap", "3"], ["--interval", "exact"]]
)
def test_options_out_of_range_are_refused(tmp_path, options):
    path = write(tmp_path, "a.csv", f"{HEADER}\na,b,tie\n")
    done = arena_rate(path, *options)
    assert done.exit_code == 2 and options[0] in done.stderr and "Traceback" not in done.output


def test_agreeing_winner_and_preference_are_read(tmp_path):
    lines = "a,b,model_a,1\na,b,model_b,0.2\na,b,tie,0.55\na,b,,\n"
    found = read_battles(write(tmp_path, "c.csv", f"{HEADER},preference\n{lines}"))
    assert found.table["score"].to_pylist() == [1.0, 0.0, 0.5] and found.undecided == 1


# -- any bytes --------------------------------------------------------------------------------

_NAMES = st.sampled_from(["a", "b", "c", "007", "7", "", " ", "\ud800", "é"])
_VALUES = st.one_of(
    _NAMES,
    st.sampled_from(["model_a", "model_b", "tie", "A>B", "left"]),
    st.none(),
    st.booleans(),
    st.floats(),
    st.integers(),
    st.lists(st.none(), max_size=2),
    st.fixed_dictionaries({"score": st.sampled_from(["A>B", None, 3])}),
)
_KEYS = st.sampled_from(
    ["model_a", "model_b", "winner", "preference", "weight", "prompt_id", "model", "games", "x", ""]
)
_ROWS = st.lists(st.dictionaries(_KEYS, _VALUES, max_size=6), max_size=5)
_LINES = st.lists(st.lists(st.sampled_from(["a", "b", "tie", "1", '"', "\0", ""]), max_size=5))
_CONTENT = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")),
    _ROWS.map(lambda rows: json.dumps(rows).encode()),
    _ROWS.map(lambda rows: "\n".join(json.dumps(row) for row in rows).encode()),
    _LINES.map(lambda lines: f"{HEADER}\n".encode() + "\n".join(map(",".join, lines)).encode()),
    st.binary(max_size=50).map(lambda middle: b"PAR1" + middle + b"PAR1"),
)


@pytest.mark.slow
@given(
    content=_CONTENT,
    suffix=st.sampled_from(SUFFIXES),
    loader=st.sampled_from(["battles", "lmarena", "alpaca_eval", "arena_hard", "llmfao", "lake"]),
)
@example(b'[{"model_a": "a", "": "x", "model_b": "b", "winner": "tie"}]', ".json", "battles")
@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_bytes_give_battles_or_one_clear_error(tmp_path, content, suffix, loader):
    path = write(tmp_path, f"any{suffix}", content)
    try:
        battles = read_battles(path, loader).table
        if battles.num_rows:
            rate(battles, Anchor(battles["contestant_1"][0].as_py(), 1000))
    except (BadBattles, UnratableBattles) as error:
        assert str(error) and "\n" not in str(error)


# -- real data --------------------------------------------------------------------------------


@pytest.mark.skipif(not REAL.exists(), reason="no real data in ../shared/data on this machine")
def test_alpaca_evals_first_layout_with_draws_as_zero_is_rated(tmp_path):
    import pyarrow.compute as pc

    judged = pq.read_table(REAL / "alpaca_eval" / "judgments.parquet").slice(0, 8050)
    rows = [
        {
            "instruction": row["prompt_id"],
            "generator_1": row["model_a"],
            "generator_2": row["model_b"],
            # whole numbers, as AlpacaEval 1 has them, and a draw as 0
            "preference": 0 if row["preference"] == 1.5 else round(row["preference"]),
        }
        for row in judged.to_pylist()
    ]
    assert any(row["preference"] == 0 for row in rows)
    path = write(tmp_path, "annotations.json", json.dumps(rows))
    result = rated(path, "--loader", "alpaca_eval")
    assert result["battles"] == 8050 and result["undecided"] == 0
    assert result["prompts"] == pc.count_distinct(judged["prompt_id"]).as_py()


# -- what goes with battles -------------------------------------------------------------------


def test_answers_are_found_by_ids_that_look_like_numbers(tmp_path):
    lines = "".join(f"{n:03},1.1,1.10,{w}\n" for n, w in enumerate(["model_a", "model_b"] * 4))
    battles = write(tmp_path, "b.csv", "prompt_id,model_a,model_b,winner\n" + lines)
    texts = "".join(
        f'{n:03},{c},"{"x" * (n + k + 1)}"\n'
        for n in range(8)
        for k, c in enumerate(("1.1", "1.10"))
    )
    responses = write(tmp_path, "r.csv", "prompt_id,contestant,text\n" + texts)
    assert rated(battles, "--control", "length", "--responses", responses)["effects"]


@pytest.mark.parametrize(
    ("option", "name", "content", "message"),
    [
        ("--responses", "r.csv", "prompt_id,text\np,x\n", "columns contestant missing"),
        ("--responses", "r.jsonl", '{"prompt_id":', "line 1: no valid JSON"),
        ("--reference", "f.csv", "model,rating,lower,upper\na,high,1,2\n", "'a' has no complete"),
        ("--reference", "f.csv", "model,rating,lower,upper\ncaf\xe9,1,1,2\n", "is no UTF-8"),
        ("--reference", "f.csv", "model,rating,lower,upper\na,1,1\n", "row 1 (line 2): 3 fields"),
        ("--names", "n.csv", "ours,theirs\ncaf\xe9,a\n", "no UTF-8"),
        ("--names", "n.csv", "ours,theirs\n", "only 2 models are in both"),
    ],
)
def test_what_goes_with_battles_is_refused_in_one_sentence_too(
    tmp_path, option, name, content, message
):
    battles = write(tmp_path, "b.csv", "prompt_id,model_a,model_b,winner\np,a,b,tie\n")
    good = write(tmp_path, "good.csv", "model,rating,lower,upper\na,1,0,2\nb,1,0,2\n")
    options = [option, write(tmp_path, name, content.encode("latin-1"))]
    options += {"--responses": ["--control", "length"], "--names": ["--reference", good]}.get(
        option, []
    )
    done = arena_rate(battles, *options)
    assert done.exit_code == 1 and message in done.stderr and "Traceback" not in done.output


def test_a_condition_on_the_reference_needs_a_value(tmp_path):
    battles = write(tmp_path, "b.csv", "prompt_id,model_a,model_b,winner\np,a,b,tie\n")
    done = arena_rate(battles, "--reference", battles, "--reference-where", "style")
    assert done.exit_code == 1 and "write COLUMN=VALUE" in done.stderr
