"""Odd servers through the whole path of a round's answers: each quirk is one row's state."""

from __future__ import annotations

import json
import logging
import re
from itertools import repeat

import httpx2
import pyarrow as pa
import pytest
from fault_server import FaultServer, echo
from hypothesis import given, settings
from hypothesis import strategies as st
from server_quirks import ANSWER, BODIES, FAILED, REFUSED, STATUSES, WIRE

from arena_assets.config.judges import LLMJudge
from arena_assets.config.models import Endpoint, Sampling
from arena_assets.generation.contestants import Contestant
from arena_assets.generation.responses import Setting, respond
from arena_assets.judging.games import Game
from arena_assets.judging.judges import LanguageModelJudge
from arena_assets.lake.lake import Lake
from arena_assets.lake.tables import PROMPTS
from arena_assets.models.engine import BackendDown, Completion
from arena_assets.models.model import Served
from arena_assets.models.prompting import SystemPrompt
from arena_assets.models.recorded import RecordedEngine
from arena_assets.models.served import fleet
from arena_assets.models.served.envelope import completions_of, model_of, parse
from arena_assets.models.served.openai_engine import SILENCE, OpenAIEngine
from arena_assets.models.served.problems import NoAnswer, problem_of

ROUND = "i01.1-sft"
ROW_STATES = {name: right for name, (_, _, right) in STATUSES.items() if right in (FAILED, REFUSED)}
STOPS = {name: right for name, (_, _, right) in STATUSES.items() if name not in ROW_STATES}
EVERY_ROW = (
    {name: right for name, (_, right) in BODIES.items()}
    | ROW_STATES
    | {name: right for name, (_, _, right) in WIRE.items()}
)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(fleet, "FIRST_PAUSE", 0.01)


def contestant(endpoint=None, best_of=1, **sampling) -> Contestant:
    weights = Served("any", "digest", endpoint)
    prompt = SystemPrompt(version="v", system="Be brief.")
    return Contestant("one", "opponent", weights, Sampling(**sampling), prompt, best_of)


def endpoint_of(*urls: str, **changes) -> Endpoint:
    return Endpoint(urls=urls, **({"model": "any", "timeout": 5.0, "retries": 1} | changes))


def answer(lake: Lake, endpoint: Endpoint, prompts: list[str], best_of=1, **sampling):
    """The rows that a contestant behind an endpoint answers these prompts with, by prompt."""
    schema = pa.schema([PROMPTS.schema.field(n) for n in ("prompt_id", "messages", "constraints")])
    rows = [
        {
            "prompt_id": text,
            "messages": [{"role": "user", "content": text}],
            "constraints": "[]",
        }
        for text in prompts
    ]
    engine = OpenAIEngine(endpoint)
    respond(
        lake, "responses", ROUND, pa.Table.from_pylist(rows, schema=schema),
        [contestant(endpoint, best_of, **sampling)], Setting(lambda _: engine, 0, 256, print),
    )  # fmt: skip
    return {row["prompt_id"]: row for row in lake.read("responses", ROUND).to_pylist()}


def good(prompt: str, sample: int = 0) -> str:
    return echo(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}], sample
    )


@pytest.fixture(scope="module")
def odd_rows(tmp_path_factory):
    """One batch in which every quirk meets one row."""
    lake, plain = Lake(tmp_path_factory.mktemp("quirks")), ["fine", "also fine"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fleet, "FIRST_PAUSE", 0.01)
        with FaultServer({name: repeat(name) for name in EVERY_ROW}) as server:
            rows = answer(lake, endpoint_of(server.url), [*EVERY_ROW, *plain])
            first = len(server.received)
            again = answer(lake, endpoint_of(server.url), [*EVERY_ROW, *plain])
            asked_again = {received.prompt for received in server.received[first:]}
    return rows, again, asked_again


@pytest.mark.parametrize("quirk", EVERY_ROW)
def test_a_quirk_is_one_rows_state(quirk, odd_rows):
    rows, _, _ = odd_rows
    row, right = rows[quirk], EVERY_ROW[quirk]
    assert row["status"] == right, row
    if right == ANSWER:
        special = {
            "an empty answer": "",
            "content as a number": "42",
            "content as a bare object": json.dumps({"said": good(quirk)}),
            "a lone surrogate": f"\N{REPLACEMENT CHARACTER} {good(quirk)}",
            "a NUL": f"{good(quirk)}\x00",
            "a very long answer": good(quirk) + " word" * 200_000,
        }
        assert row["text"] == special.get(quirk, good(quirk))
        assert row["error"] is None
    if right == FAILED:
        assert (row["text"], row["finish_reason"]) == ("", "error") and row["error"]


def test_the_other_rows_of_the_batch_are_as_good_as_ever(odd_rows):
    rows, _, _ = odd_rows
    for prompt in ("fine", "also fine"):
        row = rows[prompt]
        assert (row["status"], row["text"]) == (ANSWER, good(prompt))
        assert (row["finish_reason"], row["reasoning"]) == ("stop", None)
        assert (row["prompt_tokens"], row["completion_tokens"]) == (2 + len(prompt.split()), 4)


def test_only_what_failed_is_asked_for_again(odd_rows):
    rows, again, asked_again = odd_rows
    assert asked_again == {name for name, right in EVERY_ROW.items() if right == FAILED}
    assert again == rows


def test_finish_reasons_have_our_names_and_unknown_ones_their_own(odd_rows):
    rows, _, _ = odd_rows
    found = {quirk: row["finish_reason"] for quirk, row in rows.items() if "finish" in quirk}
    assert found == {
        "finish null": "unknown",
        "finish empty": "unknown",
        "finish missing": "unknown",
        "finish object": "unknown",
        "finish eos": "stop",
        "finish eos_token": "stop",
        "finish end_turn": "stop",
        "finish STOP": "stop",
        "finish max_tokens": "length",
        "finish tool_calls": "tool_calls",
        "finish new": "repetition",
        "finish abort": "error",
    }


def test_usage_that_is_not_told_is_unknown(odd_rows):
    rows, _, _ = odd_rows
    unknown = [name for name in rows if name.startswith(("no usage", "usage"))]
    counted = {
        name: (rows[name]["prompt_tokens"], rows[name]["completion_tokens"]) for name in unknown
    }
    assert counted == {
        "no usage": (None, None),
        "usage null": (None, None),
        "usage in part": (None, None),
        "usage nonsense": (None, None),
        "usage as text": (20, 10),
        "usage with fractions": (20, 10),
    }


def test_reasoning_stands_in_its_own_column(odd_rows):
    rows, _, _ = odd_rows
    found = {name: row["reasoning"] for name, row in rows.items() if row["reasoning"]}
    assert found == {
        "reasoning_content": "Hm. {no json}",
        "reasoning": "Hm.",
        "thinking tags": "Hm.",
        "thinking parts": "Let me count.",
    }


def test_the_words_of_a_refusal_are_kept(odd_rows):
    rows, _, _ = odd_rows
    assert rows["a refusal"]["text"] == "I would rather not."
    assert rows["a refusal part"]["text"] == "No."
    assert rows["half an answer filtered"]["text"] == "Half of"
    assert {row["finish_reason"] for row in rows.values() if row["status"] == REFUSED} == {
        "refused"
    }


def test_a_failed_row_says_what_the_server_said(odd_rows):
    rows, _, _ = odd_rows
    said = {
        "a gateway's page": "502: 502 Bad Gateway",
        "a text": 'no choices in "Please sign in."',
        "error in a 200": "429: busy",
        "error as a text": "200: upstream is gone",
        "a tool call": "the model called a tool instead of answering",
        "an image in the content": "a part of the content is no text",
        "cut off while reasoning": "want a larger sampling.max_tokens",
        "finish abort": "the server broke the answer off (abort)",
        "very deep": "not JSON: '[[[[",
    }
    for quirk, words in said.items():
        assert words in rows[quirk]["error"], quirk


@pytest.mark.parametrize("quirk", STOPS)
def test_what_every_request_would_be_told_stops_the_run_at_once_with_the_mend(quirk):
    with FaultServer(default=quirk) as server:
        endpoint = endpoint_of(server.url, concurrency=1, extra_body={"top_k": 5}, retries=6)
        with pytest.raises(BackendDown) as stopped:
            prompts = [f"p{number}" for number in range(20)]
            chat(OpenAIEngine(endpoint), prompts, samples=2, temperature=0.5, seed=1)
    assert len(server.received) == 3, "they were told, nobody else is asked"
    assert STOPS[quirk] in str(stopped.value)


@pytest.mark.parametrize("quirk", ["no key", "no model", "temperature"])
def test_what_one_prompt_alone_is_told_is_its_rows_state(quirk, tmp_path):
    prompts = [f"p{number}" for number in range(12)]
    with FaultServer({"p0": repeat(quirk)}) as server:
        rows = answer(Lake(tmp_path), endpoint_of(server.url), prompts)
    assert {prompt for prompt, row in rows.items() if row["status"] == ANSWER} == {*prompts[1:]}
    assert rows["p0"]["status"] == FAILED and STOPS[quirk] in rows["p0"]["error"]


def test_what_came_before_the_run_was_stopped_is_kept(tmp_path):
    prompts, lake = [f"p{number:02}" for number in range(60)], Lake(tmp_path)
    stopped = "no credit left; 2 answers that came before are kept"
    with FaultServer({prompt: repeat("no money") for prompt in prompts[2:]}) as server:
        with pytest.raises(BackendDown, match=stopped):
            answer(lake, endpoint_of(server.url, concurrency=1), prompts)
        assert len(server.received) == 2 + SILENCE
    with FaultServer() as server:
        rows = answer(lake, endpoint_of(server.url), prompts)
    assert sorted(received.prompt for received in server.received) == prompts[2:]
    assert {row["status"] for row in rows.values()} == {ANSWER}


def test_recordings_and_servers_split_reasoning_alike(tmp_path):
    path = tmp_path / "recording.jsonl"
    path.write_text(json.dumps({"prompt_id": "p", "text": "<think>Hm.</think>Yes."}), "utf-8")
    [[said]] = chat(RecordedEngine(path), ["p"])
    assert (said.text, said.reasoning, said.finish_reason) == ("Yes.", "Hm.", "recorded")


@pytest.mark.parametrize("quirk", ["out of order", "too many", "the same index", "completions"])
def test_choices_are_samples_in_order(quirk, tmp_path):
    with FaultServer({"p": repeat(quirk)}) as server:
        engine = OpenAIEngine(endpoint_of(server.url))
        [samples] = chat(engine, ["p"], samples=3)
    assert [sample.text for sample in samples] == [good("p", number) for number in range(3)]
    assert len(server.received) == 1


def chat(engine: OpenAIEngine, prompts: list[str], samples: int = 1, **sampling):
    from arena_assets.models.engine import Request

    system = {"role": "system", "content": "Be brief."}
    requests = [Request(p, [system, {"role": "user", "content": p}]) for p in prompts]
    return engine.chat(requests, Sampling(**sampling), samples)


def test_where_n_is_ignored_the_missing_samples_are_asked_for_one_by_one(tmp_path):
    lake = Lake(tmp_path)
    with FaultServer(honours_n=False) as server:
        rows = answer(lake, endpoint_of(server.url), ["p"], best_of=3, temperature=1.0, seed=7)
    bodies = [received.body for received in server.received]
    assert [body.get("n") for body in bodies] == [3, None, None]
    assert [body["seed"] for body in bodies] == [7, 8, 9], "or it is one answer three times"
    assert (rows["p"]["prompt_tokens"], rows["p"]["completion_tokens"]) == (3 * 3, 3 * 4)
    [shard] = (lake.root / "store").rglob("*.parquet")
    assert len(pa.parquet.read_table(shard)["samples"][0]) == 3


def test_a_best_of_that_lacks_a_sample_is_failed_and_asked_for_again(tmp_path):
    lake = Lake(tmp_path)
    with FaultServer({"p": ["answer", *repeat("500", 9)]}, honours_n=False) as server:
        rows = answer(lake, endpoint_of(server.url), ["p", "q"], best_of=2, temperature=1.0)
    assert (rows["p"]["status"], rows["q"]["status"]) == (FAILED, ANSWER)


def test_of_several_samples_a_refused_one_is_never_kept(tmp_path):
    def one_refused(choices):
        choices[0] |= {"finish_reason": "content_filter"}
        return choices

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            BODIES, "one refused", (lambda b: b | {"choices": one_refused(b["choices"])}, "")
        )
        with FaultServer({"p": ["one refused"]}) as server:
            rows = answer(Lake(tmp_path), endpoint_of(server.url), ["p"], 2, temperature=1.0)
    assert (rows["p"]["status"], rows["p"]["sample"], rows["p"]["text"]) == (
        ANSWER,
        1,
        good("p", 1),
    )


def test_another_model_than_asked_for_is_told_once(caplog):
    with FaultServer(default="another model") as server, caplog.at_level(logging.WARNING):
        chat(OpenAIEngine(endpoint_of(server.url)), ["p", "q"])
    told = [record.getMessage() for record in caplog.records]
    assert told == ["asked for the model any, the server names its answers' another-1b"]


# -- judges --------------------------------------------------------------------------------------


def judged(default: str, **changes):
    """A verdict of a judge behind a server, and how often it was asked."""
    with FaultServer(default=default) as server:
        endpoint = endpoint_of(server.url, **changes)
        settings = LLMJudge(kind="llm", name="j", model="m", attempts=3)
        weights = Served("m", "digest", endpoint)
        judge = LanguageModelJudge(settings, weights, lambda: OpenAIEngine(endpoint))
        asked = [{"role": "user", "content": "Which?"}]
        game = Game("g", "p", asked, "[]", None, "one", "two", ["one"], ["two"])
        [verdict] = judge.judge([game])
    return verdict, len(server.received)


def test_a_judges_reasoning_is_kept_apart_from_its_scores():
    for quirk in ("reasoning_content", "reasoning", "thinking tags", "thinking parts"):
        verdict, asked = judged(quirk)
        assert (verdict.status, asked) == ("ok", 1), quirk
        assert verdict.reasoning in ("Hm.", "Hm. {no json}", "Let me count.")


def test_a_judge_that_was_cut_off_while_reasoning_is_truncated():
    verdict, asked = judged("cut off while reasoning")
    assert (verdict.status, verdict.failure, asked) == ("failed", "truncated", 3)
    assert verdict.reasoning == "I was still at it"


@pytest.mark.parametrize(
    ("quirk", "failure"),
    [
        ("content filter", "refused"),
        ("moderation", "refused"),
        ("context too short", "backend error"),
    ],
)
def test_a_judge_is_not_asked_again_for_what_is_sure(quirk, failure):
    verdict, asked = judged(quirk)
    assert (verdict.failure, verdict.attempts, asked) == (failure, 1, 1)


def test_what_a_judge_took_is_unknown_where_the_server_does_not_say():
    verdict, _ = judged("no usage")
    assert (verdict.status, verdict.prompt_tokens, verdict.completion_tokens) == ("ok", None, None)


# -- whatever a server sends ------------------------------------------------------------------

ANY = st.characters(exclude_categories=())  # lone surrogates too
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(ANY),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)
_FIELDS = re.findall(
    r"\w+",
    "choices message delta content text finish_reason index error code usage prompt_tokens "
    "completion_tokens refusal reasoning tool_calls type data status model detail loc param "
    "metadata innererror thinking",
)
_ALMOST = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 600) | st.text(ANY, max_size=8)
    | st.sampled_from(["stop", "length", "error", "text", "content_filter", "\ud83d", "<think>"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(_FIELDS), inner, max_size=5),
    max_leaves=25,
)  # fmt: skip
_CHOICE = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ["message", "delta", "error", "index", "finish_reason", "text"], _ALMOST
    ),
)
_MESSAGE = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(["content", "refusal", "reasoning", "tool_calls"], _ALMOST)
)
_ENVELOPE = st.fixed_dictionaries(
    {"choices": st.lists(_CHOICE | st.fixed_dictionaries({"message": _MESSAGE}), max_size=3)},
    optional={"usage": _ALMOST, "model": _ALMOST},
)
BODY = _JSON | _ALMOST | _ENVELOPE


def check_states(body, samples):
    try:
        states = completions_of(body, samples)
    except NoAnswer as problem:
        str(problem).encode()
        return
    assert 1 <= len(states) <= samples
    for state in states:
        if isinstance(state, NoAnswer):
            str(state).encode()
            continue
        assert isinstance(state, Completion) and state.error is None and state.finish_reason
        for text in (state.text, state.reasoning or "", state.finish_reason):
            text.encode()  # can be stored
        for tokens in (state.prompt_tokens, state.completion_tokens):
            assert tokens is None or 0 <= tokens < 2**62


@settings(max_examples=150, deadline=None)
@given(BODY, st.integers(1, 3))
def test_any_json_is_completions_or_one_clear_problem(body, samples):
    check_states(body, samples)
    (model_of(body) or "").encode()
    check_states(parse(json.dumps(body).encode()), samples)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80) | st.text(max_size=40).map(lambda text: f"data: {text}".encode()))
def test_any_bytes_are_json_or_one_clear_problem(content):
    try:
        check_states(parse(content), 1)
    except NoAnswer as problem:
        str(problem).encode()


@settings(max_examples=150, deadline=None)
@given(st.integers(201, 599), BODY, st.text(max_size=20))
def test_any_status_with_any_body_is_one_clear_problem(status, body, header):
    headers = {"retry-after": header, "location": header}
    sent = {"model": "m", "messages": [{"role": "user", "content": "?"}], "temperature": 0}
    problem = problem_of(status, headers, body, "text", sent)
    assert isinstance(problem, NoAnswer) and str(problem).encode()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=60) | BODY.map(lambda b: json.dumps(b).encode()), max_size=4))
def test_no_body_ever_costs_the_rest_of_the_batch(bodies):
    """Whole requests, without a socket: every conversation gets its completion."""
    waiting = iter(bodies)
    fine = json.dumps({"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}]})

    def reply(request: httpx2.Request) -> httpx2.Response:
        prompt = json.loads(request.content)["messages"][-1]["content"]
        return httpx2.Response(200, content=fine if prompt == "p" else next(waiting, b""))

    engine = OpenAIEngine(endpoint_of("http://nowhere/v1", retries=0))
    engine._client = lambda: httpx2.AsyncClient(transport=httpx2.MockTransport(reply))
    answers = chat(engine, ["p", *(f"odd {number}" for number in range(len(bodies)))])
    assert answers[0][0].text == "fine" and len(answers) == 1 + len(bodies)
    assert all(isinstance(sample, Completion) for [sample] in answers)
