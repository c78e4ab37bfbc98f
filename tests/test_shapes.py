"""What the columns of usual data sets mean: each row in its right prompt, each loss counted."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arena_assets.config.prompts import PROMPT_COLUMNS, Source
from arena_assets.curation.shapes import MEANINGS
from arena_assets.curation.sources import Notes, read_source

ASKED, THEN = "Why do tides lag behind the moon?", "And on a lake?"


def read(tmp_path, *rows, **settings):
    """Prompts as lists of (role, content), reasons of quarantine, and the notes."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    notes = Notes()
    prompts, quarantine = read_source(Source(name="web", path=str(path), **settings), path, notes)
    return said(prompts), quarantine["reason"].to_pylist(), notes.summary()


def said(prompts):
    return [
        [(message["role"], message["content"]) for message in messages]
        for messages in prompts["messages"].to_pylist()
    ]


def turn(role, content):
    return {"role": role, "content": content}


ONE = [("user", ASKED)]
TWO = [("user", ASKED), ("user", THEN)]
THREE = [("user", ASKED), ("assistant", "Friction."), ("user", THEN)]
PAIRS = [["user", ASKED], ["assistant", "Friction."], ["user", THEN], ["assistant", "Less so."]]
MESSAGES = [turn(*pair) for pair in PAIRS]
HUMAN = {"user": "human", "assistant": "gpt"}

# name: (row, the prompt, columns left out, columns of answers)
DATA_SETS = {
    "ShareGPT": (
        {"id": "x_1", "conversations": [{"from": HUMAN[r], "value": c} for r, c in PAIRS]},
        *(THREE, "id (1)", None),
    ),
    "WizardLM evolved": (
        {"idx": 4, "conversations": [{"from": "human", "value": ASKED}, {"from": "gpt"}]},
        *(ONE, "idx (1)", None),
    ),
    "LMSYS-Chat-1M": (
        {
            "conversation_id": "c",
            "model": "m",
            "conversation": MESSAGES,
            "turn": 2,
            "openai_moderation": [{"flagged": False}],
        },
        *(THREE, "conversation_id (1), model (1), turn (1), openai_moderation (1)", None),
    ),
    "WildChat": (
        {
            "conversation_hash": "h",
            "conversation": [m | {"toxic": False, "header": {"x": None}} for m in MESSAGES],
            "toxic": False,
        },
        *(THREE, "conversation_hash (1), toxic (1)", None),
    ),
    "UltraChat": (
        {"id": "0", "data": [ASKED, "Friction.", THEN, "Less so."]},
        *(THREE, "id (1)", None),
    ),
    "UltraChat 200k": (
        {"prompt": ASKED, "messages": MESSAGES},
        *(THREE, "prompt (1)", None),
    ),
    "LIMA": (
        {"conversations": [ASKED, "Friction.", THEN], "source": "s"},
        THREE,
        "source (1)",
        None,
    ),
    "Capybara": (
        {
            "source": "s",
            "conversation": [
                {"input": ASKED, "output": "Friction."},
                {"input": THEN, "output": "x"},
            ],
        },
        *(THREE, "source (1)", None),
    ),
    "FLAN": ({"inputs": ASKED, "targets": "x", "task": "t"}, ONE, "task (1)", "targets (1)"),
    "OpenOrca": (
        {"id": "n", "system_prompt": "Be brief.", "question": ASKED, "response": "x"},
        *([("system", "Be brief."), *ONE], "id (1)", "response (1)"),
    ),
    "OpenOrca without a system prompt": (
        {"system_prompt": "", "question": ASKED, "response": "x"},
        *(ONE, None, "response (1)"),
    ),
    "Alpaca": (
        {"instruction": "Sum it up.", "input": "Tides lag.", "output": "x", "text": "Below is ..."},
        *([("user", "Sum it up.\n\nTides lag.")], "text (1)", "output (1)"),
    ),
    "Alpaca without an input": (
        {"instruction": ASKED, "input": "", "output": "x"},
        ONE,
        None,
        "output (1)",
    ),
    "Alpaca with a history": (
        {
            "instruction": THEN,
            "input": "",
            "output": "x",
            "history": [[ASKED, "Friction."]],
            "system": "Rhyme.",
        },
        *([("system", "Rhyme."), *THREE], None, "output (1)"),
    ),
    "an instruction in the input": (
        {"instruction": "", "input": ASKED, "output": "x"},
        ONE,
        None,
        "output (1)",
    ),
    "Dolly": (
        {"instruction": "Sum it up.", "context": "Tides lag.", "response": "x", "category": "c"},
        *([("user", "Sum it up.\n\nTides lag.")], None, "response (1)"),
    ),
    "SQuAD": (
        {
            "title": "t",
            "context": "Tides lag.",
            "question": "What lags?",
            "answers": {"text": ["tides"]},
        },
        *([("user", "What lags?\n\nTides lag.")], "title (1)", "answers (1)"),
    ),
    "BoolQ": (
        {"question": "do tides lag", "passage": "Tides lag.", "answer": True},
        *([("user", "do tides lag\n\nTides lag.")], None, "answer (1)"),
    ),
    "a passage that the prompt holds already": (
        {"prompt": "Sum it up: Tides lag.", "input": "Tides lag."},
        *([("user", "Sum it up: Tides lag.")], None, None),
    ),
    "MMLU": (
        {"question": "What lags?", "subject": "sea", "choices": ["tides", "sand"], "answer": 0},
        *([("user", "What lags?\n\nA. tides\nB. sand")], "subject (1)", "answer (1)"),
    ),
    "ARC": (
        {
            "question": "What lags?",
            "choices": {"text": ["tides", "sand"], "label": ["1", "2"]},
            "answerKey": "1",
        },
        *([("user", "What lags?\n\n1. tides\n2. sand")], None, "answerKey (1)"),
    ),
    "MedQA": (
        {"question": "What lags?", "options": {"A": "tides", "B": "sand"}, "answer": "A"},
        *([("user", "What lags?\n\nA. tides\nB. sand")], None, "answer (1)"),
    ),
    "AQuA": (
        {"question": "What is 4+5?", "options": ["A)9", "B)8"], "correct": "A"},
        *([("user", "What is 4+5?\n\nA)9\nB)8")], "correct (1)", None),
    ),
    "choices as a text": (
        {"question": "What lags?", "options": "a ) tides , b ) sand"},
        *([("user", "What lags?\n\na ) tides , b ) sand")], None, None),
    ),
    "numbers as choices": (
        {"question": "What is 4+5?", "choices": [9, 8.10]},
        *([("user", "What is 4+5?\n\nA. 9\nB. 8.1")], None, None),
    ),
    "choices that the question lists": (
        {"question": "What lags?\nA. tides\nB. sand", "choices": ["tides", "sand"]},
        *([("user", "What lags?\nA. tides\nB. sand")], None, None),
    ),
    "MT-Bench": (
        {"question_id": 81, "category": "w", "turns": [ASKED, THEN], "reference": ["x", "y"]},
        *(TWO, "question_id (1)", None),
    ),
    "MT-Bench on the hub": (
        {"prompt": [ASKED, THEN], "prompt_id": 81, "reference": []},
        TWO,
        None,
        None,
    ),
    "TRL prompt only": ({"prompt": [turn("user", ASKED)]}, ONE, None, None),
    "TRL preference": (
        {
            "prompt": [turn("user", ASKED)],
            "chosen": [turn("assistant", "x")],
            "rejected": [turn("assistant", "y")],
        },
        *(ONE, None, "chosen (1), rejected (1)"),
    ),
    "TRL implicit prompt": (
        {
            "chosen": [turn("user", ASKED), turn("assistant", "x")],
            "rejected": [turn("user", ASKED)],
        },
        *(ONE, None, "rejected (1)"),
    ),
    "Gemini contents": (
        {
            "contents": [
                {"role": "user", "parts": [{"text": ASKED}]},
                {"role": "model", "parts": [{"text": "x"}]},
            ]
        },
        *(ONE, None, None),
    ),
    "OASST": ({"text": ASKED, "role": "prompter", "lang": "en"}, ONE, "lang (1)", None),
    "a role of another kind": ({"text": ASKED, "role": "sailor"}, ONE, "role (1)", None),
    "a list of structs as a struct of lists": (
        {"conversations": {"from": ["human", "gpt"], "value": [ASKED, "x"]}},
        *(ONE, None, None),
    ),
    "a dialogue as JSON in a cell": ({"messages": json.dumps(MESSAGES)}, THREE, None, None),
    "a system prompt beside a dialogue": (
        {"conversations": [{"from": "human", "value": ASKED}], "system": "Rhyme."},
        *([("system", "Rhyme."), *ONE], None, None),
    ),
    "two system prompts": (
        {"messages": [turn("system", "Rhyme."), turn("user", ASKED)], "system": "Be brief."},
        *([("system", "Be brief.\n\nRhyme."), *ONE], None, None),
    ),
    "no messages beside a good prompt": ({"messages": None, "prompt": ASKED}, ONE, None, None),
    "a context beside a dialogue": (
        {"messages": [turn("user", ASKED)], "context": "c"},
        ONE,
        "context (1)",
        None,
    ),
}


@pytest.mark.parametrize("name", DATA_SETS)
def test_columns_of_known_data_sets_become_their_prompt_and_the_rest_is_counted(tmp_path, name):
    row, prompt, left_out, answers = DATA_SETS[name]
    found, reasons, summary = read(tmp_path, row)
    assert (found, reasons) == ([prompt], [])
    assert summary.get("columns_left_out") == left_out
    assert summary.get("columns_of_answers") == answers


@pytest.mark.parametrize("name", [name for name in DATA_SETS if name != "numbers as choices"])
def test_parquet_gives_the_same_prompts(tmp_path, name):
    row, prompt, _, _ = DATA_SETS[name]
    path = tmp_path / "rows.parquet"
    other = {"question": "Another question"}  # whose nulls Arrow fills in
    pq.write_table(pa.Table.from_pylist([{"question": None} | row, other]), path)
    prompts, quarantine = read_source(Source(name="web", path=str(path)), path)
    assert said(prompts) == [prompt, [("user", "Another question")]] and quarantine.num_rows == 0


# the turns of a row of messages: the prompt, or the reason why there is none
TURNS = {
    "parts of text": (
        [
            turn(
                "user",
                [{"type": "text", "text": "Why do"}, {"type": "input_text", "text": "tides lag?"}],
            )
        ],
        [("user", "Why do\ntides lag?")],
    ),
    "parts with nulls": ([turn("user", [{"type": "text", "text": ASKED, "image_url": None}])], ONE),
    "plain parts": ([turn("user", [ASKED])], ONE),
    "a picture": (
        [
            turn(
                "user",
                [{"type": "text", "text": ASKED}, {"type": "image_url", "image_url": {"url": "x"}}],
            )
        ],
        "messages, turn 1: a part of type 'image_url' is no text",
    ),
    "a picture in the answer": ([turn("user", ASKED), turn("assistant", [{"type": "image"}])], ONE),
    "a picture beside the text": (
        [turn("user", ASKED) | {"images": ["x"]}],
        "its images are no text",
    ),
    "a developer": (
        [turn("developer", "Rhyme."), turn("user", ASKED)],
        [("system", "Rhyme."), *ONE],
    ),
    "capitals and blanks": ([turn("USER ", ASKED), turn("Assistant", "x")], ONE),
    "names of models": (
        [turn("Human", ASKED), turn("GPT-3.5-turbo", "Friction."), turn("prompter", THEN)],
        THREE,
    ),
    "tools after the question": (
        [
            turn("user", ASKED),
            turn("assistant", None) | {"tool_calls": [{}]},
            turn("tool", "4"),
            turn("bot", "x"),
        ],
        ONE,
    ),
    "tools in the history": (
        [
            turn("user", ASKED),
            turn("function_call", "{}"),
            turn("observation", "4"),
            turn("gpt", "Friction."),
            turn("user", THEN),
        ],
        THREE,
    ),
    "the model begins": (
        [turn("model", "Ahoy!"), turn("user", ASKED), turn("model", "x")],
        [("assistant", "Ahoy!"), *ONE],
    ),
    "the model speaks twice": (
        [turn("user", ASKED), turn("bing", "Well:"), turn("bard", "friction."), turn("user", THEN)],
        [("user", ASKED), ("assistant", "Well:\n\nfriction."), ("user", THEN)],
    ),
    "a system message in the middle": (
        [
            turn("user", ASKED),
            turn("assistant", "Friction."),
            turn("system", "Rhyme."),
            turn("user", THEN),
        ],
        [*THREE[:2], ("system", "Rhyme."), ("user", THEN)],
    ),
    "a system message after the question": (
        [turn("user", ASKED), turn("system", "Rhyme."), turn("assistant", "x")],
        [("system", "Rhyme."), *ONE],
    ),
    "a blank system message": ([turn("system", " "), turn("user", ASKED)], ONE),
    "an answer without text": (
        [turn("user", ASKED), turn("assistant", ""), turn("user", THEN)],
        TWO,
    ),
    "an empty last answer": ([turn("user", ASKED), turn("assistant", None)], ONE),
    "an empty last question": ([*MESSAGES[:3], turn("assistant", "x"), turn("user", " ")], THREE),
    "one message": (turn("user", ASKED), ONE),
    "a list in a list": ([[turn("user", ASKED)]], ONE),
    "an empty question": ([turn("user", ""), turn("user", ASKED)], "messages, turn 1: empty"),
    "only an empty question": ([turn("user", "")], "messages, turn 1: empty"),
    "no question": ([turn("system", "Rhyme.")], "messages: no user message"),
    "no turn": ([], "messages: empty"),
    "a number": ([turn("user", 5)], "messages, turn 1: expected text, got int"),
    "nobody": ([{"content": ASKED}], "messages, turn 1: nobody is named as its speaker"),
    "an unknown speaker": (
        [turn("oracle", ASKED)],
        "messages, turn 1: unknown role 'oracle' (valid: ",
    ),
    "numbers": ([1, 2], "messages, turn 1: expected role and content, got int"),
    "rows in a row": ([{"prompt": ASKED}], "messages, turn 1: nobody is named as its speaker"),
    "a text": ("Hello", "messages: not JSON"),
}


@pytest.mark.parametrize("name", TURNS)
def test_turns_of_every_kind_are_read_or_refused_by_reason(tmp_path, name):
    messages, right = TURNS[name]
    found, reasons, _ = read(tmp_path, {"messages": messages})
    if isinstance(right, str):
        assert found == [] and right in reasons[0]
    else:
        assert (found, reasons) == ([right], [])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": 5}, "prompt: expected text, got int"),
        ({"prompt": " ", "question": None}, "prompt: empty"),
        ({"prompt": ASKED, "image": "tide.png"}, "image: a part of the prompt that is no text"),
        ({"prompt": ASKED, "context": {"page": 5}}, "context: expected text, got page"),
        (
            {"prompt": ASKED, "choices": [{"index": 0, "turns": ["x"]}]},
            "choices: expected a list of t",
        ),
        ({"prompt": ASKED, "history": "User: hi"}, "history: not JSON"),
        ({"prompt": ASKED, "second_turn": 5}, "second_turn: expected text, got int"),
        ({"prompt": ASKED, "prompt_id": 1.5, "constraints": [{"type": "rhymes"}]}, "rhymes"),
        (
            {"prompt": ASKED, "prompt_id": ["a"]},
            "prompt_id: expected text or a whole number, got list",
        ),
        ({"prompt": ASKED, "constraints": "none"}, "constraints: not JSON"),
        ({"text": ASKED, "role": "assistant"}, "role: a text of the assistant, no prompt"),
        ({"data": [{"prompt": ASKED}]}, "data: expected texts; of an object with rows in it give"),
    ],
)
def test_what_belongs_to_a_prompt_and_cannot_be_read_costs_the_row_by_reason(tmp_path, row, reason):
    found, reasons, _ = read(tmp_path, row)
    assert found == [] and reason in reasons[0]


def test_values_that_need_not_fit_cost_no_row_and_are_counted(tmp_path):
    rows = [
        {"prompt": "One question", "difficulty": "easy", "category": {"a": 1}},
        {"prompt": "Another question", "difficulty": 11, "reference": {"a": 1}},
        {"prompt": "A third question", "difficulty": "7.5", "category": 3, "prompt_id": 1.10},
        {"messages": [turn("system", ""), turn("user", ASKED)], "difficulty": float("nan")},
    ]
    found, reasons, summary = read(tmp_path, *rows)
    assert len(found) == 4 and reasons == []
    path = tmp_path / "rows.jsonl"
    assert summary["values_dropped"] == (
        f"difficulty: no number from 0 to 10, first in {path}, line 1 (2), "
        f"category: no text, first in {path}, line 1 (1), "
        f"reference: no text, first in {path}, line 2 (1), "
        f"system turns without text, first in {path}, line 4 (1)"
    )
    prompts, _ = read_source(Source(name="web", path=str(path)), path)
    assert prompts["difficulty"].to_pylist() == [None, None, 7.5, None]
    assert prompts["category"].to_pylist() == [
        "uncategorised",
        "uncategorised",
        "3",
        "uncategorised",
    ]
    assert prompts["prompt_id"].to_pylist()[2] == "1.1"  # as json.dumps wrote it


def test_nulls_that_arrow_fills_into_structs_are_no_values(tmp_path):
    rows = [
        {
            "prompt": ASKED,
            "messages": None,
            "constraints": [{"type": "bullet_count", "count": 3}, {"type": "no_commas"}],
        },
        {"prompt": THEN, "constraints": [{"type": "no_commas"}]},
        {"messages": [turn("user", "A third question")], "constraints": None},
    ]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    prompts, quarantine = read_source(Source(name="web", path=str(path)), path)
    assert quarantine.num_rows == 0
    assert [json.loads(text) for text in prompts["constraints"].to_pylist()] == [
        [{"type": "bullet_count", "count": 3}, {"type": "no_commas"}],
        [{"type": "no_commas"}],
        [],
    ]


def test_a_prompt_twice_without_an_identifier_is_one_prompt(tmp_path):
    found, reasons, summary = read(
        tmp_path, {"prompt": ASKED}, {"prompt": THEN}, {"question": ASKED}
    )
    assert found == [ONE, [("user", THEN)]] and reasons == [] and summary == {"repeated_rows": 1}


def test_the_same_words_with_other_constraints_or_one_identifier_twice_are_told(tmp_path):
    rows = [
        {"prompt": ASKED},
        {"prompt": ASKED, "constraints": [{"type": "no_commas"}]},
        {"prompt": THEN, "prompt_id": "a"},
        {"prompt": THEN, "prompt_id": "a"},
        {"prompt": "Another question", "prompt_id": "a"},
    ]
    found, reasons, summary = read(tmp_path, *rows)
    assert found == [ONE, [("user", THEN)]] and summary == {"repeated_rows": 1}
    assert reasons == [
        "the same messages with other constraints are on line 1",
        "prompt_id 'a' is already on line 3",
    ]


# -- what a source says of its columns -----------------------------------------------------------


def test_a_source_says_which_column_is_what(tmp_path):
    row = {"body": ASKED, "doc": "Tides lag.", "prompt": "no", "key": 7, "context": "no", "n": 1}
    columns = {"prompt": "body", "passage": "doc", "prompt_id": "key"}
    found, _, summary = read(tmp_path, row, columns=columns, ignore=["context"])
    assert found == [[("user", f"{ASKED}\n\nTides lag.")]]
    assert summary["columns_left_out"] == "prompt (1), context (1), n (1)"
    assert read(tmp_path, row, columns=columns)[0] == found


def test_a_dialogue_is_named_as_messages(tmp_path):
    found, _, _ = read(tmp_path, {"log": MESSAGES, "prompt": "x"}, columns={"messages": "log"})
    assert found == [THREE]


def test_an_ignored_column_takes_no_part(tmp_path):
    row = {"prompt": ASKED, "input": "ids", "images": ["x"], "choices": [{"message": "x"}]}
    found, _, summary = read(tmp_path, row, ignore=["input", "images", "choices"])
    assert found == [ONE]
    assert summary["columns_left_out"] == "input (1), images (1), choices (1)"


def test_columns_that_are_not_there_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"no column 'artcle', which the profile names.*prompt"):
        read(tmp_path, {"prompt": ASKED, "article": "x"}, columns={"passage": "artcle"})
    with pytest.raises(ValueError, match=r"no column 'inputt'"):
        read(tmp_path, {"prompt": ASKED}, ignore=["inputt"])
    with pytest.raises(
        ValueError, match=r"no column is known \(there: a\).*columns in the profile"
    ):
        read(tmp_path, {"a": ASKED})


def test_names_that_are_not_ours_are_refused_with_the_valid_ones():
    with pytest.raises(
        ValueError, match=r"'question' is no name of ours \(valid: messages, prompt"
    ):
        Source(name="web", path="x", columns={"question": "q"})
    with pytest.raises(ValueError, match=r"q is under columns and under ignore"):
        Source(name="web", path="x", columns={"prompt": "q"}, ignore=["q"])
    assert tuple(MEANINGS) == PROMPT_COLUMNS
