"""Verdicts: what came of one game, and how a judge's words are read.

Reading is strict, since a wrong score would become training data: models/json_output.py says
which object is taken for the judge's answer. Here its scores have to be two numbers from 1 to 10,
and nothing beside them may say something else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from arena_assets.models.engine import Completion
from arena_assets.models.json_output import Output, Unread, number_of, read_object, text_of
from arena_assets.models.structured import AS_WRITTEN, WHOLE, StructuredOutput

TRUNCATED, UNPARSABLE, OUT_OF_RANGE = "truncated", "unparsable", "out of range"
REFUSED, BACKEND_ERROR = "refused", "backend error"
FAILURES = (TRUNCATED, UNPARSABLE, OUT_OF_RANGE, REFUSED, BACKEND_ERROR)

LOWEST, HIGHEST = 1, 10
_REFUSAL = re.compile(
    r"\s*(i['’]?m sorry|i am sorry|sorry|i can(no|['’])t|i can ?not|i won['’]?t|i will not|as an ai"
    r"|i['’]m (not able|unable)|i am (not able|unable))\b",
    re.I,
)
_SIDE = r"(?:the )?(?:assistant|answer|response|model|option)?[\s_-]*"
_WINNER = re.compile(rf"\W*{_SIDE}([ab])\W*|(tie|tied|draw|equal|both|neither|none)", re.I)
_WINNER_KEY = re.compile(r"(?:winner|better|best|preferred|preference|verdict|choice)(?:answer)?$")
_REVISED_KEY = re.compile(r"correct(?:ion|ed)|revis|updat|adjust|amend")
_SCORE_KEY = re.compile(r"(?:score|rating|grade|points)(?:of|for)?(?:answer)?([ab])")
_NAMED = re.compile(
    r"(?<![A-Za-z0-9])(A|(?i:(?:the )?(?:first|former)|(?:answer|response|assistant) (?:1|one)))"
    r"(?![A-Za-z0-9])"
    r"|(?<![A-Za-z0-9])(B|(?i:(?:the )?(?:second|latter)|(?:answer|response|assistant) (?:2|two)))"
    r"(?![A-Za-z0-9])"
)
_PRAISE = re.compile(
    r"\b(?:better|best|beats?|wins?|won|winner|stronger|superior|prefer\w*|verdict)\b|\[\[[AB]",
    re.I,
)
_EQUAL = re.compile(r"\b(?:equal\w*|same|tied?|draw|alike|on par|neither)\b|\[\[C", re.I)
_DENIED = re.compile(r"\b(?:not|never|no|less|los(?:es|t)|worse|weaker|hardly)\b|n['’]t\b", re.I)


@dataclass(frozen=True)
class Verdict:
    """What came of one game.

    status "ok" has both scores (1-10); "failed" is output that could not be used, with the kind of
    `failure` and the judge's own words in `raw`; "abstained" is a judge that has nothing to go by.
    The latter two are neither ties nor zeros. Tokens that the backend did not count are None.
    """

    status: str
    score_a: float | None = None
    score_b: float | None = None
    explanation: str | None = None
    failure: str | None = None
    raw: str | None = None
    reasoning: str | None = None
    attempts: int = 1
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0


class BadVerdict(ValueError):
    """A judge's output that holds no verdict; `failure` is one of FAILURES."""

    def __init__(self, failure: str, reason: str):
        super().__init__(reason)
        self.failure = failure


_Score = Annotated[float, Field(ge=LOWEST, le=HIGHEST, json_schema_extra=WHOLE), AS_WRITTEN]


class Scores(StructuredOutput):
    """The judge's answer."""

    score_a: _Score
    score_b: _Score


def read_scores(text: str, truncated: bool = False) -> Scores:
    """The scores in a judge's output; BadVerdict says why there are none.

    >>> read_scores('{"explanation": "A is 9 times longer.", "score_a": 3, "score_b": 6.5}').score_b
    6.5
    """
    try:
        output = read_object(text, Scores.numbers())
    except Unread as why:
        raise BadVerdict(TRUNCATED if truncated else UNPARSABLE, str(why)) from None
    if truncated and output.after:
        raise BadVerdict(TRUNCATED, "cut off after the JSON object, where a correction may follow")
    try:
        scores = Scores.model_validate(output.values)
    except ValidationError as error:
        raise _bad_score(error.errors()[0]) from None
    _refuse_contradiction(output, scores)
    return scores


def _bad_score(problem: ErrorDetails) -> BadVerdict:
    """What is wrong with the first score that is none; NaN is in no range."""
    name, said = problem["loc"][0], problem["input"]
    if problem["type"] in ("greater_than_equal", "less_than_equal"):
        return BadVerdict(OUT_OF_RANGE, f"{name}: {said:g} is not from {LOWEST} to {HIGHEST}")
    return BadVerdict(UNPARSABLE, f"{name}: {said!r:.80} is no number")


def _refuse_contradiction(output: Output, scores: Scores) -> None:
    """BadVerdict where another key or the prose behind the object says something else."""
    higher = {1: "a", -1: "b", 0: "tie"}[
        (scores.score_a > scores.score_b) - (scores.score_a < scores.score_b)
    ]
    for key, said in output.others.items():
        if _REVISED_KEY.search(key) and said:
            raise BadVerdict(UNPARSABLE, f"{key}: {said!r:.80} may be another score")
        if (key in ("tie", "draw") and said is True and higher != "tie") or (
            _WINNER_KEY.search(key) and not _names(said, higher)
        ):
            raise BadVerdict(UNPARSABLE, f"{key}: {said!r:.80} contradicts the scores")
        again = _SCORE_KEY.search(key)
        if again and number_of(said) != getattr(scores, f"score_{again[1]}"):
            raise BadVerdict(UNPARSABLE, f"{key}: {said!r:.80} is another score")
    for sentence in re.split(r"[.!?。！？\n]", output.after):
        if not _agrees(sentence, higher):
            raise BadVerdict(UNPARSABLE, f"{sentence.strip()!r:.80} may contradict the scores")


def _names(said: Any, higher: str) -> bool:
    """Whether a winner, however written, is the one that scored higher, or nobody is named."""
    text = str(said or "").strip()
    if named := _WINNER.fullmatch(text):
        return (named[1] or "tie").lower() == higher
    return _agrees(text, higher)


def _agrees(sentence: str, higher: str) -> bool:
    """Whether prose behind the scores says nothing about the answers, or surely the same."""
    named = ["a" if found[1] else "b" for found in _NAMED.finditer(sentence)]
    equal = bool(_EQUAL.search(sentence))
    if higher == "tie":
        return equal or not named
    if equal or not named:
        return not equal
    sure = not _DENIED.search(sentence) and (
        named.count(higher) == len(named) or _PRAISE.search(sentence)
    )
    return named[0] == higher and bool(sure)


def to_verdict(completion: Completion) -> Verdict:
    """The verdict in one completion; "failed", with the text kept, where there is none."""
    if completion.error is not None:
        return _failed(completion, BACKEND_ERROR, completion.error)
    if completion.finish_reason == REFUSED:
        return _failed(completion, REFUSED, "the backend's filter refused")
    if completion.reasoning and not completion.text.strip():
        return _failed(completion, TRUNCATED, "reasoning that does not end in an answer")
    try:
        scores = read_scores(completion.text, completion.finish_reason == "length")
    except BadVerdict as bad:
        refused = bad.failure == UNPARSABLE and _REFUSAL.match(completion.text)
        return _failed(completion, REFUSED if refused else bad.failure, str(bad))
    return Verdict("ok", scores.score_a, scores.score_b, scores.explanation)


def _failed(completion: Completion, failure: str, reason: str) -> Verdict:
    raw = completion.text or completion.reasoning or ""
    return Verdict("failed", explanation=reason, failure=failure, raw=text_of(raw))
