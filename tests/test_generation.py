"""Answers are generated once a key, whoever asks; what is written is not paid for again."""

import json

import pytest

from arena_assets.config import Sampling
from arena_assets.generation.contestants import (
    Contestant,
    SystemPrompt,
    Weights,
    read_system_prompt,
)
from arena_assets.generation.engines import Completion
from arena_assets.generation.responses import MissingRecording, Prompt, open_store, respond

NO_COMMAS = '[{"type": "no_commas"}]'


def prompt(number, constraints=NO_COMMAS):
    return Prompt(f"p{number}", [{"role": "user", "content": f"Question {number}"}], constraints)


def contestant(name="base", digest="d1", **changes):
    settings = {"role": "target", "weights": Weights("m", None, digest), "sampling": Sampling()}
    return Contestant(name=name, **(settings | changes))


class Echo:
    """An engine that repeats the last message with commas, and remembers what it was asked."""

    def __init__(self, fails_after=None):
        self.asked, self.calls, self.fails_after = [], 0, fails_after

    def chat(self, conversations, sampling, samples=1, json_schema=None):
        self.calls += 1
        if self.fails_after is not None and self.calls > self.fails_after:
            raise RuntimeError("the machine is gone")
        self.asked += [messages[-1]["content"] for messages in conversations]
        return [
            [
                Completion(f"{messages[-1]['content']}{',' * (samples - 1 - n)}", "stop", 3, 2)
                for n in range(samples)
            ]
            for messages in conversations
        ]


def answer(store, who, prompts, engine, batch=2, seed=0):
    return respond(who, prompts, store, lambda: engine, seed, batch, print)


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path)


def test_what_is_stored_is_not_generated_again_for_anybody_with_the_same_key(store):
    engine = Echo()
    rows, progress = answer(store, contestant(), [prompt(n) for n in range(5)], engine)
    assert [row["text"] for row in rows] == [f"Question {n}" for n in range(5)]
    assert (progress.generated, progress.found, engine.calls) == (5, 0, 3)
    same_weights = contestant("another-name", role="opponent")
    rows, progress = answer(store, same_weights, [prompt(n) for n in range(7)], engine)
    assert (progress.generated, progress.found) == (2, 5)
    assert {row["contestant"] for row in rows} == {"another-name"}
    untouched = Echo(fails_after=0)
    _, progress = answer(store, contestant(), [prompt(3)], untouched)
    assert (progress.generated, untouched.calls) == (0, 0)


def test_a_run_that_dies_goes_on_where_it_was(store):
    prompts = [prompt(n) for n in range(7)]
    dying = Echo(fails_after=2)
    with pytest.raises(RuntimeError, match="gone"):
        answer(store, contestant(), prompts, dying)
    engine = Echo()
    rows, progress = answer(store, contestant(), prompts, engine)
    assert dying.asked + engine.asked == [f"Question {n}" for n in range(7)]
    assert (progress.generated, progress.found, len(rows)) == (3, 4, 7)


def test_prompts_of_the_same_words_share_one_answer(store):
    twin = Prompt("twin", prompt(1).messages, NO_COMMAS)
    engine = Echo()
    rows, progress = answer(store, contestant(), [prompt(1), twin], engine)
    assert progress.generated == 1 and [row["prompt_id"] for row in rows] == ["p1", "twin"]
    assert rows[0]["response_id"] == rows[1]["response_id"]


def test_the_best_of_several_samples_is_the_one_the_verifier_scores_highest(store):
    sampling = Sampling(temperature=1.0)
    best_of = contestant(best_of=3, sampling=sampling)
    (row,), progress = answer(store, best_of, [prompt(1)], Echo())
    assert (row["text"], row["sample"]) == ("Question 1", 2), "the others have commas"
    assert progress.completion_tokens == 6, "all samples were paid for"
    (row,), _ = answer(store, best_of, [prompt(2, "[]")], Echo())
    assert row["sample"] == 0, "nothing to choose by"


def test_the_key_is_the_hash_of_all_that_determines_the_text():
    messages = prompt(1).messages
    who = contestant()
    key = who.response_key(messages, NO_COMMAS, 0)
    assert key == who.response_key(messages, "[]", 9), "greedy text knows no seed"
    drawn = contestant(sampling=Sampling(temperature=1.0), best_of=2)
    prompted = contestant(system_prompt=SystemPrompt(version="v1", system="Be brief."))
    others = {
        who.response_key(prompt(2).messages, NO_COMMAS, 0),
        contestant(digest="d2").response_key(messages, NO_COMMAS, 0),
        contestant(sampling=Sampling(max_tokens=9)).response_key(messages, NO_COMMAS, 0),
        prompted.response_key(messages, NO_COMMAS, 0),
        drawn.response_key(messages, NO_COMMAS, 0),
        drawn.response_key(messages, NO_COMMAS, 1),
        drawn.response_key(messages, "[]", 0),
    }
    assert len(others) == 7 and key not in others


def test_a_system_prompt_comes_first_then_its_examples_then_the_prompt(tmp_path):
    file = tmp_path / "prompt.yaml"
    file.write_text(
        "version: v1\nsystem: Be brief.\nexamples:\n- {user: Hi, assistant: Hello.}\n", "utf-8"
    )
    who = contestant(system_prompt=read_system_prompt(str(file)))
    rendered = who.render(
        [{"role": "system", "content": "Rhyme."}, {"role": "user", "content": "Go"}]
    )
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
def test_recorded_answers_are_looked_up_and_a_gap_is_an_error(tmp_path, store, name):
    import pyarrow as pa
    import pyarrow.parquet as pq

    recording = [{"prompt_id": f"p{n}", "text": f"Answer {n}"} for n in range(3)]
    path = tmp_path / name
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in recording), "utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(recording), path)
    who = contestant(weights=None, recorded=path)
    rows, progress = answer(store, who, [prompt(2), prompt(0)], None)
    assert [row["text"] for row in rows] == ["Answer 2", "Answer 0"] and progress.generated == 0
    with pytest.raises(MissingRecording, match=r"no answer to 1 of 2 prompts, for example p9"):
        answer(store, who, [prompt(0), prompt(9)], None)
