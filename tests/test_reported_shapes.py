"""Shapes as people report them beside those of the other tests: each with its right value."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from arena_assets.cli.main import app
from arena_assets.config.prompts import Source
from arena_assets.curation.plain import plain
from arena_assets.curation.signs import signs
from arena_assets.curation.sources import Notes, read_source
from arena_assets.models.recorded import RecordedEngine
from arena_assets.ratings.battles import BadBattles, read_battles
from arena_assets.ratings.control import style_features

ASKED, THEN = "Why do tides lag?", "And on a lake?"
ONE = [("user", ASKED)]
THREE = [("user", ASKED), ("assistant", "Friction."), ("user", THEN)]
TURNS = [{"role": role, "content": content} for role, content in THREE]


def read(path, **settings):
    """Prompts as lists of (role, content), lines and reasons of quarantine, and the notes."""
    notes = Notes()
    prompts, quarantine = read_source(Source(name="web", path=str(path), **settings), path, notes)
    said = [[tuple(turn.values()) for turn in turns] for turns in prompts["messages"].to_pylist()]
    broken = list(zip(*(quarantine[c].to_pylist() for c in ("line", "reason")), strict=True))
    return said, broken, notes.summary()


def of_rows(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return read(path)


# -- files ------------------------------------------------------------------------------------

A, B = json.dumps({"prompt": "Name a tide"}), json.dumps({"prompt": 'Name {a} "sea"'})
FILES = {
    "cut out of an array.jsonl": f"{A},\n{B},\n",
    "without a line end.jsonl": f"{A}{B}\n",
    "commas and blanks.jsonl": f"{A} , {B},",
    "over several lines.jsonl": json.dumps(json.loads(A), indent=1)
    + "\n"
    + json.dumps(json.loads(B), indent=1),
    "as Excel is told.csv": 'sep=;\r\nprompt;note\r\nName a tide;x\r\n"Name {a} ""sea""";y\r\n',
    "commas in the header.csv": 'prompt;"note, long, old"\nName a tide;x\n"Name {a} ""sea""";y\n',
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_nearly_keep_the_rules_are_read(tmp_path, name):
    path = tmp_path / name
    path.write_text(FILES[name], "utf-8", newline="")
    said, broken, _ = read(path)
    assert (said, broken) == ([[("user", "Name a tide")], [("user", 'Name {a} "sea"')]], [])


def test_what_follows_an_object_and_is_none_costs_the_line_once(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{A} and more\n{A}{{"prompt"\n{B}\n{A},5\n', "utf-8")
    said, broken, _ = read(path)
    assert said == [[("user", 'Name {a} "sea"')]]
    assert [line for line, _ in broken] == [1, 2, 4]


def test_a_table_by_its_columns_is_read_row_by_row(tmp_path):
    path = tmp_path / "table.json"
    table = {"prompt": {"3": ASKED, "7": THEN}, "prompt_id": {"3": "a", "7": "b"}}
    path.write_text(json.dumps(table))
    assert read(path)[:2] == ([[("user", ASKED)], [("user", THEN)]], [])
    path.write_text(json.dumps({"prompt": [ASKED, THEN], "prompt_id": "a"}))
    assert read(path)[:2] == ([[("user", ASKED), ("user", THEN)]], [])


def test_nan_is_a_missing_value(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "Name a tide", "category": NaN, "system": NaN}\n{"prompt": NaN}\n')
    said, broken, notes = read(path)
    assert (said, broken, notes) == ([[("user", "Name a tide")]], [(2, "prompt: missing")], {})
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"prompt": ["Name a tide"], "difficulty": [float("nan")]}), path)
    assert read(path) == ([[("user", "Name a tide")]], [], {})


def test_a_recorded_nan_is_no_answer_and_no_turn(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt_id": "a", "text": NaN}\n{"prompt_id": "b", "text": "x", "turn": NaN}')
    assert RecordedEngine(path).unusable == [f"{path}, line 1: text: missing"]
    path = tmp_path / "rows.parquet"
    turns = {"prompt_id": ["a", "a"], "text": ["x", "y"], "turn": [float("nan"), 1.0]}
    pq.write_table(pa.table(turns), path)
    assert RecordedEngine(path).unusable == []


# -- dialogues in a text ----------------------------------------------------------------------

HH = f"\n\nHuman: {ASKED}\n\nAssistant: Friction.\n\nHuman: {THEN}\n\nAssistant: Less so."
DIALOGUES = {
    "HH": ({"chosen": HH, "rejected": "\n\nHuman: x"}, THREE),
    "HH as a prompt": ({"prompt": HH.removesuffix(" Less so.")}, THREE),
    "Guanaco": (
        {"text": f"### Human: {ASKED}### Assistant: Friction.\n### Human: {THEN}### Assistant: x"},
        THREE,
    ),
    "Python's list of turns": ({"messages": repr(TURNS)}, THREE),
    "Python's list of turns as a prompt": ({"prompt": repr(TURNS)}, THREE),
    "a JSON list of turns as a prompt": ({"prompt": json.dumps(TURNS)}, THREE),
    "a JSON list of questions": (
        {"prompt": json.dumps([ASKED, THEN])},
        [("user", ASKED), ("user", THEN)],
    ),
    "Python's list of questions": (
        {"turns": repr([ASKED, 'He said "no"'])},
        [("user", ASKED), ("user", 'He said "no"')],
    ),
    "Arena-Hard's questions": (
        {"turns": [{"content": ASKED}, {"content": THEN}]},
        [("user", ASKED), ("user", THEN)],
    ),
    "Python's list of choices": (
        {"question": ASKED, "choices": "['wind', 'drag']"},
        [("user", f"{ASKED}\n\nA. wind\nB. drag")],
    ),
    "Alpaca's word for nothing": ({"instruction": ASKED, "input": "<noinput>"}, ONE),
    "Alpaca's other word for nothing": ({"instruction": ASKED, "input": "No input."}, ONE),
}


@pytest.mark.parametrize("name", DIALOGUES)
def test_a_dialogue_in_a_text_is_a_dialogue(tmp_path, name):
    row, prompt = DIALOGUES[name]
    assert of_rows(tmp_path, row)[:2] == ([prompt], [])


@pytest.mark.parametrize(
    "text",
    [
        f"Go on:{HH}",
        "Human: what is it?",
        "[1, 2]",
        '["one", 2]',
        '[{"name": "sea"}]',
        "['one' 'two']",  # numpy's; Python reads it as a single text
        "['one'\n 'two']",
        "['one",
        "What does <|im_start|> mean?",
        "### Instruction:\nName a tide\n\n### Response:\n",
    ],
)
def test_a_text_that_looks_like_a_dialogue_stays_a_text(tmp_path, text):
    assert of_rows(tmp_path, {"text": text})[:2] == ([[("user", text)]], [])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            {"text": "<s>[INST] Why? [/INST] So. </s>"},
            "text: a dialogue in a model's template ([IN",
        ),
        ({"prompt": "<|im_start|>user\nWhy?"}, "prompt: a dialogue in a model's template (<|im_s"),
        ({"prompt": "Why?\n<extra_id_1>Assistant\nSo."}, "in a model's template (<extra_id_1>)"),
        ({"text": "### Instruction:\nWhy?\n\n### Response:\nSo."}, "text: an instruction with its"),
        ({"messages": "['one' 'two']"}, "messages: not JSON"),
    ],
)
def test_an_answer_in_a_text_never_passes_for_a_prompt(tmp_path, row, reason):
    said, broken, _ = of_rows(tmp_path, row)
    assert said == [] and reason in broken[0][1]


def test_tools_and_reasoning_in_a_message_are_left_out_and_counted(tmp_path):
    used = [{"type": "tool_use", "id": "t", "name": "tide", "input": {}}]
    thought = [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Friction."}]
    messages = [
        TURNS[0],
        {"role": "assistant", "content": used},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "4"}]},
        {"role": "assistant", "content": thought},
        TURNS[2],
        {"role": "assistant", "content": used},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "5"}]},
    ]
    said, broken, notes = of_rows(tmp_path, {"messages": messages})
    assert (said, broken) == ([THREE], [])
    assert notes["values_dropped"].startswith("tools and reasoning in the history, first in ")


# -- words ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pointed", "bare"), [("قُنْبُلَةٌ", "قنبلة"), ("פְּצָצָה", "פצצה")])
def test_vowel_signs_that_may_be_left_out_make_no_other_word(pointed, bare):
    assert pointed != bare and plain(pointed) == plain(bare)


@pytest.mark.parametrize(
    "texts", [("i--", "i++", "i"), ("a grade of A-", "a grade of A+", "a grade of A"), ("C--", "C")]
)
def test_a_minus_behind_a_letter_is_a_sign(texts):
    said = [f"Tell me about {text} please" for text in texts]
    assert len({tuple(signs(plain(text))) for text in said}) == len(texts)
    assert signs("well-known, off-by-one - and e-mail") == []


# -- battles ----------------------------------------------------------------------------------


def battles(tmp_path, content):
    path = tmp_path / "battles.csv"
    path.write_text(content, "utf-8")
    return path


def test_blanks_around_a_name_make_no_other_contestant(tmp_path):
    path = battles(tmp_path, "model_a,model_b,winner\n a b ,c,model_a\na b,c\u00a0,tie\n")
    found = read_battles(path).table
    assert found["contestant_1"].to_pylist() == ["a b", "a b"]
    assert found["contestant_2"].to_pylist() == ["c", "c"]
    responses = tmp_path / "responses.csv"
    answers = ("row 1,a b,x", "row 1, c ,xy", "row 2,a b ,x", "row 2,c,x")
    responses.write_text("\n".join(("prompt_id,contestant,text", *answers)))
    assert len(style_features(found, responses, "length")) == 2
    path = battles(tmp_path, "model_a,model_b,winner\na,a ,tie\n")
    with pytest.raises(BadBattles, match="row 1: 'a' meets itself"):
        read_battles(path)


def test_names_that_look_alike_are_told(tmp_path):
    path = battles(tmp_path, "model_a,model_b,winner\nGPT,b,model_a\nb,gpt,model_a\nGPT,b,tie\n")
    done = CliRunner().invoke(app, ["rate", str(path)])
    assert done.exit_code == 0 and "'GPT' and 'gpt' look alike and are rated as 2" in done.stderr
    path = battles(tmp_path, "model_a,model_b,winner\n1.1,b,model_a\nb,1.10,model_a\n")
    assert "look alike" not in CliRunner().invoke(app, ["rate", str(path)]).stderr


@pytest.mark.parametrize("missing", ["NaN", "nan", " ", "null"])
def test_a_missing_name_of_a_prompt_joins_no_battles_and_a_missing_contestant_is_refused(
    tmp_path, missing
):
    written = missing if missing in ("NaN", "null") else json.dumps(missing)
    row = '{"question_id": %s, "model_a": %s, "model_b": "b", "winner": "tie"}\n'
    path = tmp_path / "battles.jsonl"
    path.write_text(row % (written, '"a"') * 2)
    found = read_battles(path)
    assert found.alone == 2 and len(set(found.table["prompt_id"].to_pylist())) == 2
    path.write_text(row % ("1", written))
    with pytest.raises(BadBattles, match="row 1: a contestant is missing"):
        read_battles(path)


def test_a_missing_preference_contradicts_no_winner(tmp_path):
    path = battles(tmp_path, "model_a,model_b,winner,preference\na,b,model_a,nan\na,b,tie,\n")
    assert read_battles(path).table["score"].to_pylist() == [1.0, 0.5]


def test_the_names_in_a_header_may_hold_its_delimiter_in_quotes(tmp_path):
    path = battles(tmp_path, 'model_a;model_b;winner;"a, b, c, d"\na;b;tie;x\n')
    assert read_battles(path).table["score"].to_pylist() == [0.5]
