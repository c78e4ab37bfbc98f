"""Whether what a profile lets models write fits where it is read: judges' windows, training rows.

Prompts are of any length, so a profile that passes can still meet one that is too long. One that
does not pass loses its longest answers with any prompt, and a judge's window too small for two of
them would show only after hours, as failed games.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from arena_assets.config.contestants import Opponent, Target
from arena_assets.config.generation import Generation
from arena_assets.config.judges import LLMJudge, VerifierJudge
from arena_assets.config.models import ModelSettings
from arena_assets.config.prompts import DifficultyRater, Prompts
from arena_assets.config.training import Training

# Tokens of a template with a request of a dozen words: pairwise-v2 has 307 and difficulty-v1 105
# with SmolLM2's tokenizer.
_JUDGE_PROMPT = 320
_RATER_PROMPT = 112
_TARGET = "target.sampling.max_tokens"


class Limits(Protocol):
    """A profile, as far as it counts here."""

    @property
    def models(self) -> Mapping[str, ModelSettings]: ...
    @property
    def target(self) -> Target: ...
    @property
    def opponents(self) -> Sequence[Opponent]: ...
    @property
    def prompts(self) -> Prompts: ...
    @property
    def training(self) -> Training: ...
    @property
    def generation(self) -> Generation: ...
    @property
    def single_judges(self) -> Sequence[VerifierJudge | LLMJudge]: ...


class _Answer(NamedTuple):
    """The longest answer of a contestant, and the key that says so."""

    tokens: int
    key: str
    local: bool  # our vLLM writes it, in a window of `max_model_len`


def length_problems(profile: Limits) -> list[str]:
    """A sentence for every limit that can't hold what has to fit into it; empty where all fits."""
    answers = _answers(profile)
    return [*_windows(profile, answers), *_training_rows(profile, answers)]


def _answers(profile: Limits) -> list[_Answer]:
    """The longest answers first. Recorded ones have no limit that could be looked at."""
    # the target's checkpoints fight each other too
    answers = [_Answer(profile.target.sampling.max_tokens, _TARGET, True)] * 2
    for opponent in profile.opponents:
        if opponent.model:
            key = f"opponents.{opponent.name}.sampling.max_tokens"
            local = opponent.follows or profile.models[opponent.model].endpoint is None
            answers.append(_Answer(opponent.sampling.max_tokens, key, local))
    return sorted(answers, reverse=True)


def _windows(profile: Limits, answers: list[_Answer]) -> Iterator[str]:
    """`max_model_len` holds a prompt with its answer, and two answers with a judge's verdict."""
    window = profile.generation.engine.get("max_model_len")
    if not isinstance(window, int):  # the model's own, which nobody knows before it is loaded
        return
    limit = f"generation.engine.max_model_len ({window})"
    for tokens, key in dict.fromkeys((a.tokens, a.key) for a in answers if a.local):
        if tokens >= window:
            yield f"{key} ({tokens}) leaves no room for a prompt in {limit}"
    rater = profile.prompts.testset.rater
    asked: list[tuple[str, LLMJudge | DifficultyRater, list[_Answer], int]] = []
    if rater:
        asked.append(("prompts.testset.rater", rater, [], _RATER_PROMPT))
    for judge in profile.single_judges:
        if judge.kind == "llm":
            asked.append((f"judge {judge.name}", judge, answers[:2], _JUDGE_PROMPT))
    for who, settings, read, prompt in asked:
        if profile.models[settings.model].endpoint:
            continue
        verdict = settings.sampling.max_tokens
        needed = sum(answer.tokens for answer in read) + verdict + prompt
        if needed > window:
            parts = [f"an answer of {answer.tokens} ({answer.key})" for answer in read]
            parts += [f"its own output of {verdict} (sampling.max_tokens)"]
            yield (
                f"{who}: {', '.join(parts)} and about {prompt} tokens of template and prompt "
                f"need {needed}, more than {limit}; raise it or lower max_tokens"
            )


def _training_rows(profile: Limits, answers: list[_Answer]) -> Iterator[str]:
    """`max_length` holds a prompt with the longest answer that a row may have."""
    training, drawn = profile.training, profile.training.rl.max_completion
    # SFT learns what beat the target, the others compare with the target's own answers too
    beating = [answer for answer in answers if answer.key != _TARGET]
    limits = [("sft", beating[0].tokens, beating[0].key)] if beating else []
    limits += [(stage, answers[0].tokens, answers[0].key) for stage in ("dpo", "reward_model")]
    limits += [(stage, drawn, "training.rl.max_completion") for stage in ("reward_model", "rl")]
    for stage, longest, whose in limits:
        length = getattr(training, stage).max_length
        if longest >= length:
            yield (
                f"training.{stage}.max_length ({length}) cannot hold a prompt with an answer of "
                f"{longest} tokens ({whose}); raise it or lower the other"
            )
