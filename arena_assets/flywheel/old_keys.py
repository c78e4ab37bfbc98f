"""The keys of version 0.3.0, under which older lakes hold what was paid for.

Only `arena migrate` reads this module, and it may be deleted with it when no such lake is left.
Nothing here may change: fields are named one by one, so that a new setting is no part of them.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from arena_assets.config.judges import LLMJudge
from arena_assets.config.models import Endpoint, Sampling
from arena_assets.config.places import resolve
from arena_assets.config.profile import Profile
from arena_assets.generation.contestants import Contestant
from arena_assets.judging.judges import JudgeTemplate
from arena_assets.lake.store import content_key_sql

VERIFIER = "verifier-1"
_RENDERING = 2
_SAMPLING = {"temperature", "top_p", "max_tokens", "repetition_penalty", "stop", "seed"}
_ORIGIN = {"path", "hub", "revision", "package"}


def content_key(*parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def served(endpoint: Endpoint) -> str:
    """The digest of a served model."""
    return content_key("endpoint", *_said_of(endpoint))


def testset(profile: Profile) -> str:
    """What a version of the test set was drawn by."""
    settings, encoder = profile.prompts.testset, profile.prompts.encoder
    names = {"clusters", "diverse_per_cluster", "hard", "hard_candidates_per_cluster"}
    drawn = settings.model_dump(mode="json", include=names | {"constrained_only", "edition"})
    rater, rates = settings.rater, None
    drawn["rater"] = None
    if rater:
        drawn["rater"] = rater.model_dump(mode="json", include={"model", "template", "attempts"})
        drawn["rater"]["sampling"] = _sampling(rater.sampling)
        model = profile.models[rater.model]
        names = {*_ORIGIN, "trust_remote_code", "chat_template"}
        rates = model.model_dump(mode="json", include=names)
        rates["endpoint"] = _said_of(model.endpoint) if model.endpoint else None
    parts = [profile.seed, drawn, encoder.model_dump(mode="json", include=_ORIGIN), rates]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _said_of(endpoint: Endpoint) -> list[Any]:
    left_out = sorted(name for name, theirs in endpoint.parameters.items() if theirs is None)
    changes = {
        "left_out": [name for name in left_out if name != "n"],
        "extra_body": endpoint.extra_body,
        "folded_system": not endpoint.system_role,
        "unstructured": not endpoint.structured_outputs,
    }
    changes = {name: value for name, value in changes.items() if value}
    return [endpoint.model, endpoint.version, *([changes] if changes else [])]


def templated(digest: str, chat_template: str) -> str:
    """The digest of weights that are asked through a chat template of the profile."""
    return content_key(digest, resolve(chat_template).read_text("utf-8"))


def answers(contestant: Contestant, digest: str, seed: int) -> str:
    """The folder of a contestant's answers; `digest` is the old one of its model."""
    prompt = contestant.system_prompt
    shown = prompt and {
        "system": prompt.system,
        "examples": [{"user": e.user, "assistant": e.assistant} for e in prompt.examples],
    }
    sampling = _sampling(contestant.sampling) | {"best_of": contestant.best_of}
    drawn = contestant.sampling.temperature > 0
    return content_key(digest, shown, json.dumps(sampling, sort_keys=True), seed if drawn else None)


def response_sql(contestant: Contestant, digest: str, seed: int) -> str:
    """SQL for the key of an answer, of a relation with messages and constraints."""
    constraints = "'best-of-3' || constraints" if contestant.best_of > 1 else "''"
    key = answers(contestant, digest, seed)
    return content_key_sql(f"'{key}'", "to_json(messages)::varchar", constraints)


def verdicts(settings: LLMJudge, template: JudgeTemplate, digest: str) -> str:
    """The folder of a judge's verdicts; `digest` is the old one of its model."""
    told = {
        "version": template.version,
        "system": template.system,
        "user": template.user,
        "explanation_characters": template.explanation_characters,
    }
    return content_key(_RENDERING, digest, _sampling(settings.sampling), settings.attempts, told)


def difficulty(digest: str, sampling: Sampling, messages: list[dict[str, str]]) -> str:
    """The key of a rating."""
    return content_key(digest, _sampling(sampling), messages)


def _sampling(sampling: Sampling) -> dict[str, Any]:
    return sampling.model_dump(mode="json", include=_SAMPLING)
