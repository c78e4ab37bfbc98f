"""Which of several samples a best-of-n contestant answers with.

The verifier chooses where a prompt states constraints. Where that verifier judges as well, such a
contestant is rated by its own picker: its rating is what n tries could reach at most, and whoever
shows a rating says so. Where nothing can be verified, the sample is kept that the others resemble
most (Minimum Bayes Risk; Bertsch et al., "It's MBR All the Way Down", 2023), so that drawing n of
them is not for nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from arena_assets.config.judges import Jury, VerifierJudge
from arena_assets.config.profile import Profile
from arena_assets.hostile_text import shows_nothing
from arena_assets.models.engine import Completion
from arena_assets.models.finish_reasons import FAILED, REFUSED, incomplete, plain
from arena_assets.verifying.constraints import parse_constraints
from arena_assets.verifying.verifier import verify

_WORD = re.compile(r"[^\W_]+")


def choose(samples: Sequence[Completion], constraints: str) -> int:
    """The index of the sample to keep; `constraints` is the prompt's JSON list.

    Whole answers come first, then those that say anything at all. Of them the one that the verifier
    scores highest, or, without constraints, the one that shares most words with the others; the
    first of equals.
    """
    told = [index for index, sample in enumerate(samples) if not shows_nothing(sample.text)]
    whole = [index for index in told if not incomplete(samples[index].finish_reason)]
    answers = [i for i in told if plain(samples[i].finish_reason) not in REFUSED | FAILED]
    candidates = whole or answers or told or [0]
    texts = [samples[index].text for index in candidates]
    stated = parse_constraints(constraints)
    scores = [verify(stated, text).score for text in texts] if stated else _agreement(texts)
    return candidates[scores.index(max(scores))]


def reason_of_turns(before: str, last: str) -> str:
    """The finish reason of an exchange: the last turn's, unless only an earlier one was cut off."""
    return before if incomplete(before) and not incomplete(last) else last


def note_on_picks(profile: Profile) -> str | None:
    """What a leaderboard has to say of best-of-n opponents that their own judge picked, if any."""
    judge = profile.judge
    deciding = [member.judge for member in judge.members] if isinstance(judge, Jury) else [judge]
    names = [o.name for o in profile.opponents if o.best_of > 1 and not o.follows]
    if not names or not any(isinstance(judge, VerifierJudge) for judge in deciding):
        return None
    return (
        f"the verifier picked the samples of {', '.join(names)} and judges them too: rated is what "
        "several tries could reach at most"
    )


def _agreement(texts: Sequence[str]) -> list[float]:
    """Of every text the mean share of words (F1 over their counts) that it has with the others."""
    counts = [Counter(_WORD.findall(text.casefold())) for text in texts]
    return [
        round(sum(_shared(one, other) for other in counts if other is not one), 9) for one in counts
    ]


def _shared(one: Counter[str], other: Counter[str]) -> float:
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 0.0
