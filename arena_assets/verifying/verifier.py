"""The verifier: scores an answer by the share of its prompt's constraints that hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from arena_assets.hostile_text import shows_nothing
from arena_assets.verifying.constraints import Constraint


@dataclass(frozen=True)
class Verification:
    """`score` is 1 + 9 x the share of constraints passed, so 1 (none) to 10 (all)."""

    score: float
    passed: tuple[bool, ...]
    explanation: str

    @property
    def share(self) -> float:
        return sum(self.passed) / len(self.passed)


def verify(constraints: Sequence[Constraint], text: str) -> Verification:
    """Check every constraint; an answer that shows nothing passes none. ValueError without any."""
    if not constraints:
        raise ValueError("nothing to verify: the prompt states no constraints")
    text, said = text.strip(), not shows_nothing(text)
    passed = tuple(said and constraint.holds(text) for constraint in constraints)
    explanation = "; ".join(
        f"{constraint.describe()}: {'yes' if held else 'no'}"
        for constraint, held in zip(constraints, passed, strict=True)
    )
    return Verification(round(1 + 9 * sum(passed) / len(passed), 2), passed, explanation)
