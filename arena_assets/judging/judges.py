"""The judges: `verifier` checks stated constraints, `llm` asks a language model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from arena_assets.config import LLMJudge, Sampling, Settings, resolve
from arena_assets.generation.contestants import Message, Weights
from arena_assets.generation.engines import Engine
from arena_assets.judging.constraints import parse_constraints
from arena_assets.judging.games import Game, Verdict
from arena_assets.judging.verifier import Verification, verify
from arena_assets.store import content_key


class Verifier:
    """Scores an answer 1-10 by the share of its prompt's constraints that hold.

    A prompt without constraints leaves nothing to check: the verdict is "abstained".
    """

    version = "verifier-1"

    def __init__(self, name: str):
        self.name = name

    def key(self, game: Game) -> str:
        return content_key(self.version, game.constraints, game.text_a, game.text_b)

    def judge(self, games: Sequence[Game]) -> list[Verdict]:
        return [self._verdict(game) for game in games]

    def _verdict(self, game: Game) -> Verdict:
        if not parse_constraints(game.constraints):
            return Verdict("abstained", explanation="The prompt states no constraint to check.")
        answer_a = _verified(game.constraints, game.text_a)
        answer_b = _verified(game.constraints, game.text_b)
        explanation = f"A: {answer_a.explanation}\nB: {answer_b.explanation}"
        return Verdict("ok", answer_a.score, answer_b.score, explanation)


@lru_cache(maxsize=100_000)  # an answer plays against every other one, twice
def _verified(constraints: str, text: str) -> Verification:
    return verify(parse_constraints(constraints), text)


class JudgeTemplate(Settings):
    """What an LLM judge is told, read from YAML; the hash of its text goes into every key."""

    version: str
    system: str
    user: str = Field(description="Jinja: messages, reference, answer_a, answer_b")
    explanation_characters: int = Field(600, gt=0)


class _Scores(BaseModel):
    """The judge's answer: an explanation first, so that the scores follow from it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    explanation: str
    score_a: float = Field(ge=1, le=10)
    score_b: float = Field(ge=1, le=10)


class LanguageModelJudge:
    """Asks a language model for an explanation and two scores, as JSON under a schema.

    Output that cannot be parsed is asked for again with some temperature, `attempts` times in all,
    and is "failed" after that, with the last raw text kept.
    """

    def __init__(self, settings: LLMJudge, weights: Weights, engine: Callable[[], Engine]):
        self.name = settings.name
        self.settings = settings
        self.weights = weights
        self.engine = engine
        self.template = read_template(settings.template)
        self.version = self.template.version

    def key(self, game: Game) -> str:
        return content_key(
            self.weights.digest,
            self.settings.sampling.model_dump(mode="json"),
            self.settings.attempts,
            self.template.explanation_characters,
            self.render(game),
        )

    def render(self, game: Game) -> list[Message]:
        from jinja2 import StrictUndefined
        from jinja2.sandbox import SandboxedEnvironment

        environment = SandboxedEnvironment(undefined=StrictUndefined)
        user = environment.from_string(self.template.user).render(
            messages=game.messages,
            reference=game.reference,
            answer_a=game.text_a,
            answer_b=game.text_b,
        )
        return [
            {"role": "system", "content": self.template.system},
            {"role": "user", "content": user},
        ]

    def schema(self) -> dict[str, Any]:
        score = {"type": "integer", "minimum": 1, "maximum": 10}
        limit = self.template.explanation_characters
        return {
            "type": "object",
            "properties": {
                "explanation": {"type": "string", "maxLength": limit},
                "score_a": score,
                "score_b": score,
            },
            "required": ["explanation", "score_a", "score_b"],
            "additionalProperties": False,
        }

    def judge(self, games: Sequence[Game]) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        pending = list(range(len(games)))
        for attempt in range(1, self.settings.attempts + 1):
            outputs = self.engine().chat(
                [self.render(games[index]) for index in pending],
                self._sampling(attempt),
                json_schema=self.schema(),
            )
            for index, (completion,) in zip(pending, outputs, strict=True):
                verdicts[index] = parse_verdict(completion.text, attempt)
            pending = [index for index in pending if verdicts[index].status == "failed"]
            if not pending:
                break
        return [verdicts[index] for index in range(len(games))]

    def _sampling(self, attempt: int) -> Sampling:
        """Greedy output would fail the same way again, so a retry draws at random."""
        sampling = self.settings.sampling
        if attempt == 1 or sampling.temperature > 0:
            return sampling
        return sampling.model_copy(update={"temperature": 0.7})


def parse_verdict(text: str, attempt: int = 1) -> Verdict:
    """The verdict in a judge's output; "failed" with the text kept where there is none.

    Only the JSON object with exactly the three keys counts: a number elsewhere is no score.
    """
    try:
        scores = _Scores.model_validate(json.loads(text))
    except (json.JSONDecodeError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        return Verdict("failed", explanation=reason, raw=text, attempts=attempt)
    return Verdict("ok", scores.score_a, scores.score_b, scores.explanation, None, attempt)


def read_template(path: str) -> JudgeTemplate:
    """A judge template; ValueError names the file and what is wrong in it."""
    try:
        return JudgeTemplate.model_validate(yaml.safe_load(resolve(path).read_text("utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ValueError(f"judge template {path}: {error}") from error
