"""The engine for OpenAI-compatible servers, against one that fails as scripted and a real one."""

from __future__ import annotations

import json
import logging
import random
import socket
from collections import Counter
from itertools import repeat

import pyarrow as pa
import pytest
from fault_server import FINAL, HARMLESS, TRANSIENT, FaultServer, echo, verdict

from arena_assets.config.judges import LLMJudge
from arena_assets.config.models import Endpoint, Sampling
from arena_assets.config.profile import load_profile
from arena_assets.config.prompts import DifficultyRater
from arena_assets.curation.difficulty import rate
from arena_assets.generation.contestants import Contestant
from arena_assets.generation.responses import Setting, respond
from arena_assets.judging.games import Seat
from arena_assets.judging.judges import LanguageModelJudge
from arena_assets.judging.panel import Member, judge_round
from arena_assets.lake.lake import Lake
from arena_assets.models.engine import BackendDown, Completion, Request
from arena_assets.models.model import Served
from arena_assets.models.prompting import SystemPrompt
from arena_assets.models.served.openai_engine import OpenAIEngine

KEY = "sk-a-key-that-nobody-may-see"
SCHEMA = {
    "type": "object",
    "properties": {
        "explanation": {"type": "string", "maxLength": 20},
        "score_a": {"type": "integer", "minimum": 1, "maximum": 10},
        "score_b": {"type": "integer", "minimum": 1, "maximum": 10},
    },
    "required": ["explanation", "score_a", "score_b"],
    "additionalProperties": False,
}


def ask_for(prompt: str) -> Request:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}]
    return Request(prompt_id=f"id of {prompt}", messages=messages)


def engine_for(*urls: str, **settings) -> OpenAIEngine:
    defaults = {"model": "any", "timeout": 1.0, "retries": 3}
    return OpenAIEngine(Endpoint(urls=urls, **(defaults | settings)))


def texts(completions: list[list[Completion]]) -> list[list[str]]:
    return [[sample.text for sample in samples] for samples in completions]


def expected(request: Request, samples: int = 1) -> list[str]:
    return [echo(request.messages, index) for index in range(samples)]


def dead_url() -> str:
    """A URL on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


@pytest.mark.slow
def test_each_transient_fault_is_tried_again_and_answered_once():
    requests = [ask_for(fault) for fault in (*TRANSIENT, *HARMLESS)]
    with FaultServer({fault: [fault] for fault in (*TRANSIENT, *HARMLESS)}) as server:
        completions = engine_for(server.url).chat(requests, Sampling(), samples=2)
    assert texts(completions) == [expected(request, 2) for request in requests]
    assert all(sample.finish_reason == "stop" for samples in completions for sample in samples)
    for fault in TRANSIENT:
        assert len(server.tries(fault)) == 2, fault
    assert len(server.tries(HARMLESS[0])) == 1
    assert set(server.answered.values()) == {1}


@pytest.mark.slow
@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_fault_that_stays_becomes_an_error_when_the_tries_are_used_up(fault):
    requests = [ask_for("good"), ask_for("bad"), ask_for("fine")]
    with FaultServer({"bad": repeat(fault)}) as server:
        good, bad, fine = engine_for(server.url, retries=1).chat(requests, Sampling(), samples=2)
    assert [sample.text for sample in good + fine] == [
        *expected(requests[0], 2),
        *expected(requests[2], 2),
    ]
    assert [(sample.text, sample.finish_reason) for sample in bad] == [("", "error")] * 2
    assert len(server.tries("bad")) == 2
    assert bad[0].error


def test_faults_of_both_kinds_share_one_budget():
    with FaultServer({"mixed": ["500", "html", "no-choices", "500"]}) as server:
        [[answer]] = engine_for(server.url, retries=2).chat([ask_for("mixed")], Sampling())
    assert answer.finish_reason == "error"
    assert len(server.tries("mixed")) == 3


def test_what_is_final_is_not_tried_again():
    with FaultServer({"400": repeat("400"), "refused": repeat("refused")}) as server:
        [[bad], [refused]] = engine_for(server.url).chat(
            [ask_for(fault) for fault in FINAL], Sampling()
        )
    assert bad.finish_reason == "error"
    assert bad.error == "400: unhappy with None"
    assert (refused.text, refused.finish_reason, refused.error) == ("I will not.", "refused", None)
    assert [len(server.tries(fault)) for fault in FINAL] == [1, 1]


def test_retry_after_is_waited_for():
    with FaultServer({"slow down": ["429:1.1"]}) as server:
        [[answer]] = engine_for(server.url).chat([ask_for("slow down")], Sampling())
    first, second = server.tries("slow down")
    assert answer.finish_reason == "stop"
    assert second.at - first.at >= 1.1


@pytest.mark.slow
def test_no_row_of_a_mixed_batch_is_lost_or_answered_twice():
    dice = random.Random(7)
    scripts = {}
    for number in range(60):
        faults = dice.sample((*TRANSIENT, *HARMLESS), k=dice.choice([0, 0, 1, 2]))
        end = dice.choice(["answer", "answer", "answer", "400", "refused"])
        scripts[f"prompt {number}"] = [*faults, end]
    dice.shuffle(requests := [ask_for(prompt) for prompt in scripts])
    with FaultServer(scripts) as server:
        completions = engine_for(server.url).chat(requests, Sampling(temperature=1.0), samples=2)

    assert len(completions) == len(requests)
    for request, samples in zip(requests, completions, strict=True):
        prompt = request.messages[-1]["content"]
        kinds = {"400": "error", "refused": "refused"}
        # a slow answer is an answer: the script ends there
        steps = [step for step in scripts[prompt] if not step.startswith("slow")]
        end = "answer" if len(steps) < len(scripts[prompt]) else steps[-1]
        assert [sample.finish_reason for sample in samples] == [kinds.get(end, "stop")] * 2
        if end == "answer":
            assert [sample.text for sample in samples] == expected(request, 2)
        assert server.answered[prompt] == (end != "400")


@pytest.mark.slow
def test_no_more_requests_are_under_way_than_allowed():
    requests = [ask_for(f"prompt {number}") for number in range(24)]
    scripts = {request.messages[-1]["content"]: ["slow:0.1"] for request in requests}
    with FaultServer(scripts) as one, FaultServer(scripts) as other:
        patient = {"concurrency": 4, "timeout": 30}  # a second try would be one request more
        engine_for(one.url, other.url, **patient).chat(requests, Sampling())
    began = sorted(received.at for received in one.received + other.received)
    # each takes 0.1 s, so the fifth of any five begins when the first has had its time
    assert len(began) == 24
    assert all(fifth - first > 0.09 for first, fifth in zip(began, began[4:], strict=False))
    with FaultServer(scripts) as alone:
        engine_for(alone.url, **patient).chat(requests, Sampling())
    assert alone.most_at_once == 4


def test_a_fleet_with_a_dead_server_answers_everything():
    requests = [ask_for(f"prompt {number}") for number in range(20)]
    with FaultServer() as server:
        engine = engine_for(dead_url(), server.url, retries=1, concurrency=5)
        completions = engine.chat(requests, Sampling())
    assert texts(completions) == [expected(request) for request in requests]
    assert set(server.answered.values()) == {1}


def test_the_prompts_of_a_fleet_stay_on_their_servers():
    requests = [ask_for(f"prompt {number}") for number in range(20)]
    with FaultServer() as one, FaultServer() as other:
        engine = engine_for(one.url, other.url, timeout=10)
        engine.chat(requests, Sampling())
        engine.chat(requests[::-1], Sampling())
    assert one.answered and other.answered
    assert not one.answered.keys() & other.answered.keys()
    assert set((one.answered + other.answered).values()) == {2}


def test_where_nothing_listens_the_run_stops_with_the_address():
    url = dead_url()
    requests = [ask_for("one"), ask_for("two"), ask_for("three")]
    with pytest.raises(BackendDown, match=f"{url}: 3 requests in a row were not answered, Conn"):
        engine_for(url, retries=0).chat(requests, Sampling(), samples=2)


def test_a_row_that_is_left_over_and_fails_again_is_a_row_that_failed():
    with FaultServer({"bad": repeat("500")}) as server:
        [samples] = engine_for(server.url, retries=0).chat([ask_for("bad")], Sampling(), samples=2)
    assert [sample.error for sample in samples] == ["500: unhappy with None"] * 2


def test_the_key_goes_to_the_server_and_nowhere_else(monkeypatch, caplog):
    monkeypatch.setenv("ARENA_TEST_KEY", KEY)
    with FaultServer({"bad": repeat("400"), "worse": ["500", "500"]}) as server:
        with caplog.at_level(logging.DEBUG):
            engine = engine_for(server.url, api_key_env="ARENA_TEST_KEY", retries=1)
            requests = [ask_for("good"), ask_for("bad"), ask_for("worse")]
            completions = engine.chat(requests, Sampling())
    assert {received.headers["authorization"] for received in server.received} == {f"Bearer {KEY}"}
    assert "unhappy with Bearer <key>" in completions[1][0].error
    assert KEY not in repr(completions) + repr(engine) + caplog.text


@pytest.mark.parametrize("value", [None, "", " "])
def test_a_missing_key_is_named(monkeypatch, value):
    monkeypatch.delenv("ARENA_TEST_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("ARENA_TEST_KEY", value)
    with pytest.raises(ValueError, match="environment variable ARENA_TEST_KEY is not set"):
        engine_for("http://127.0.0.1:9/v1", api_key_env="ARENA_TEST_KEY")


def sent(sampling: Sampling, json_schema=None, **settings) -> dict:
    """The body of a request with these settings."""
    with FaultServer() as server:
        engine_for(server.url, **settings).chat([ask_for("?")], sampling, 3, json_schema)
    return server.received[0].body


def test_settings_are_sent_under_the_names_of_the_api():
    sampling = Sampling(
        temperature=0.5, top_p=0.9, max_tokens=9, stop=("END",), repetition_penalty=1.1, seed=4
    )
    body = sent(sampling, SCHEMA)
    wanted = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 9, "n": 3, "stop": ["END"], "seed": 4}
    assert body.items() >= (wanted | {"repetition_penalty": 1.1, "model": "any"}).items()
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA
    plain = sent(Sampling(seed=4), SCHEMA, structured_outputs=False)
    assert not plain.keys() & {"seed", "stop", "repetition_penalty", "response_format"}


@pytest.mark.parametrize(
    ("sampling", "settings"),
    [
        (Sampling(temperature=1.0, seed=4), {"seeds": False}),
        (Sampling(temperature=0.0, seed=4), {}),
        (Sampling(temperature=1.0), {}),
    ],
)
def test_a_seed_is_left_out_where_it_does_harm_or_nothing(sampling, settings):
    assert "seed" not in sent(sampling, **settings)


def test_tokens_are_counted_and_shared_between_the_samples():
    with FaultServer() as server:
        [samples] = engine_for(server.url).chat([ask_for("two words")], Sampling(), samples=3)
    assert [sample.completion_tokens for sample in samples] == [4, 3, 3]
    assert [sample.prompt_tokens for sample in samples] == [4, 0, 0], "one prompt, paid for once"


def test_a_judge_is_answered_with_scores():
    request = ask_for("Which is better?")
    with FaultServer(judge=True) as server:
        [[answer]] = engine_for(server.url).chat([request], Sampling())
    assert answer.text == verdict(request.messages, 0)
    assert json.loads(answer.text).keys() == {"explanation", "score_a", "score_b"}


def test_no_requests_are_no_answers():
    assert engine_for("http://127.0.0.1:9/v1").chat([], Sampling()) == []


def test_a_real_server_answers(served_model):
    engine = OpenAIEngine(served_model)
    requests = [ask_for(f"Name {number} fruits.") for number in range(4)]
    sampling = Sampling(temperature=1.0, max_tokens=6, seed=5, repetition_penalty=1.1)
    completions = engine.chat(requests, sampling, samples=3)
    assert [len(samples) for samples in completions] == [3] * 4
    for sample in (sample for samples in completions for sample in samples):
        assert sample.finish_reason in ("length", "stop")
        assert 0 < sample.completion_tokens <= 6
    assert all(samples[0].prompt_tokens > 10 for samples in completions)
    assert len({sample.text for sample in completions[0]}) == 3
    assert texts(engine.chat(requests[:1], sampling, samples=3)) == texts(completions[:1])


def test_a_real_server_stops_where_it_is_told(served_model):
    engine = OpenAIEngine(served_model)
    [[long]] = engine.chat([ask_for("Count.")], Sampling(max_tokens=12))
    assert (long.finish_reason, long.completion_tokens) == ("length", 12)
    stop = long.text[3:6]
    [[short]] = engine.chat([ask_for("Count.")], Sampling(max_tokens=12, stop=(stop,)))
    assert short.finish_reason == "stop"
    assert short.text == long.text[: long.text.index(stop)]


def test_a_real_server_keeps_to_a_schema(served_model):
    sampling = Sampling(temperature=1.0, max_tokens=400)
    requests = [ask_for("Which is better, A or B?"), ask_for("And now?")]
    for [answer] in OpenAIEngine(served_model).chat(requests, sampling, json_schema=SCHEMA):
        # vLLM lets raw control characters into strings, and a random model draws some
        scores = json.loads(answer.text, strict=False)
        assert scores.keys() == {"explanation", "score_a", "score_b"}


def test_a_real_server_says_what_does_not_fit(served_model):
    requests = [ask_for("short"), ask_for("far too long " * 2000)]
    [good], [bad] = OpenAIEngine(served_model).chat(requests, Sampling(max_tokens=4))
    assert good.finish_reason in ("stop", "length")
    assert bad.finish_reason == "error"
    assert bad.error.startswith("400: ")


def test_a_real_server_rates_difficulty(served_model, tmp_path):
    prompts = pa.table(
        {
            "prompt_id": ["a", "b"],
            "messages": [[{"role": "user", "content": text}] for text in ("Hi", "Prove it.")],
        }
    )
    settings = DifficultyRater(model="tiny", sampling=Sampling(max_tokens=800))
    engine = OpenAIEngine(served_model)
    rated = rate(prompts, settings, "digest", lambda: engine, tmp_path, 1, print)
    assert rated.keys() == {"a", "b"} and all(0 <= value <= 10 for value in rated.values())
    assert rate(prompts, settings, "digest", None, tmp_path, 1, print) == rated


class RandomFaults(dict):
    """A script for every prompt, drawn when it is first asked for; some never get an answer."""

    def get(self, prompt, default=None):
        if prompt not in self:
            dice = random.Random(f"{len(self)} {prompt}")
            faults = dice.sample((*TRANSIENT, *HARMLESS, "answer"), k=dice.choice([0, 1, 2]))
            self[prompt] = iter([*faults, dice.choice(["answer", "answer", "400", "refused"])])
        return self[prompt]


def fill(lake: Lake, url: str) -> None:
    """A round's responses and judgments from a server, by the assets' own functions."""
    model = Served("any", "any", Endpoint(urls=(url,), model="any", timeout=1.0))
    prompts = lake.read("prompts_curated", columns=["prompt_id", "messages", "constraints"])
    contestants = [
        Contestant(n, "opponent", model, Sampling(), SystemPrompt(version=n, system=f"I am {n}."))
        for n in ("one", "two")
    ]
    respond(
        lake, "responses", "r", prompts, contestants,
        Setting(lambda _: OpenAIEngine(model.endpoint), 0, 10, print),
    )  # fmt: skip
    settings = LLMJudge(kind="llm", name="j", model="any", attempts=1, self_judging="allow")
    judge = LanguageModelJudge(settings, model, lambda: OpenAIEngine(model.endpoint))
    judge_round(
        lake,
        "judgments",
        "responses",
        "r",
        [Member(judge, Seat("deciding"))],
        load_profile(),
        print,
    )


@pytest.mark.slow
def test_tables_filled_over_a_failing_server_lose_and_repeat_nothing(tmp_path):
    lake = Lake(tmp_path)
    rest = {"source": "s", "constraints": "[]", "category": "c"}
    lake.write(
        "prompts_curated",
        [
            {"prompt_id": f"p{n}", "messages": [{"role": "user", "content": f"q{n}"}]} | rest
            for n in range(16)
        ],
    )
    with FaultServer() as server:
        server._faults = RandomFaults()
        fill(lake, server.url)
    answers = lake.read("responses", "r").to_pylist()
    games = lake.read("judgments", "r").to_pylist()
    assert len({(row["prompt_id"], row["contestant"]) for row in answers}) == len(answers) == 32
    lost = [row for row in answers if row["status"] == "failed"]
    assert 0 < len(lost) < 24 and {row["error"] for row in lost} == {"400: unhappy with None"}
    assert {row["finish_reason"] for row in answers} == {"stop", "refused", "error"}
    refused = {row["response_id"] for row in answers if row["status"] == "refused"}
    fought = {row["response_a"] for row in games} | {row["response_b"] for row in games}
    assert refused and not refused & fought, "a refusal enters no battle"
    states = Counter((row["status"], row["failure"]) for row in games)
    assert set(states) == {("ok", None), ("failed", "refused"), ("failed", "backend error")}
    with FaultServer() as server:  # the server has recovered: only what is missing is asked for
        fill(lake, server.url)
    assert len(server.received) > 0 and set(server.answered.values()) <= {1, 2}
    again = lake.read("responses", "r").to_pylist()
    assert {row["status"] for row in again} == {"ok", "refused"}
    kept = {row["response_id"]: row["text"] for row in answers if row["status"] != "failed"}
    assert all(kept.get(row["response_id"], row["text"]) == row["text"] for row in again)
    judged = lake.read("judgments", "r").to_pylist()
    assert len({row["judgment_id"] for row in judged}) == len(judged)
    assert not refused & {row["response_a"] for row in judged}
    assert {row["failure"] for row in judged} <= {None, "refused"}, "what a judge refuses is final"
    asked = sum("q" in received.prompt and len(received.prompt) < 5 for received in server.received)
    assert asked == len(lost)
