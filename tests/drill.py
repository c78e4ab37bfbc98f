"""One run of a round's text, to be killed: answers, then games, on the tests' own profile.

    python tests/drill.py LAKE answer|judge ENDPOINT-AS-JSON [BATCH]

It says "working" when the first batch begins, so that whoever kills it hits the work.
"""

from __future__ import annotations

import sys
from pathlib import Path

from arena_assets.config.judges import LLMJudge
from arena_assets.config.models import Endpoint, Sampling
from arena_assets.config.profile import load_profile
from arena_assets.generation.contestants import Contestant
from arena_assets.generation.responses import Setting, respond
from arena_assets.judging.games import Seat
from arena_assets.judging.judges import LanguageModelJudge
from arena_assets.judging.panel import Member, judge_round
from arena_assets.lake.lake import Lake
from arena_assets.models.engine import Engine
from arena_assets.models.model import Served
from arena_assets.models.opening import open_engine
from arena_assets.models.prompting import SystemPrompt

ROUND, PROMPTS, BATCH = "i01.1-sft", 36, 4
# a random model does not come to an end by itself: a short explanation leaves room for scores
TEMPLATE = """
version: drill
explanation_characters: 4
system: Judge both answers in JSON.
user: "{{ messages[-1].content }} {{ marker }}\\n{{ answer_a }}\\n{{ answer_b }}"
"""


def write_prompts(lake: Lake) -> None:
    """Prompts of different lengths, some with two turns."""
    rows = []
    for number in range(PROMPTS):
        asked = f"Question {number}: what is {'very ' * (number % 7)}far from {number * 37}?"
        messages = [{"role": "user", "content": asked}]
        if number % 5 == 0:
            messages.append({"role": "user", "content": "And why?"})
        rows.append(
            {
                "prompt_id": f"p{number:03d}",
                "source": "drill",
                "messages": messages,
                "constraints": "[]",
                "category": "drill",
                "difficulty": None,
                "reference": None,
            }
        )
    lake.write("prompts_curated", rows)


def model_of(where: str) -> Served:
    return Served("tiny", "tiny", Endpoint.model_validate_json(where))


def opened(model: Served) -> Engine:
    engine = open_engine(model, 0, {})
    print("working", flush=True)
    return engine


def answer(lake: Lake, model: Served, batch: int) -> None:
    """Two greedy contestants on the same model answer every prompt."""
    sampling = Sampling(max_tokens=8)
    brief = SystemPrompt(version="brief", system="Be brief.")
    contestants = [
        Contestant("plain", "target", model, sampling),
        Contestant("brief", "opponent", model, sampling, brief),
    ]
    prompts = lake.read("prompts_curated", columns=["prompt_id", "messages", "constraints"])
    setting = Setting(opened, 0, batch, print)
    respond(lake, "responses", ROUND, prompts, contestants, setting)


def judge(lake: Lake, model: Served, batch: int) -> None:
    """One greedy judge sees every pair twice; what cannot be read is asked for again."""
    template = lake.root / "template.yaml"
    template.write_text(TEMPLATE, "utf-8")
    settings = LLMJudge(
        kind="llm",
        name="j",
        model="tiny",
        template=str(template),
        sampling=Sampling(max_tokens=40),
        attempts=2,
        self_judging="allow",
    )
    member = Member(LanguageModelJudge(settings, model, lambda: opened(model)), Seat("deciding"))
    arena = load_profile()
    arena = arena.model_copy(
        update={"generation": arena.generation.model_copy(update={"batch": batch})}
    )
    judge_round(lake, "judgments", "responses", ROUND, [member], arena, print)


if __name__ == "__main__":
    folder, phase, where, *batch = sys.argv[1:]
    work = {"answer": answer, "judge": judge}[phase]
    work(Lake(Path(folder)), model_of(where), int(batch[0]) if batch else BATCH)
