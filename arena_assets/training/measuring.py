"""A reward model measured before it is used, on pairs of prompts that it did not learn from.

Its accuracy is the share of pairs whose chosen answer it scores higher, with Wilson's interval
(Wilson, 1927); margins and the correlation of scores with length show how it decides.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MEASURED = "reward_model.json"  # in the checkpoint's folder
FEWEST_PAIRS = 20  # with fewer, Wilson's interval is some 0.4 wide: nothing that a floor could use
HELD_OUT = "held out to measure the reward model"


@dataclass(frozen=True)
class Measured:
    """What a reward model did with pairs that were held out.

    `margins` are chosen less rejected score, a pair each; `length_correlation` is Spearman's, of
    scores with tokens over all answers, None where one of them does not vary.
    """

    learned_from: int
    margins: tuple[float, ...]
    length_correlation: float | None

    @property
    def held_out(self) -> int:
        """How many pairs it was measured on."""
        return len(self.margins)

    @property
    def right(self) -> int:
        """How many chosen answers it scores higher; equal scores are none."""
        return sum(margin > 0 for margin in self.margins)

    @property
    def accuracy(self) -> float | None:
        """None where nothing was held out."""
        return self.right / self.held_out if self.margins else None

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        from scipy.stats import binomtest

        found = binomtest(self.right, self.held_out).proportion_ci(method="wilson")
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        if not self.margins:
            return "not measured: no pair was held out"
        low, high = self.interval
        said = f"right on {self.right} of {self.held_out} held-out pairs"
        return f"{said} ({self.accuracy:.2f}, 95 % interval {low:.2f} to {high:.2f})"

    def summary(self) -> dict[str, Any]:
        """What a manifest and a page say of it."""
        said: dict[str, Any] = {"learned_from": self.learned_from, "held_out": self.held_out}
        if self.margins:
            low, high = self.interval
            mean = sum(self.margins) / self.held_out
            correlation = self.length_correlation
            said |= {
                "accuracy": round(self.right / self.held_out, 4),
                "lower": round(low, 4),
                "upper": round(high, 4),
                "mean_margin": round(mean, 4),
                "length_correlation": None if correlation is None else round(correlation, 4),
            }
        return said


def measured(
    learned_from: int, chosen: Sequence[float], rejected: Sequence[float], lengths: Sequence[int]
) -> Measured:
    """How held-out pairs are scored; `lengths` are of the chosen answers, then of the others."""
    margins = tuple(one - other for one, other in zip(chosen, rejected, strict=True))
    return Measured(learned_from, margins, _correlation([*chosen, *rejected], lengths))


def _correlation(scores: Sequence[float], lengths: Sequence[int]) -> float | None:
    if len(set(scores)) < 2 or len(set(lengths)) < 2:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(scores, lengths).statistic)


def refusal(found: Measured, floor: float | None) -> str | None:
    """Why RL may not be rewarded by this model; None where it may.

    Too few pairs cannot show that a floor is kept, so they refuse too.
    """
    if not floor:
        return None
    asked = f"quality.reward_model_accuracy asks for {floor:g}"
    if found.held_out < FEWEST_PAIRS:
        return (
            f"the reward model is {found}, and fewer than {FEWEST_PAIRS} pairs cannot tell whether "
            f"it may reward ({asked}): raise training.reward_model.held_out, fight over more "
            "prompts, or take the floor out. RL was not started"
        )
    if found.right / found.held_out < floor:
        return (
            f"the reward model is {found}, and {asked}: RL was not started. More or clearer pairs "
            "(minimum_gap), other settings of training.reward_model, or another training.rl.reward "
            "would be right"
        )
    return None


def held_out(prompts: Iterable[Any], share: float, seed: int) -> set[str]:
    """The prompts that are held out, as of `prompt_key`: that share of them, at least one of two.

    Which ones does not depend on their order; all pairs of a prompt are on the same side.
    """
    keys = sorted({prompt_key(prompt, seed) for prompt in prompts})
    wanted = max(1, round(share * len(keys))) if share and len(keys) > 1 else 0
    return set(keys[: min(wanted, len(keys) - 1)])


def prompt_key(messages: Any, seed: int) -> str:
    """A prompt's place among those to hold out: a hash of its messages and the seed."""
    text = json.dumps([seed, messages], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_measured(folder: Path, found: Measured) -> None:
    """Put a measurement beside the weights that it is of."""
    (folder / MEASURED).write_text(json.dumps(asdict(found)), "utf-8")


def read_measured(folder: Path) -> Measured | None:
    """The measurement in a checkpoint's folder; None where no reward model was measured."""
    file = folder / MEASURED
    if not file.exists():
        return None
    found = json.loads(file.read_text("utf-8"))
    return Measured(**found | {"margins": tuple(found["margins"])})
