"""What a contestant or a judge asks: a model is Local, Served or Recorded.

Each has the digest of what determines its answers and opens its own engine. Only a local model can
be trained, so whoever trains takes a Local. Heavy libraries are imported when an engine is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from arena_assets.config.contestants import Opponent
from arena_assets.config.models import Endpoint
from arena_assets.config.places import resolve
from arena_assets.lake.code import code_version
from arena_assets.lake.identity import identity
from arena_assets.models.engine import Engine
from arena_assets.reading.places import digest_of

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # vllm.config.lora.MaxLoRARanks


@dataclass(frozen=True)
class Local:
    """Weights in a folder, which vLLM and TRL load; `chat_template` is a Jinja file.

    `engine_settings` are those of vllm.LLM that may change what the model says. So may code that
    comes with the weights, where it is trusted. A LoRA adapter has the weights that it is laid over
    as its `base`, and they the largest rank of `adapters` for which their engine is opened.
    """

    name: str
    path: Path
    digest: str
    trust_remote_code: bool = False
    chat_template: str | None = None
    engine_settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    base: Local | None = None
    adapters: int | None = None

    @property
    def identity(self) -> str:
        """What determines what the model says, but for what it is asked and how, as one hash."""
        trusted = {"trust_remote_code": True} if self.trust_remote_code else {}
        return _identity("local engine", self.digest, {**trusted, **self.engine_settings})

    def open(self, seed: int, settings: Mapping[str, Any]) -> Engine:
        """vLLM in this process; `settings` are those of vllm.LLM."""
        from arena_assets.models.vllm_engine import VLLMEngine

        own: dict[str, Any] = {"trust_remote_code": self.trust_remote_code}
        if self.adapters:
            own |= {"enable_lora": True, "max_lora_rank": _room_for(self.adapters)}
        return VLLMEngine(self.path, seed, {**own, **settings}, self.chat_template)


@dataclass(frozen=True)
class Served:
    """A model behind OpenAI-compatible servers, which do not show its weights."""

    name: str
    digest: str
    endpoint: Endpoint

    @property
    def identity(self) -> str:
        """As of Local."""
        return _identity("served engine", self.digest)

    def open(self, seed: int, settings: Mapping[str, Any]) -> Engine:
        """A client of the servers, which were started with settings of their own."""
        from arena_assets.models.served.openai_engine import OpenAIEngine

        return OpenAIEngine(self.endpoint)


@dataclass(frozen=True)
class Recorded:
    """Answers in files: an author, or a model that nobody can run any more."""

    name: ClassVar[str] = "recorded"  # in the place of a model's

    path: Path
    digest: str

    @property
    def identity(self) -> str:
        """As of Local."""
        return _identity("recording", self.digest)

    def open(self, seed: int, settings: Mapping[str, Any]) -> Engine:
        """A reader of the files; what they say was said already."""
        from arena_assets.models.recorded import RecordedEngine

        return RecordedEngine(self.path)


Model = Local | Served | Recorded


def model_of(opponent: Opponent, known: Mapping[str, Model]) -> Model | None:
    """What an opponent asks; None as long as its model is not among those that are known.

    The one place that tells kinds of opponents apart: a new kind is a setting, a class beside those
    above, and a line here.
    """
    return recording(opponent.recorded) if opponent.recorded else known.get(str(opponent.model))


def recording(path: str) -> Recorded:
    """A file of recorded answers, or a folder or pattern of them, in the place of a model."""
    place = resolve(path)
    return Recorded(place, digest_of(str(place)))


def _room_for(rank: int) -> int:
    """The smallest rank that vLLM makes room for and that holds an adapter's."""
    return next((room for room in _RANKS if room >= rank), rank)  # vLLM refuses what is too large


def _identity(kind: str, digest: str, settings: Mapping[str, Any] = MappingProxyType({})) -> str:
    return identity("model", kind=kind, code=code_version(kind), weights=digest, engine=settings)
