"""A model that thinks and comes to no answer: its words are kept, and it is not asked for ever."""

import pytest
from fault_server import FaultServer
from server_quirks import message
from test_judging import TWO, judged, lake, language_judge, write_answers  # noqa: F401

from arena_assets.config.models import Endpoint, Sampling
from arena_assets.judging.verdicts import to_verdict
from arena_assets.models.engine import Completion, Request
from arena_assets.models.served.envelope import completions_of
from arena_assets.models.served.openai_engine import OpenAIEngine

THOUGHT = "A cites, B guesses, so perhaps 8 and 5"


def body(**said):
    choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
    return message(**said)({"choices": [choice]})


THOUGHTS = {
    "split off by the server": {"content": None, "reasoning_content": THOUGHT},
    "split off and cut off": {"content": None, "reasoning": THOUGHT, "finish": "length"},
    "beside an empty text": {"content": "", "reasoning": THOUGHT},
    "in the text": {"content": f"<think>{THOUGHT}</think>\n"},
    "in the text, unclosed": {"content": f"<think>{THOUGHT}", "finish": "length"},
    "as a part": {"content": [{"type": "thinking", "thinking": THOUGHT}]},
    "with a reason of the server's own": {"content": None, "reasoning": THOUGHT, "finish": "odd"},
}


@pytest.mark.parametrize("name", THOUGHTS)
def test_thoughts_without_a_verdict_are_a_verdict_cut_off_with_its_words_kept(name):
    (completion,) = completions_of(body(**THOUGHTS[name]), 1)
    assert (completion.text, completion.reasoning, completion.error) == ("", THOUGHT, None)
    verdict = to_verdict(completion)
    assert (verdict.status, verdict.failure, verdict.raw) == ("failed", "truncated", THOUGHT)


def test_a_judge_that_only_thinks_is_final_after_its_attempts(lake):  # noqa: F811
    class Thinker:
        asked = 0

        def chat(self, requests: list[Request], sampling: Sampling, *_, **__):
            self.asked += len(requests)
            return [[Completion("", "stop", 5, 2, reasoning=THOUGHT)] for _ in requests]

    engine = Thinker()
    write_answers(lake, TWO)
    rows, _ = judged(lake, language_judge(engine))
    assert {(r["failure"], r["raw"], r["reasoning"], r["attempts"]) for r in rows} == {
        ("truncated", THOUGHT, THOUGHT, 2)
    }
    again, anew = judged(lake, language_judge(engine))
    assert (again, anew, engine.asked) == (rows, 0, 4)


def test_a_server_that_sends_thoughts_only_is_not_asked_again_at_once():
    with FaultServer(default="only a thought") as server:
        engine = OpenAIEngine(Endpoint(urls=(server.url,), model="any", retries=3))
        [[sample]] = engine.chat([Request("p", [{"role": "user", "content": "q"}])], Sampling())
    assert sample.reasoning and not sample.text and len(server.received) == 1
