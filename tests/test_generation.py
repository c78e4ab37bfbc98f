"""Answers are generated once a key, whoever asks; what is written is not paid for again."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arena_assets.config.models import Sampling
from arena_assets.generation.contestants import Contestant
from arena_assets.generation.responses import Setting, create_requested, respond
from arena_assets.lake.lake import Lake
from arena_assets.lake.tables import PROMPTS
from arena_assets.models.dialogue import open_turns, with_answers
from arena_assets.models.engine import BackendDown, Completion
from arena_assets.models.model import Local, Recorded
from arena_assets.models.prompting import SystemPrompt, read_system_prompt
from arena_assets.models.recorded import MissingRecording, RecordedEngine

NO_COMMAS = '[{"type": "no_commas"}]'
ROUND = "i01.1-sft"


def user(text):
    return {"role": "user", "content": text}


def prompt(number, constraints=NO_COMMAS, messages=None, prompt_id=None):
    return {
        "prompt_id": prompt_id or f"p{number}",
        "messages": messages or [user(f"Question {number}")],
        "constraints": constraints,
    }


def contestant(name="base", digest="d1", **changes):
    settings = {"role": "target", "model": Local("m", Path("m"), digest), "sampling": Sampling()}
    return Contestant(name=name, **(settings | changes))


class Echo:
    """An engine that repeats the last message with commas, and remembers what it was asked."""

    def __init__(self, fails_after=None, refuses=()):
        self.asked, self.calls, self.fails_after, self.refuses = [], 0, fails_after, refuses
        self.conversations = []

    def chat(self, requests, sampling, samples=1, json_schema=None):
        self.calls += 1
        if self.fails_after is not None and self.calls > self.fails_after:
            raise RuntimeError("the machine is gone")
        self.conversations += [request.messages for request in requests]
        self.asked += [request.messages[-1]["content"] for request in requests]
        return [
            [Completion("", "error", error="no route")] * samples
            if request.prompt_id in self.refuses
            else [
                Completion(
                    f"{request.messages[-1]['content']}{',' * (samples - 1 - n)}", "stop", 3, 2
                )
                for n in range(samples)
            ]
            for request in requests
        ]


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path)


def answer(lake, who, prompts, engine, batch=2, seed=0):
    """The rows of one contestant's partition, and the progress."""
    schema = pa.schema([PROMPTS.schema.field(n) for n in ("prompt_id", "messages", "constraints")])
    setting = Setting(lambda model: engine, seed, batch, print)
    table = pa.Table.from_pylist(prompts, schema=schema)
    progress = respond(lake, "responses", ROUND, table, [who], setting)
    return lake.read("responses", ROUND).to_pylist(), progress


def test_what_is_stored_is_not_generated_again_for_anybody_with_the_same_key(lake):
    engine = Echo()
    rows, progress = answer(lake, contestant(), [prompt(n) for n in range(5)], engine)
    assert [row["text"] for row in rows] == [f"Question {n}" for n in range(5)]
    assert (progress.generated, progress.found, engine.calls) == (5, 0, 3)
    same_weights = contestant("another-name", role="opponent")
    rows, progress = answer(lake, same_weights, [prompt(n) for n in range(7)], engine)
    assert (progress.generated, progress.found) == (2, 5)
    assert {row["contestant"] for row in rows} == {"another-name"}
    untouched = Echo(fails_after=0)
    _, progress = answer(lake, contestant(), [prompt(3)], untouched)
    assert (progress.generated, untouched.calls) == (0, 0)


def test_a_run_that_dies_goes_on_with_the_same_batches(lake):
    prompts = [prompt(n) for n in range(7)]
    dying = Echo(fails_after=2)
    with pytest.raises(RuntimeError, match="gone"):
        answer(lake, contestant(), prompts, dying)
    engine = Echo()
    rows, progress = answer(lake, contestant(), prompts, engine)
    assert dying.asked + engine.asked == [f"Question {n}" for n in range(7)]
    assert (progress.generated, progress.found, len(rows)) == (3, 4, 7)


def test_a_refusal_is_final_and_no_answer_that_was_made(lake):
    class Refuses(Echo):
        def chat(self, requests, *rest, **settings):
            answers = super().chat(requests, *rest, **settings)
            return [
                [Completion("", "refused")] if request.prompt_id == "p1" else answer
                for request, answer in zip(requests, answers, strict=True)
            ]

    prompts = [prompt(n) for n in range(4)]
    rows, progress = answer(lake, contestant(), prompts, Refuses())
    assert (progress.generated, progress.refused, progress.failed.total()) == (3, {"base": 1}, 0)
    assert [row["status"] for row in rows] == ["ok", "refused", "ok", "ok"]
    again, progress = answer(lake, contestant(), prompts, Echo(fails_after=0))
    assert (again, progress.generated) == (rows, 0)


def test_an_answer_that_the_backend_did_not_give_is_a_state_and_asked_for_again(lake):
    prompts = [prompt(n) for n in range(4)]
    rows, progress = answer(lake, contestant(), prompts, Echo(refuses=["p1"]))
    assert progress.failed["base"] == 1 and progress.generated == 3
    (lost,) = [row for row in rows if row["status"] != "ok"]
    assert (lost["prompt_id"], lost["status"], lost["error"]) == ("p1", "failed", "no route")
    assert (lost["finish_reason"], lost["text"], lost["turns"]) == ("error", "", [])
    engine = Echo()
    rows, progress = answer(lake, contestant(), prompts, engine)
    assert engine.asked == ["Question 1"] and {row["status"] for row in rows} == {"ok"}


def test_a_backend_that_is_gone_stops_the_run_and_what_came_is_kept(lake):
    class Gone(Echo):
        def chat(self, requests, sampling, samples=1, json_schema=None):
            if self.calls:
                raise BackendDown("the machine does not answer")
            return super().chat(requests, sampling, samples, json_schema)

    prompts = [prompt(n) for n in range(5)]
    said = "base: the machine does not answer; 2 answers that came before are kept"
    with pytest.raises(BackendDown, match=said):
        answer(lake, contestant(), prompts, Gone())
    assert not lake.exists("responses", ROUND), "no table is half-written"
    _, progress = answer(lake, contestant(), prompts, Echo())
    assert (progress.found, progress.generated) == (2, 3)


def test_prompts_of_the_same_words_share_one_answer(lake):
    twin = prompt(1, prompt_id="twin")
    rows, progress = answer(lake, contestant(), [prompt(1), twin], Echo())
    assert progress.generated == 1 and [row["prompt_id"] for row in rows] == ["p1", "twin"]
    assert rows[0]["response_id"] == rows[1]["response_id"]


def test_the_best_of_several_samples_is_the_one_the_verifier_scores_highest(lake):
    best_of = contestant(best_of=3, sampling=Sampling(temperature=1.0))
    (row,), progress = answer(lake, best_of, [prompt(1)], Echo())
    assert (row["text"], row["sample"]) == ("Question 1", 2), "the others have commas"
    assert progress.completion_tokens == 6, "all samples were paid for"
    (row,), _ = answer(lake, best_of, [prompt(2, "[]")], Echo())
    assert row["sample"] == 0, "nothing to choose by"
    shard = min(lake.store("responses").rglob("*.parquet"))
    kept = pq.read_table(shard)["samples"].to_pylist()
    assert kept[0] == ["Question 1,,", "Question 1,", "Question 1"], "the others are not lost"


def test_every_open_turn_is_answered_in_the_contestants_own_context(lake):
    history = [user("Hi"), {"role": "assistant", "content": "Hello."}, user("One"), user("Two")]
    engine = Echo()
    rows, _ = answer(lake, contestant(), [prompt(0), prompt(1, "[]", history)], engine)
    assert rows[1]["turns"] == ["One", "Two"] and rows[1]["text"] == "Two"
    assert rows[0]["turns"] == ["Question 0"]
    second = [m["content"] for m in engine.conversations[-1]]
    assert second == ["Hi", "Hello.", "One", "One", "Two"], "its own answer stands between"
    assert rows[1]["prompt_tokens"] == 6 and rows[1]["completion_tokens"] == 4


def test_dialogues_are_filled_in_turn_by_turn():
    asked = [{"role": "system", "content": "S"}, user("a"), user("b")]
    assert open_turns(asked) == 2 and open_turns(asked[:2]) == 1
    assert [m["content"] for m in with_answers(asked, [])] == ["S", "a"]
    assert [m["content"] for m in with_answers(asked, ["1"])] == ["S", "a", "1", "b"]
    whole = with_answers(asked, ["1", "2"])
    assert [m["role"] for m in whole] == ["system", "user", "assistant", "user", "assistant"]


def key_of(lake, who, seed=0, **changes):
    schema = pa.schema([PROMPTS.schema.field(n) for n in ("prompt_id", "messages", "constraints")])
    table = pa.Table.from_pylist([prompt(1) | changes], schema=schema)
    with lake.connect(prompts=table) as connection:
        create_requested(connection, who, seed)
        return connection.execute("select response_id from requested").fetchall()[0][0]


def test_the_key_is_the_hash_of_all_that_determines_the_text(lake):
    who = contestant()
    key = key_of(lake, who)
    assert key == key_of(lake, who, 9, constraints="[]"), "greedy text knows no seed"
    assert key == key_of(lake, contestant("another", role="opponent"))
    drawn = contestant(sampling=Sampling(temperature=1.0), best_of=2)
    prompted = contestant(system_prompt=SystemPrompt(version="v1", system="Be brief."))
    others = {
        key_of(lake, who, messages=[user("Question 2")]),
        key_of(lake, who, messages=[user("Question 1"), user("Question 1")]),
        key_of(lake, contestant(digest="d2")),
        key_of(lake, contestant(sampling=Sampling(max_tokens=9))),
        key_of(lake, contestant(sampling=Sampling(seed=5))),
        key_of(lake, prompted),
        key_of(lake, drawn),
        key_of(lake, drawn, 1),
        key_of(lake, drawn, constraints="[]"),
    }
    assert len(others) == 9 and key not in others


def test_a_system_prompt_comes_first_then_its_examples_then_the_prompt(tmp_path):
    file = tmp_path / "prompt.yaml"
    file.write_text(
        "version: v1\nsystem: Be brief.\nexamples:\n- {user: Hi, assistant: Hello.}\n", "utf-8"
    )
    who = contestant(system_prompt=read_system_prompt(str(file)))
    rendered = who.render([{"role": "system", "content": "Rhyme."}, user("Go")])
    assert [(m["role"], m["content"]) for m in rendered] == [
        ("system", "Be brief.\n\nRhyme."),
        ("user", "Hi"),
        ("assistant", "Hello."),
        ("user", "Go"),
    ]
    file.write_text("version: v1\n", "utf-8")
    with pytest.raises(ValueError, match=r"(?s)prompt.yaml.*system.*required"):
        read_system_prompt(str(file))


@pytest.mark.parametrize("name", ["answers.jsonl", "answers.parquet"])
def test_recorded_answers_are_looked_up_and_a_gap_is_an_error(tmp_path, name):
    lake = Lake(tmp_path / "lake")
    recording = [{"prompt_id": f"p{n}", "text": f"Answer {n}"} for n in range(3)]
    path = tmp_path / name
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in recording), "utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(recording), path)
    who = contestant(model=Recorded(path, "file-digest"))
    rows, _ = answer(lake, who, [prompt(2), prompt(0)], RecordedEngine(path))
    assert [row["text"] for row in rows] == ["Answer 0", "Answer 2"]
    assert {(row["finish_reason"], row["model"]) for row in rows} == {("recorded", "recorded")}
    with pytest.raises(MissingRecording, match=r"no answer to 1 of 2 prompts, for example p9"):
        answer(lake, who, [prompt(1), prompt(9)], RecordedEngine(path))
