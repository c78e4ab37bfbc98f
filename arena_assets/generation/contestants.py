"""Contestants: a model, how it is prompted and sampled, and the key of its answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from arena_assets.config.contestants import Opponent, Target
from arena_assets.config.models import Sampling
from arena_assets.config.recipe import OnPolicy
from arena_assets.lake.code import code_version
from arena_assets.lake.identity import identity
from arena_assets.models.dialogue import Message
from arena_assets.models.model import Local, Model
from arena_assets.models.prompting import SystemPrompt, read_system_prompt

_SAMPLE: Final = ".sample-"


@dataclass(frozen=True)
class Contestant:
    """Who answers: a model, or a recording of its answers, with its prompting and sampling."""

    name: str
    role: str  # target or opponent
    model: Model | None  # None: not there yet; such a contestant can be planned with, not asked
    sampling: Sampling
    system_prompt: SystemPrompt | None = None
    best_of: int = 1

    def render(self, messages: Sequence[Message]) -> list[Message]:
        """The conversation as this contestant sees it: system prompt, examples, then the prompt."""
        return self.system_prompt.before(messages) if self.system_prompt else list(messages)

    def sampling_json(self) -> str:
        settings: dict[str, Any] = self.sampling.model_dump(mode="json")
        return json.dumps(settings | {"best_of": self.best_of}, sort_keys=True)

    @property
    def asked(self) -> Model:
        """The model, for whoever asks it and needs it to be there."""
        assert self.model, f"{self.name} has no model yet, and so no answers"
        return self.model

    def key(self, seed: int) -> str:
        """Hash of all that determines an answer but the prompt.

        The seed matters only where text is drawn at random.
        """
        return identity(
            "answer",
            code=code_version("answer"),
            model=self.asked.identity,
            system_prompt=self.system_prompt,
            sampling=self.sampling,
            best_of=self.best_of,
            seed=seed if self.sampling.temperature > 0 else None,
        )


def target_contestant(target: Target, name: str, model: Local | None) -> Contestant:
    """A checkpoint of the target (or its base weights), under the name it is rated by."""
    return Contestant(
        name, "target", model, target.sampling, read_system_prompt(target.system_prompt)
    )


def own_samples(
    target: Target, name: str, model: Local | None, settings: OnPolicy, seed: int
) -> list[Contestant]:
    """The target as often as it draws an answer: each sample is a contestant, judged as any.

    Each draws with a seed of its own, so that no two are the same text by being asked anew.
    """
    once = target_contestant(target, name, model)
    first = seed if target.sampling.seed is None else target.sampling.seed
    return [
        replace(
            once,
            name=f"{name}{_SAMPLE}{draw:02}",
            sampling=target.sampling.model_copy(
                update={"temperature": settings.temperature, "seed": first + draw}
            ),
        )
        for draw in range(1, settings.samples + 1)
    ]


def drawn_from(contestant: str) -> str:
    """The target by whom a contestant's answers are, where it is one of its own samples.

    >>> drawn_from("i01.1-sft.sample-03"), drawn_from("base")
    ('i01.1-sft', 'base')
    """
    return contestant.partition(_SAMPLE)[0]


def opponent_contestant(opponent: Opponent, model: Model | None) -> Contestant:
    """An opponent of the profile."""
    return Contestant(
        opponent.name,
        "opponent",
        model,
        opponent.sampling,
        read_system_prompt(opponent.system_prompt),
        opponent.best_of,
    )


def by_model(contestants: Sequence[Contestant]) -> list[Contestant]:
    """Those of one model beside each other, so that each engine is opened once.

    Models keep their order: the newest checkpoint answers last in the arena and, promoted, first in
    the next round, with its engine still open.
    """
    digests = [contestant.asked.digest for contestant in contestants]
    return sorted(contestants, key=lambda contestant: digests.index(contestant.asked.digest))
