"""The arena's own judge as a reward of RL: the completions of a prompt fight each other.

Every two of them meet in both orders, and a completion's reward is its Bradley-Terry strength
within the group (natural scale, mean 0). All judgments go through the judge's store: what is drawn
again, or was fought over before, is not judged again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from arena_assets.judging.draw import Draw
from arena_assets.judging.games import AwaitedJudge
from arena_assets.judging.panel import Member
from arena_assets.judging.verdicts import Verdict
from arena_assets.lake.identity import identity
from arena_assets.lake.lake import Lake
from arena_assets.lake.tables import JUDGMENTS, PROMPTS, RESPONSES
from arena_assets.ratings.bradley_terry import strengths
from arena_assets.ratings.comparisons import UnratableBattles
from arena_assets.training.group_rewards import Group, Rewards

_VERSION = 1  # of how games become rewards

# a jury's score is the weighted mean of its members', as in battles; every game counts for itself,
# so that a winner who changes with the order has won nothing
_GAMES = """
    select prompt_id, contestant_a as contestant_1, contestant_b as contestant_2,
           0.5::double + 0.5::double * sign(sum(score_a * weight) - sum(score_b * weight)) as score
    from (select * from seen where status != 'abstained')
    group by prompt_id, contestant_a, contestant_b
    having coalesce(sum(weight) filter (where status = 'ok'), 0) >= $quorum * sum(weight)
       and count(*) filter (where status = 'ok') > 0
    order by all
"""


def rewarding_judges(members: Sequence[Member], quorum: float) -> str | None:
    """The identity of what these judges reward; None where one of them has no model yet."""
    if any(isinstance(member.judge, AwaitedJudge) for member in members):
        return None
    said = [[member.asked.key, member.seat.weight] for member in members]
    return identity("group reward", version=_VERSION, judges=said, quorum=quorum)


@dataclass(frozen=True)
class GroupJudge:
    """Rewards groups of completions by the judges that decide in the arena."""

    members: Sequence[Member]
    lake: Lake
    quorum: float
    batch: int
    log: Callable[[str], None]

    @property
    def key(self) -> str:
        """The identity of what it rewards."""
        key = rewarding_judges(self.members, self.quorum)
        assert key, "a judge that is asked has its model"
        return key

    def __call__(self, groups: Sequence[Group]) -> Rewards:
        """A reward a completion, None where no game of it has a verdict.

        Completions that say the same are one contestant. Raises BackendDown where a judge's backend
        is gone.
        """
        contestants = [list(dict.fromkeys(group["completions"])) for group in groups]
        games = self._games(groups, contestants)
        rated = []
        for number, (group, texts) in enumerate(zip(groups, contestants, strict=True)):
            own = [game for game in games if game["prompt_id"] == _place(number)]
            by_place = _strengths(own) if len(texts) > 1 else {_place(0): 0.0}
            by_text = {text: by_place.get(_place(place)) for place, text in enumerate(texts)}
            rated.append([by_text[text] for text in group["completions"]])
        return rated

    def _games(
        self, groups: Sequence[Group], contestants: Sequence[Sequence[str]]
    ) -> list[dict[str, Any]]:
        prompts = pa.Table.from_pylist(
            [_prompt(number, group) for number, group in enumerate(groups)], schema=PROMPTS.schema
        )
        responses = pa.Table.from_pylist(
            [
                _response(number, place, text)
                for number, texts in enumerate(contestants)
                for place, text in enumerate(texts)
            ],
            schema=RESPONSES.schema,
        )
        parts: list[pa.RecordBatch] = []
        with self.lake.connect(prompts=prompts, responses=responses) as connection:
            draw = Draw(connection, self.lake, 0, self.batch, "all_pairs")
            battles = draw.battles(None)
            for member in self.members:
                failures: dict[str, Verdict] = {}
                games = draw.games(member.asked, battles, failures)
                games.judge_missing(self.log)
                parts += games.rows("", member.seat)
            connection.register("seen", pa.Table.from_batches(parts, JUDGMENTS.schema))
            found = connection.sql(_GAMES, params={"quorum": self.quorum}).to_arrow_table()
        return found.to_pylist()


def _strengths(games: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Strengths by place; nobody has one where games that failed leave groups that never met."""
    table = pa.Table.from_pylist([game | {"weight": 1.0, "category": ""} for game in games])
    try:
        return strengths(table) if games else {}
    except UnratableBattles:
        return {}


def _place(number: int) -> str:
    """Names that sort as numbers do."""
    return f"{number:06d}"


def _prompt(number: int, group: Group) -> dict[str, Any]:
    return {
        "prompt_id": _place(number),
        "source": "",
        "messages": group["messages"],
        "constraints": group["constraints"],
        "category": "",
        "reference": group["reference"],
    }


def _response(number: int, place: int, text: str) -> dict[str, Any]:
    # the policy has weights of its own from its first step on, so no judge stays out of its games
    return {
        "response_id": f"{number}-{place}",
        "round": "",
        "prompt_id": _place(number),
        "contestant": _place(place),
        "role": "target",
        "model": "policy",
        "model_digest": "",
        "system_prompt": "none",
        "sampling": "{}",
        "status": "ok",
        "text": text,
        "turns": [text],
        "finish_reason": "stop",
        "sample": 0,
    }
