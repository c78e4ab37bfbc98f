"""Verdicts: what came of one game, and how a judge's words are read.

Reading is strict, since a wrong score would become training data: the first brace of the text has
to open a JSON object with an explanation and two scores, and no other brace or bracket may stand
outside of it. Numbers anywhere else, in the explanation too, are no scores.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from arena_assets.generation.engines import Completion

TRUNCATED, UNPARSABLE, OUT_OF_RANGE = "truncated", "unparsable", "out of range"
REFUSED, BACKEND_ERROR = "refused", "backend error"
FAILURES = (TRUNCATED, UNPARSABLE, OUT_OF_RANGE, REFUSED, BACKEND_ERROR)

LOWEST, HIGHEST = 1, 10
_REFUSAL = re.compile(
    r"\s*(i'?m sorry|i am sorry|sorry|i can(no|')t|i can ?not|i won'?t|i will not|as an ai)\b", re.I
)


@dataclass(frozen=True)
class Verdict:
    """What came of one game.

    status "ok" has both scores (1-10); "failed" is output that could not be used, with the kind of
    `failure` and the judge's own words in `raw`; "abstained" is a judge that has nothing to go by.
    The latter two are neither ties nor zeros.
    """

    status: str
    score_a: float | None = None
    score_b: float | None = None
    explanation: str | None = None
    failure: str | None = None
    raw: str | None = None
    attempts: int = 1
    prompt_tokens: int = 0
    completion_tokens: int = 0


class BadVerdict(ValueError):
    """A judge's output that holds no verdict; `failure` is one of FAILURES."""

    def __init__(self, failure: str, reason: str):
        super().__init__(reason)
        self.failure = failure


class Scores(BaseModel):
    """The judge's answer: an explanation first, so that the scores follow from it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    explanation: str
    score_a: float = Field(ge=LOWEST, le=HIGHEST, allow_inf_nan=False)
    score_b: float = Field(ge=LOWEST, le=HIGHEST, allow_inf_nan=False)


def scores_schema(explanation_characters: int) -> dict[str, Any]:
    """The JSON schema of Scores for structured outputs, in this order."""
    score = {"type": "integer", "minimum": LOWEST, "maximum": HIGHEST}
    return {
        "type": "object",
        "properties": {
            "explanation": {"type": "string", "maxLength": explanation_characters},
            "score_a": score,
            "score_b": score,
        },
        "required": ["explanation", "score_a", "score_b"],
        "additionalProperties": False,
    }


def read_scores(text: str) -> Scores:
    """The scores in a judge's output; BadVerdict says why there are none.

    >>> read_scores('{"explanation": "A is 9 times longer.", "score_a": 3, "score_b": 6.5}').score_b
    6.5
    """
    start = text.find("{")
    if start < 0:
        raise BadVerdict(UNPARSABLE, "no JSON object")
    try:
        # not strict: structured outputs let raw control characters into strings
        decoder = json.JSONDecoder(object_pairs_hook=_distinct, strict=False)
        found, end = decoder.raw_decode(text, start)
    except (ValueError, RecursionError) as error:
        raise BadVerdict(UNPARSABLE, f"not JSON: {error}") from None
    if re.search(r"[][{}]", text[:start] + text[end:]):
        raise BadVerdict(UNPARSABLE, "more than one JSON object")
    try:
        return Scores.model_validate(found)
    except ValidationError as error:
        problems = error.errors()
        place = ".".join(str(part) for part in problems[0]["loc"])
        ranges = ("greater_than_equal", "less_than_equal", "finite_number")
        only_range = all(problem["type"] in ranges for problem in problems)
        failure = OUT_OF_RANGE if only_range else UNPARSABLE
        raise BadVerdict(failure, f"{place or 'verdict'}: {problems[0]['msg']}") from None


def to_verdict(completion: Completion) -> Verdict:
    """The verdict in one completion; "failed", with the text kept, where there is none."""
    if completion.error is not None:
        return _failed(completion, BACKEND_ERROR, completion.error)
    if completion.finish_reason == REFUSED:
        return _failed(completion, REFUSED, "the backend's filter refused")
    try:
        scores = read_scores(completion.text)
    except BadVerdict as bad:
        failure = bad.failure
        if completion.finish_reason == "length" and failure == UNPARSABLE:
            failure = TRUNCATED
        elif _REFUSAL.match(completion.text):
            failure = REFUSED
        return _failed(completion, failure, str(bad))
    return Verdict("ok", scores.score_a, scores.score_b, scores.explanation)


def _failed(completion: Completion, failure: str, reason: str) -> Verdict:
    return Verdict("failed", explanation=reason, failure=failure, raw=completion.text)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key that is given twice would let the second value win unseen."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found
