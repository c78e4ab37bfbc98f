"""What people decided about the promotions of rounds: an approval, a pin, a rollback.

A decision is a line of <lake>/decisions.jsonl, with who took it, when and why; lines are added and
never changed. The last one about a round counts. It is part of what the round's promotion is made
from (`ingredients.decided_by_people`), so that a new one makes that promotion and what follows out
of date, and nothing before it.
"""

from __future__ import annotations

import getpass
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, ValidationError

from arena_assets.config.settings import Settings
from arena_assets.lake import durable
from arena_assets.lake.lake import Lake, writing

Kind = Literal["approve", "pin", "rollback", "withdraw"]
NAMES: Final = ("pin", "rollback")  # the kinds that name who is promoted, whatever the rule says


class Decision(Settings):
    """One decision about the promotion of a round.

    `approve` lets pass whom the rule chose, as long as it chooses that contestant with those
    weights; `pin` and `rollback` promote `contestant` instead; `withdraw` takes back what was
    decided of the round before. `digest` is that of the weights that the person saw.
    """

    kind: Kind
    round: str
    contestant: str | None = None
    digest: str | None = None
    who: str = Field(min_length=1)
    when: str = Field(description="ISO 8601, UTC")
    reason: str = ""

    @property
    def in_words(self) -> str:
        """Who decided when, and why, as promotions tell it."""
        why = f": {self.reason}" if self.reason else ""
        return f"by {self.who} on {self.when}{why}"


class BrokenDecisions(RuntimeError):
    """A line of the file that is no decision; the message names file and line."""


def decide(
    lake: Lake,
    kind: Kind,
    round_: str,
    contestant: str | None = None,
    *,
    digest: str | None = None,
    reason: str = "",
    who: str | None = None,
) -> Decision:
    """Write down what a person decided; `who` is by default the user of this process.

    Whether the round and the contestant are there is the caller's to ask. Raises NotWritable where
    the disk takes no more; then nothing was decided.
    """
    decision = Decision(
        kind=kind,
        round=round_,
        contestant=contestant,
        digest=digest,
        who=who or getpass.getuser(),
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        reason=reason,
    )
    place = decisions_file(lake)
    with writing(place), durable.claim(place.with_name(".decisions.lock")):
        before = place.read_text("utf-8") if place.exists() else ""
        line = json.dumps(decision.model_dump(exclude_none=True), ensure_ascii=False)
        durable.write_text(place, f"{before}{line}\n")
    return decision


def decisions(lake: Lake) -> list[Decision]:
    """All decisions, in the order in which they were taken.

    Raises BrokenDecisions for a line that a person broke.
    """
    place = decisions_file(lake)
    if not place.exists():
        return []
    found = []
    for number, line in enumerate(place.read_text("utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            found.append(Decision.model_validate_json(line))
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"])) or "the line"
            raise BrokenDecisions(
                f"{place}, line {number}: {where}: {problem['msg']}; a line is a JSON object with "
                "kind, round, who and when, and contestant where a pin or a rollback names one"
            ) from None
    return found


def decision_on(lake: Lake, round_: str) -> Decision | None:
    """The decision that counts for the promotion of a round; None where there is none."""
    last = next((d for d in reversed(decisions(lake)) if d.round == round_), None)
    return None if last is None or last.kind == "withdraw" else last


def decisions_file(lake: Lake) -> Path:
    """Where the decisions about a lake's rounds lie."""
    return lake.root / "decisions.jsonl"
