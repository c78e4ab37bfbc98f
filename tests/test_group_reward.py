"""The arena's judge as a reward: a group of completions fights, and the store is asked first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reinforcing import job_of, prompt_row

from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.rewarding import judge_of_groups
from arena_assets.flywheel.weights import BrokenChain
from arena_assets.judging.games import Game, Seat
from arena_assets.judging.group_reward import GroupJudge, rewarding_judges
from arena_assets.judging.judges import Verifier
from arena_assets.judging.panel import Member
from arena_assets.judging.verdicts import Verdict
from arena_assets.lake.lake import Lake
from arena_assets.ratings.bradley_terry import strengths
from arena_assets.training.failures import NoRewards
from arena_assets.training.group_rewards import Asking, answering, arena_reward
from arena_assets.training.process import run_job
from arena_assets.training.summaries import read_metrics

THREE_WORDS = '[{"type": "word_count", "minimum": 3, "maximum": 3}, {"type": "no_commas"}]'
ASKED = [{"role": "user", "content": "Three words, please."}]


class LongestWins:
    """A judge that counts: the longer answer gets more, and a long first one gets more still."""

    name, version, abstains_for = "longest", "1", None

    def __init__(self, key: str = "longest", fails: Sequence[str] = ()):
        self.key, self.fails, self.asked = key, fails, 0

    def judge(self, games: Sequence[Game], arrived=lambda ended: None) -> list[Verdict]:
        self.asked += len(games)
        verdicts = [self._verdict(game) for game in games]
        arrived(list(enumerate(verdicts)))
        return verdicts

    def _verdict(self, game: Game) -> Verdict:
        if {game.text_a, game.text_b} & set(self.fails):
            return Verdict("failed", failure="unparsable")
        a, b = len(game.text_a), len(game.text_b)
        return Verdict("ok", 1.0 + min(a, 9), 1.0 + min(b, 9))


def group(*completions: str, constraints: str = THREE_WORDS) -> dict:
    return {
        "messages": ASKED,
        "constraints": constraints,
        "reference": None,
        "completions": list(completions),
    }


def judge_of(lake: Path, *judges, weights: Sequence[float] = (), quorum: float = 0.0) -> GroupJudge:
    seats = [Seat("juror", "jury", weight) for weight in weights] or [Seat("deciding")]
    members = [Member(judge, seat) for judge, seat in zip(judges, seats, strict=True)]
    return GroupJudge(members, Lake(lake), quorum, 64, lambda line: None)


def test_a_round_robin_of_three_orders_them_by_their_wins(tmp_path):
    judge = LongestWins()
    ((short, longest, middle),) = judge_of(tmp_path, judge)([group("a", "abcdef", "abc")])
    assert short < middle < longest
    assert short + middle + longest == pytest.approx(0)
    assert judge.asked == 6, "three pairs in both orders"


def test_strengths_are_the_fit_that_firth_gives():
    """One game won: the penalised likelihood of p = e^s / (1 + e^s) is p^1.5 (1-p)^0.5, p = 3/4."""
    rows = [{"prompt_id": "p", "contestant_1": "a", "contestant_2": "b", "score": 1.0}]
    found = strengths(pa.Table.from_pylist([row | {"weight": 1.0} for row in rows]))
    assert found["a"] - found["b"] == pytest.approx(1.0986, abs=1e-3)


def test_nothing_is_judged_twice(tmp_path):
    judge = LongestWins()
    rate = judge_of(tmp_path, judge)
    first = rate([group("a", "abcdef", "abc"), group("ab", "a")])
    assert judge.asked == 8
    assert rate([group("a", "abcdef", "abc"), group("ab", "a")]) == first
    again = LongestWins()
    judge_of(tmp_path, again)([group("abc", "a")])
    assert (judge.asked, again.asked) == (8, 0), "another run finds them too"


def test_the_same_words_are_one_contestant_and_are_not_judged(tmp_path):
    judge = LongestWins()
    ((one, same, other),) = judge_of(tmp_path, judge)([group("abc", "abc", "a")])
    assert one == same > other and judge.asked == 2
    assert judge_of(tmp_path, judge)([group("x", "x")]) == [[0.0, 0.0]]


def test_the_verifier_rewards_in_the_order_of_its_scores(tmp_path):
    texts = ("one, two, three", "one two three", "no, sir")
    ((half, whole, none),) = judge_of(tmp_path, Verifier("verifier"))([group(*texts)])
    assert whole > half > none
    abstained = judge_of(tmp_path, Verifier("verifier"))([group("a", "b", constraints="[]")])
    assert abstained == [[None, None]], "it has nothing to go by"


def test_a_completion_whose_games_failed_has_no_reward(tmp_path):
    rate = judge_of(tmp_path, LongestWins(fails=["?"]))
    ((short, failed, long),) = rate([group("a", "?", "abc")])
    assert failed is None and short < long


def test_a_jurys_score_is_its_members_weighted_mean(tmp_path):
    class ShortestWins(LongestWins):
        def _verdict(self, game: Game) -> Verdict:
            score = super()._verdict(game)
            return Verdict("ok", 11 - score.score_a, 11 - score.score_b)

    judges = LongestWins("l"), ShortestWins("s")
    judges[1].name = "shortest"
    ((short, long),) = judge_of(tmp_path, *judges, weights=(1, 3), quorum=0.5)([group("a", "abc")])
    assert short > long
    ((short, long),) = judge_of(tmp_path, *judges, weights=(3, 1), quorum=0.5)([group("a", "abc")])
    assert long > short


def test_another_judge_or_weight_is_another_reward(tmp_path):
    one = judge_of(tmp_path, LongestWins("a"), LongestWins("b"), weights=(1, 3))
    other = judge_of(tmp_path, LongestWins("a"), LongestWins("b"), weights=(3, 1))
    assert one.key != other.key
    assert rewarding_judges(one.members, 0.5) != one.key == rewarding_judges(one.members, 0.0)


def test_a_training_process_asks_the_run_for_its_rewards(tmp_path):
    with answering(judge_of(tmp_path, LongestWins())) as address:
        assert address is not None
        arena = arena_reward(Asking(address), size=2)
        said = [[{"role": "assistant", "content": text}] for text in ("a", "abc", "abcd", "ab")]
        rewards = arena(
            completions=said, asked=[ASKED] * 4, constraints=["[]"] * 4, reference=[None] * 4
        )
        assert rewards[0] < rewards[1] and rewards[2] > rewards[3]
    assert not address.exists()


def test_a_judge_that_is_down_ends_the_training_with_its_words(tmp_path):
    class Down:
        key = "down"

        def __call__(self, groups):
            raise ConnectionError("http://10.0.0.1:8000: nobody there")

    with answering(Down()) as address:
        assert address is not None
        with pytest.raises(NoRewards, match=r"no rewards: .*http://10.0.0.1:8000: nobody there"):
            Asking(address)([group("a", "b")])


def test_only_a_round_of_rl_that_the_arena_rewards_has_a_judge(tmp_path, tiny_profile):
    text = tiny_profile.read_text("utf-8")
    changed = tmp_path / "arena.yaml"
    changed.write_text(text.replace("  rl:\n", "  rl:\n    reward: arena\n"), "utf-8")
    arena = Arena(str(changed), str(tmp_path / "lake"))
    (tmp_path / "config.json").write_text("{}")
    origin = arena.profile.models["tiny"].path
    digest = {"name": "tiny", "origin": origin, "path": str(tmp_path), "digest": "d"}
    arena.lake.write("models", [digest])
    judge = judge_of_groups(arena, arena.round("i01.3-rl"), print, gpus=True)
    assert judge and [member.judge.name for member in judge.members] == ["verifier"]
    assert judge_of_groups(arena, arena.round("i01.1-sft"), print) is None
    local = text.replace("judge:\n  kind: verifier\n", "judge: {kind: llm, name: j, model: tiny}\n")
    changed.write_text(local.replace("  rl:\n", "  rl:\n    reward: arena\n"), "utf-8")
    arena = Arena(str(changed), str(tmp_path / "lake"))
    with pytest.raises(BrokenChain, match="'j' has its weights on this machine, whose GPUs train"):
        judge_of_groups(arena, arena.round("i01.3-rl"), print, gpus=True)


@pytest.mark.slow
def test_rl_learns_from_the_arenas_judge(tiny_model, tmp_path):
    judge = LongestWins()
    rows = [prompt_row(number) for number in range(4)]
    job = job_of(tmp_path / "job", tiny_model, rows, {"reward": "arena", "temperature": 1.5})
    with answering(judge_of(tmp_path / "lake", judge)) as address:
        run_job(job.model_copy(update={"judge": address}), print)
    drawn = pq.read_table(job.output / "rollouts.parquet").to_pylist()
    assert len(drawn) == 16 and judge.asked > 0
    for start in range(0, 16, 4):
        rewards = [row["reward"] for row in drawn[start : start + 4]]
        texts = {row["completion"] for row in drawn[start : start + 4]}
        assert len({round(reward, 4) for reward in rewards}) <= len(texts)
    steps = [entry for entry in read_metrics(job.output) if "reward" in entry]
    assert [entry["reward"] for entry in steps] == pytest.approx([0, 0], abs=1e-6)
