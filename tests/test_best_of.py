"""Which sample of several is the answer: a whole one, by the constraints or by agreement."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_generation import NO_COMMAS, Echo, answer, contestant, lake, prompt, user  # noqa: F401
from typer.testing import CliRunner

from arena_assets.cli.main import app
from arena_assets.config.models import Sampling
from arena_assets.config.places import PROJECT
from arena_assets.config.profile import Profile, load_profile
from arena_assets.generation.best_of import choose, note_on_picks, reason_of_turns
from arena_assets.hostile_text import shows_nothing
from arena_assets.models.engine import Completion

LONE = "completely different words here"


def samples(*drawn):
    return [Completion(*((one, "stop") if isinstance(one, str) else one)) for one in drawn]


@pytest.mark.parametrize(
    ("drawn", "constraints", "kept"),
    [
        (["", "said"], "[]", 1),
        ([" \n\t", "said"], NO_COMMAS, 1),
        ([("half a", "length"), "whole"], "[]", 1),
        ([("half a", "length"), "whole, with a comma"], NO_COMMAS, 1),
        ([("half a", "MAX_TOKENS"), ("whole", "eos_token")], "[]", 1),
        ([("half a", "Max-Tokens"), ("whole", "")], "[]", 1),
        ([("I cannot", "content_filter"), "whole"], "[]", 1),
        (["\u200b\ufeff", "said"], "[]", 1),
        (["\u2060 \u00ad", "said, and more"], NO_COMMAS, 1),
        ([("", "error"), ("", "refused"), "whole"], "[]", 2),
        ([("", "stop"), ("half a", "length")], "[]", 1),
        ([("", "error"), ("", "error")], "[]", 0),
        (["a, b", "a b", "a c"], NO_COMMAS, 1),
        ([LONE, "the sky is blue", "the sky is mostly blue"], "[]", 1),
        ([LONE, "Der Himmel ist blau.", "der himmel ist BLAU!"], "[]", 1),
        (["one two", "two one", LONE], "[]", 0),
        ([("the sky is blue", "length"), LONE, "the sky is blue"], "[]", 1),
        (["?", "!", "..."], "[]", 0),
    ],
)
def test_the_sample_to_keep(drawn, constraints, kept):
    assert choose(samples(*drawn), constraints) == kept


@given(
    st.lists(
        st.tuples(st.text(max_size=8), st.sampled_from(["stop", "length", "refused", "eos", ""])),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["[]", NO_COMMAS]),
)
@settings(max_examples=100, deadline=None)
def test_an_incomplete_sample_is_kept_only_where_no_whole_one_was_drawn(drawn, constraints):
    kept_text, kept_reason = drawn[choose(samples(*drawn), constraints)]
    told = [(text, reason) for text, reason in drawn if not shows_nothing(text)]
    whole = [text for text, reason in told if reason not in ("length", "refused")]
    if whole:
        assert kept_text in whole and kept_reason not in ("length", "refused")
    elif told:
        assert not shows_nothing(kept_text)


class Draws(Echo):
    """An engine whose samples are given."""

    def __init__(self, *drawn):
        super().__init__()
        self.drawn = samples(*drawn)

    def chat(self, requests, sampling, samples=1, json_schema=None):
        return [self.drawn[:samples] for _ in requests]


def test_a_best_of_contestant_without_constraints_does_not_keep_what_is_empty_or_cut_off(lake):  # noqa: F811
    who = contestant(best_of=3, sampling=Sampling(temperature=1.0))
    engine = Draws("", ("half a", "length"), "whole")
    (row,), _ = answer(lake, who, [prompt(1, "[]")], engine)
    assert (row["text"], row["sample"], row["finish_reason"]) == ("whole", 2, "stop")


def test_a_turn_that_was_cut_off_marks_the_whole_exchange(lake):  # noqa: F811
    class Turns(Echo):
        def chat(self, requests, sampling, samples=1, json_schema=None):
            self.calls += 1
            return [[Completion("said", "length" if self.calls == 1 else "stop")] for _ in requests]

    dialogue = [user("One"), user("Two")]
    (row,), _ = answer(lake, contestant(), [prompt(1, "[]", dialogue)], Turns())
    assert row["turns"] == ["said", "said"] and row["finish_reason"] == "length"
    assert reason_of_turns("stop", "length") == "length" == reason_of_turns("length", "eos")
    assert reason_of_turns("length", "error") == "error", "which is asked for again"


def test_a_board_says_whose_samples_its_judge_has_picked():
    pocket = load_profile(PROJECT / "profiles/pocket.yaml")
    assert note_on_picks(pocket).startswith("the verifier picked the samples of best-of-3")

    def with_judge(judge) -> Profile:
        return Profile.model_validate(pocket.model_dump() | {"judge": judge, "shadow_judges": []})

    llm = {"kind": "llm", "name": "asked", "model": "smollm2-135m"}
    assert note_on_picks(with_judge(llm)) is None
    jury = {"kind": "jury", "members": [{"judge": llm}, {"judge": {"kind": "verifier"}}]}
    assert note_on_picks(with_judge(jury)) is not None
    (best_of,) = [opponent for opponent in pocket.opponents if opponent.best_of > 1]
    assert best_of.sampling.max_tokens == pocket.target.sampling.max_tokens, "a fair fight"


def test_the_leaderboard_on_the_terminal_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("ARENA_LAKE", str(tmp_path))
    row = {"rank": 1, "contestant": "best-of-2", "rating": 1000.0, "lower": 990.0, "upper": 1010.0}
    row |= {"points": 0.5, "mean_score": 5.0, "battles": 2}
    (tmp_path / "leaderboard").mkdir()
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "leaderboard/i01.1-sft.parquet")
    note = "the verifier picked the samples of best-of-2 and judges them too"
    assert note in CliRunner().invoke(app, ["leaderboard"]).output
    found = json.loads(CliRunner().invoke(app, ["leaderboard", "--format", "json"]).output)
    assert found["note"].startswith(note)
