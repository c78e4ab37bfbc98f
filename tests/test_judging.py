"""Games and verdicts: every pair twice, and a judge's bad output is never a score."""

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_assets.config import ActiveSampling, LLMJudge
from arena_assets.generation.contestants import Weights
from arena_assets.generation.engines import Completion
from arena_assets.judging.active import judge_actively
from arena_assets.judging.games import judge_games, open_store, pair_up
from arena_assets.judging.judges import LanguageModelJudge, Verifier, parse_verdict
from arena_assets.tables import PROMPTS

CONSTRAINTS = '[{"type": "no_commas"}, {"type": "all_lowercase"}]'


def tables(texts, constraints=CONSTRAINTS):
    """Responses and prompts for {prompt_id: {contestant: text}}."""
    responses = [
        {"prompt_id": p, "contestant": c, "response_id": f"{p}-{c}", "text": text}
        for p, answers in texts.items()
        for c, text in answers.items()
    ]
    prompts = [
        {
            "prompt_id": p,
            "source": "test",
            "messages": [{"role": "user", "content": f"Question {p}"}],
            "constraints": constraints,
            "category": "test",
            "reference": None,
        }
        for p in texts
    ]
    return pa.Table.from_pylist(responses), pa.Table.from_pylist(prompts, schema=PROMPTS.schema)


ANSWERS = {f"p{n}": {"ann": "fine", "bob": "Fine", "cleo": "Bad, very"} for n in range(4)}


def test_all_pairs_meet_twice_with_the_order_swapped():
    games = pair_up(*tables(ANSWERS), None, 0)
    assert len(games) == 4 * 3 * 2
    for first, second in zip(games[::2], games[1::2], strict=True):
        assert (first.game, second.game) == (1, 2)
        assert (first.contestant_a, first.text_a) == (second.contestant_b, second.text_b)
        assert (first.contestant_b, first.response_b) == (second.contestant_a, second.response_a)


def test_a_sample_of_battles_is_whole_pairs_and_follows_the_seed():
    sample = pair_up(*tables(ANSWERS), 5, 1)
    assert len(sample) == 10 and sample == pair_up(*tables(ANSWERS), 5, 1)
    assert sample != pair_up(*tables(ANSWERS), 5, 2)
    pairs = {(g.prompt_id, frozenset((g.contestant_a, g.contestant_b))) for g in sample}
    assert len(pairs) == 5


def test_the_verifier_scores_both_answers_and_explains_itself(tmp_path):
    games = pair_up(*tables({"p": ANSWERS["p0"]}), None, 0)
    rows, judged = judge_games(Verifier("verifier"), games, open_store(tmp_path), 4, print)
    scores = {(r["contestant_a"], r["contestant_b"]): (r["score_a"], r["score_b"]) for r in rows}
    assert judged == 6 and scores == {
        ("ann", "bob"): (10, 5.5),
        ("bob", "ann"): (5.5, 10),
        ("ann", "cleo"): (10, 1),
        ("cleo", "ann"): (1, 10),
        ("bob", "cleo"): (5.5, 1),
        ("cleo", "bob"): (1, 5.5),
    }
    assert "no commas: yes; no capital letters: no" in rows[0]["explanation"]
    again, judged = judge_games(Verifier("verifier"), games, open_store(tmp_path), 4, print)
    assert again == rows and judged == 0


def test_the_verifier_abstains_where_nothing_can_be_checked(tmp_path):
    games = pair_up(*tables({"p": ANSWERS["p0"]}, "[]"), None, 0)
    rows, _ = judge_games(Verifier("verifier"), games, open_store(tmp_path), 100, print)
    assert {(r["status"], r["score_a"], r["score_b"]) for r in rows} == {("abstained", None, None)}


GOOD = {"explanation": "A is better.", "score_a": 8, "score_b": 3.5}


def test_a_verdict_is_an_object_with_exactly_the_three_keys():
    verdict = parse_verdict(json.dumps(GOOD), 2)
    assert (verdict.status, verdict.score_a, verdict.score_b) == ("ok", 8, 3.5)
    assert (verdict.explanation, verdict.attempts, verdict.raw) == ("A is better.", 2, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A: 8, B: 3",
        json.dumps(GOOD)[:-2],
        json.dumps(GOOD) + " and that is my verdict",
        json.dumps(GOOD | {"score_a": 11}),
        json.dumps(GOOD | {"score_a": 0.9}),
        json.dumps(GOOD | {"score_b": "8"}),
        json.dumps(GOOD | {"score_b": None}),
        json.dumps(GOOD | {"score_b": True}),
        json.dumps(GOOD | {"winner": "A"}),
        json.dumps({"score_a": 8, "score_b": 3}),
        json.dumps([GOOD]),
        '{"explanation": "NaN", "score_a": NaN, "score_b": 3}',
        "I cannot judge this. 10 10",
    ],
)
def test_other_output_is_failed_with_its_text_kept(text):
    verdict = parse_verdict(text)
    assert (verdict.status, verdict.raw) == ("failed", text)
    assert verdict.score_a is None and verdict.score_b is None and verdict.explanation


@given(st.text())
def test_no_text_breaks_the_parser_or_gives_a_score_out_of_range(text):
    verdict = parse_verdict(text)
    if verdict.status == "ok":
        assert 1 <= verdict.score_a <= 10 and 1 <= verdict.score_b <= 10
    else:
        assert verdict.raw == text


@given(st.floats(1, 10), st.floats(1, 10), st.text())
def test_every_valid_verdict_comes_through_unchanged(score_a, score_b, explanation):
    given_ = {"explanation": explanation, "score_a": score_a, "score_b": score_b}
    verdict = parse_verdict(json.dumps(given_))
    assert verdict.status == "ok" and verdict.explanation == explanation
    assert (verdict.score_a, verdict.score_b) == (score_a, score_b)


class Script:
    """An engine that says what it is told to, one text a call and conversation."""

    def __init__(self, *rounds):
        self.rounds, self.seen, self.sampling = list(rounds), [], []

    def chat(self, conversations, sampling, samples=1, json_schema=None):
        self.seen.append(conversations)
        self.sampling.append(sampling)
        return [[Completion(text, "stop", 1, 1)] for text in self.rounds.pop(0)]


def language_judge(engine, attempts=2):
    settings = LLMJudge(kind="llm", name="judge", model="m", attempts=attempts)
    return LanguageModelJudge(settings, Weights("m", Path("/m"), "digest"), lambda: engine)


def test_the_language_judge_asks_again_where_output_cannot_be_used():
    games = pair_up(*tables({"p": {"ann": "fine", "bob": "Fine"}}), None, 0)
    engine = Script([json.dumps(GOOD), "nonsense"], [json.dumps(GOOD | {"score_a": 2})])
    first, second = language_judge(engine).judge(games)
    assert (first.status, first.score_a, first.attempts) == ("ok", 8, 1)
    assert (second.status, second.score_a, second.attempts) == ("ok", 2, 2)
    assert [len(conversations) for conversations in engine.seen] == [2, 1]
    assert engine.sampling[0].temperature == 0 < engine.sampling[1].temperature


def test_the_language_judge_gives_up_with_the_last_words_kept(tmp_path):
    games = pair_up(*tables({"p": {"ann": "fine", "bob": "Fine"}}), None, 0)
    engine = Script(["no", "no"], ["never", "never"])
    rows, _ = judge_games(language_judge(engine), games, open_store(tmp_path), 10, print)
    assert {(r["status"], r["raw"], r["attempts"], r["score_a"]) for r in rows} == {
        ("failed", "never", 2, None)
    }


def test_the_language_judge_sees_history_instruction_and_both_answers():
    (game, _) = pair_up(
        *tables({"p": {"ann": "first words", "bob": "second {{ words }}"}}), None, 0
    )
    judge = language_judge(Script())
    shown = judge.render(game)[-1]["content"]
    assert "Question p" in shown
    assert shown.index("first words") < shown.index("second {{ words }}")
    schema = judge.schema()
    assert list(schema["properties"]) == ["explanation", "score_a", "score_b"], "reasons come first"


def test_the_key_of_a_verdict_covers_judge_template_order_and_texts():
    one, swapped = pair_up(*tables({"p": {"ann": "fine", "bob": "Fine"}}), None, 0)
    judge = language_judge(Script())
    settings = judge.settings
    other = LanguageModelJudge(settings, Weights("m", Path("/m"), "other"), Script)
    patient = language_judge(Script(), attempts=3)
    keys = {judge.key(one), judge.key(swapped), other.key(one), patient.key(one)}
    assert len(keys) == 4 and judge.key(one) == language_judge(None).key(one)
    assert Verifier("a").key(one) == Verifier("b").key(one) != Verifier("a").key(swapped)


def test_active_sampling_judges_whole_battles_of_a_share_and_finds_them_again(tmp_path):
    answers = {
        f"p{n:02d}": {"good": "fine", "same": "fine", "half": "Fine", "bad": "Bad, very"}
        for n in range(20)
    }
    games = pair_up(*tables(answers), None, 0)
    settings = ActiveSampling(share=0.25, batches=5)
    store = open_store(tmp_path)

    def judge(seed):
        return judge_actively(Verifier("v"), games, store, settings, seed, 50, print)

    rows, judged = judge(1)
    assert len(rows) == 2 * 30 and judged > 0
    battles = Counter(
        (r["prompt_id"], *sorted((r["contestant_a"], r["contestant_b"]))) for r in rows
    )
    assert set(battles.values()) == {2}, "both games of every battle"
    pairs = Counter(key[1:] for key in battles)
    assert pairs["bad", "good"] == min(pairs.values()), "the clearest pair is worth least"
    again, anew = judge(1)
    assert again == rows and anew == 0
    assert judge(2)[0] != rows
