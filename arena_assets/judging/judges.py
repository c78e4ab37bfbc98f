"""The judges: `verifier` checks stated constraints, `llm` asks a language model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Annotated

from pydantic import Field

from arena_assets.config.contents import jinja_tokens
from arena_assets.config.judges import LLMJudge
from arena_assets.config.places import resolve
from arena_assets.config.settings_files import read_settings
from arena_assets.judging.fence import fence, marker_of, neutralise
from arena_assets.judging.games import Game
from arena_assets.judging.verdicts import Scores, Verdict, to_verdict
from arena_assets.lake.code import code_version
from arena_assets.lake.identity import As, identity
from arena_assets.models.asking import attempt_sampling, tries
from arena_assets.models.conversations import Arrived, Ask, Conversation, converse, nobody
from arena_assets.models.dialogue import Message, with_answers
from arena_assets.models.engine import Engine, Request
from arena_assets.models.model import Model
from arena_assets.models.prompting import PromptTemplate
from arena_assets.verifying.constraints import parse_constraints
from arena_assets.verifying.verifier import Verification, verify


class Verifier:
    """Scores an answer 1-10 by the share of its prompt's constraints that hold.

    A prompt without constraints leaves nothing to check: the verdict is "abstained".
    """

    version = f"verifier-{code_version('verifier')}"
    key = identity("verdict", code=code_version("verified verdict"))
    abstains_for = None  # it shares weights with nobody

    def __init__(self, name: str):
        self.name = name

    def judge(self, games: Sequence[Game], arrived: Arrived[Verdict] = nobody) -> list[Verdict]:
        verdicts = [self._verdict(game) for game in games]
        arrived(list(enumerate(verdicts)))
        return verdicts

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


class JudgeTemplate(PromptTemplate):
    """What an LLM judge is told; all of it but its label is in every key."""

    user: Annotated[str, As(jinja_tokens)] = Field(
        description="Jinja: messages, reference, answer_a, answer_b, marker"
    )
    explanation_characters: int = Field(600, gt=0)


class LanguageModelJudge:
    """Asks a language model for an explanation and two scores, as JSON under a schema.

    Output that cannot be used is asked for again with another seed and some temperature, `attempts`
    times in all, and is "failed" after that, with the last raw text kept.
    """

    def __init__(self, settings: LLMJudge, model: Model, engine: Callable[[], Engine]):
        self.name = settings.name
        self.settings = settings
        self.model = model
        self.engine = engine
        self.template = read_template(settings.template)
        self.version = self.template.version

    @property
    def abstains_for(self) -> str | None:
        """The digest of the weights whose battles this judge stays out of."""
        return self.model.digest if self.settings.self_judging == "abstain" else None

    @cached_property
    def key(self) -> str:
        return identity(
            "verdict",
            code=code_version("verdict"),
            model=self.model.identity,
            sampling=self.settings.sampling,
            attempts=self.settings.attempts,
            template=self.template,
        )

    def render(self, game: Game, attempt: int = 1) -> list[Message]:
        """The judge's prompt. What games share comes first, so that a prefix cache pays off."""
        shown = with_answers(game.messages, [])
        answers = {side: _shown(game, side) for side in ("a", "b")}
        marker = marker_of(game.judgment_id, attempt, tuple(answers.values()))
        return self.template.render(
            messages=[message | {"content": neutralise(message["content"])} for message in shown],
            reference=neutralise(game.reference) if game.reference else None,
            marker=marker,
            answer_a=fence(answers["a"], "A", marker),
            answer_b=fence(answers["b"], "B", marker),
        )

    def judge(self, games: Sequence[Game], arrived: Arrived[Verdict] = nobody) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}

        def take(ended: list[tuple[int, Verdict]]) -> None:
            verdicts.update(ended)
            arrived(ended)

        converse(self.engine(), [self._conversation(game) for game in games], take)
        return [verdicts[index] for index in range(len(games))]

    def _conversation(self, game: Game) -> Conversation[Verdict]:
        schema = Scores.json_schema(self.template.explanation_characters)

        def ask(attempt: int) -> Ask:
            request = Request(game.prompt_id, self.render(game, attempt))
            sampling = attempt_sampling(self.settings.sampling, attempt)
            return Ask(request, sampling, json_schema=schema)

        tried = yield from tries(
            self.settings.attempts, ask, to_verdict, lambda verdict: verdict.status != "failed"
        )
        return replace(
            tried.result,
            reasoning=tried.reasoning,
            attempts=tried.attempts,
            prompt_tokens=tried.prompt_tokens,
            completion_tokens=tried.completion_tokens,
        )


def _shown(game: Game, side: str) -> str:
    """An answer as the judge reads it: the text, or the rest of a dialogue of several turns."""
    turns = game.turns_a if side == "a" else game.turns_b
    if len(turns) < 2:
        return game.text_a if side == "a" else game.text_b
    asked = len(with_answers(game.messages, []))
    rest = with_answers(game.messages, turns)[asked:]
    return "\n".join(f"({message['role']}) {message['content']}" for message in rest)


def read_template(path: str) -> JudgeTemplate:
    """A judge template; ProfileError names the file and what is wrong in it."""
    return read_settings(resolve(path), JudgeTemplate, "judge template")
