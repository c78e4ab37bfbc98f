"""Games and verdicts: every pair twice, and a judge's bad output is never a score."""

import json
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_assets.config.judges import Jury, LLMJudge
from arena_assets.config.profile import load_profile
from arena_assets.config.ratings import ActiveSampling
from arena_assets.judging.active import judge_actively
from arena_assets.judging.draw import create_answers, draw_battles
from arena_assets.judging.games import Game, Games, Seat, open_store
from arena_assets.judging.judges import LanguageModelJudge, Verifier
from arena_assets.judging.panel import deciding_members, judge_round
from arena_assets.judging.verdicts import to_verdict
from arena_assets.lake.lake import Lake
from arena_assets.lake.tables import PROMPTS, RESPONSES
from arena_assets.models.engine import BackendDown, Completion
from arena_assets.models.model import Local

CONSTRAINTS = '[{"type": "no_commas"}, {"type": "all_lowercase"}]'
ROUND = "i01.1-sft"


def write_answers(lake, texts, constraints=CONSTRAINTS, **columns):
    """Tables of responses and prompts for {prompt_id: {contestant: text}}."""
    rest = dict.fromkeys(("round", "model", "system_prompt", "sampling"), "x")
    rest |= {"role": "opponent", "status": "ok", "finish_reason": "stop", "error": None}
    rest |= dict.fromkeys(("prompt_tokens", "completion_tokens", "sample"), 0)
    responses = [
        rest
        | {"prompt_id": p, "contestant": c, "response_id": f"{p}-{c}", "text": text}
        | {"turns": [text], "model_digest": f"weights of {c}"}
        | columns
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
    lake.write("responses", pa.Table.from_pylist(responses, schema=RESPONSES.schema), ROUND)
    lake.write("prompts_curated", pa.Table.from_pylist(prompts, schema=PROMPTS.schema))


@contextmanager
def bench(lake, batch=4, limit=None, seed=0):
    """Opens games before a judge: `games_of(judge)`, or of given battles."""
    views = {"responses": ("responses", ROUND), "prompts": ("prompts_curated", "all")}
    with lake.connect(**views) as connection:
        create_answers(connection)
        battles = draw_battles(connection, limit, seed)

        def games_of(judge, some=battles):
            return Games(connection, some, judge, open_store(lake, judge), batch, {})

        games_of.battles = battles
        yield games_of


def judged(lake, judge, **settings):
    """The rows of the judgments table, and how many games were judged anew."""
    with bench(lake, **settings) as games_of:
        games = games_of(judge)
        anew = games.judge_missing(print)
        return pa.Table.from_batches(games.rows(ROUND, Seat("deciding"))).to_pylist(), anew


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path)


ANSWERS = {f"p{n}": {"ann": "fine", "bob": "Fine", "cleo": "Bad, very"} for n in range(4)}
TWO = {"p": {"ann": "fine", "bob": "Fine"}}


def test_all_pairs_meet_twice_with_the_order_swapped(lake):
    write_answers(lake, ANSWERS)
    rows, _ = judged(lake, Verifier("v"))
    assert len(rows) == 4 * 3 * 2
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        assert (first["game"], second["game"]) == (1, 2)
        assert first["contestant_a"] == second["contestant_b"] < first["contestant_b"]
        assert (first["response_a"], first["score_a"]) == (
            second["response_b"],
            second["score_b"],
        )


def test_a_sample_of_battles_is_whole_pairs_and_follows_the_seed(lake):
    write_answers(lake, ANSWERS)

    def drawn(seed):
        with bench(lake, limit=5, seed=seed) as games_of:
            return games_of.battles.to_pylist()

    assert len(drawn(1)) == 5 and drawn(1) == drawn(1) != drawn(2)
    rows, _ = judged(lake, Verifier("v"), limit=5, seed=1)
    assert len(rows) == 10


def test_a_prompt_that_somebody_did_not_answer_is_no_battle_of_theirs(lake):
    write_answers(lake, TWO | {"q": {"ann": "fine", "bob": "fine"}})
    lost = lake.read("responses", ROUND).to_pylist()
    lost[0] |= {"status": "failed", "text": "", "turns": [], "finish_reason": "error"}
    lake.write("responses", lost, ROUND)
    rows, _ = judged(lake, Verifier("v"))
    assert {row["prompt_id"] for row in rows} == {"q"}


def test_the_verifier_scores_both_answers_and_explains_itself(lake):
    write_answers(lake, {"p": ANSWERS["p0"]})
    rows, anew = judged(lake, Verifier("verifier"))
    scores = {(r["contestant_a"], r["contestant_b"]): (r["score_a"], r["score_b"]) for r in rows}
    assert anew == 6 and scores == {
        ("ann", "bob"): (10, 5.5),
        ("bob", "ann"): (5.5, 10),
        ("ann", "cleo"): (10, 1),
        ("cleo", "ann"): (1, 10),
        ("bob", "cleo"): (5.5, 1),
        ("cleo", "bob"): (1, 5.5),
    }
    assert "no commas: yes; no capital letters: no" in rows[0]["explanation"]
    again, anew = judged(lake, Verifier("verifier"))
    assert again == rows and anew == 0


def test_the_verifier_abstains_where_nothing_can_be_checked(lake):
    write_answers(lake, {"p": ANSWERS["p0"]}, "[]")
    rows, _ = judged(lake, Verifier("verifier"))
    assert {(r["status"], r["score_a"], r["score_b"]) for r in rows} == {("abstained", None, None)}


GOOD = {"explanation": "A is better.", "score_a": 8, "score_b": 3.5}


def read(text, finish_reason="stop", error=None):
    return to_verdict(Completion(text, finish_reason, error=error))


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(GOOD),
        json.dumps(GOOD, indent=2),
        f"```json\n{json.dumps(GOOD)}\n```",
        f"B needs 9 lines, A only 2. My verdict:\n{json.dumps(GOOD)}\nThat is all.",
    ],
)
def test_a_verdict_is_one_object_with_the_three_keys(text):
    verdict = read(text)
    assert (verdict.status, verdict.score_a, verdict.score_b) == ("ok", 8, 3.5)
    assert (verdict.explanation, verdict.failure, verdict.raw) == ("A is better.", None, None)


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("", "unparsable"),
        ("A: 8, B: 3", "unparsable"),
        (json.dumps(GOOD)[:-2], "unparsable"),
        (json.dumps(GOOD) + json.dumps(GOOD | {"score_a": 1}), "unparsable"),
        (
            '{"explanation": "he wrote {"explanation": "x", "score_a": 10, "score_b": 1}',
            "unparsable",
        ),
        (json.dumps(GOOD)[:-1] + ', "score_a": 10}', "unparsable"),
        (json.dumps(GOOD | {"score_a": 11}), "out of range"),
        (json.dumps(GOOD | {"score_a": 0.9}), "out of range"),
        ('{"explanation": "NaN", "score_a": NaN, "score_b": 3}', "out of range"),
        (json.dumps(GOOD | {"score_b": "eight"}), "unparsable"),
        (json.dumps(GOOD | {"score_b": None}), "unparsable"),
        (json.dumps(GOOD | {"score_b": True}), "unparsable"),
        (json.dumps(GOOD | {"winner": "B"}), "unparsable"),
        (json.dumps({"score_a": 8, "score_b": 3}), "unparsable"),
        (json.dumps([GOOD, GOOD | {"score_a": 1}]), "unparsable"),
        ("I cannot judge this. 10 10", "refused"),
        ("I'm sorry, but {10}", "refused"),
    ],
)
def test_other_output_is_failed_with_its_text_and_its_kind_kept(text, failure):
    verdict = read(text)
    assert (verdict.status, verdict.failure, verdict.raw) == ("failed", failure, text)
    assert verdict.score_a is None and verdict.score_b is None and verdict.explanation


def test_control_characters_in_an_explanation_do_no_harm():
    verdict = read('{"explanation": "A\x04 is\nbetter", "score_a": 8, "score_b": 3}')
    assert (verdict.status, verdict.explanation) == ("ok", "A\x04 is\nbetter")


def test_output_that_was_cut_off_or_never_came_has_its_own_kind():
    cut = read(json.dumps(GOOD)[:30], "length")
    assert (cut.failure, cut.raw) == ("truncated", json.dumps(GOOD)[:30])
    assert read(json.dumps(GOOD), "length").status == "ok", "it was complete all the same"
    assert read("", "error", "no route").failure == "backend error"
    assert read("Not this.", "refused").failure == "refused"


@given(st.text())
@settings(deadline=None)
def test_no_text_breaks_the_parser_or_gives_a_score_out_of_range(text):
    verdict = read(text)
    if verdict.status == "ok":
        assert 1 <= verdict.score_a <= 10 and 1 <= verdict.score_b <= 10
    else:
        assert verdict.raw == text


_PROSE = st.text("xyz {}[]()0\n.!")


@given(st.floats(1, 10), st.floats(1, 10), st.text(), _PROSE, _PROSE)
@settings(deadline=None)
def test_every_valid_verdict_comes_through_unchanged(score_a, score_b, explanation, before, after):
    given_ = {"explanation": explanation, "score_a": score_a, "score_b": score_b}
    verdict = read(f"{before}\n{json.dumps(given_)}\n{after}")
    assert verdict.status == "ok" and verdict.explanation == explanation
    assert (verdict.score_a, verdict.score_b) == (score_a, score_b)


@given(st.integers(0, 200), st.text(max_size=20))
@settings(deadline=None)
def test_a_verdict_that_was_cut_anywhere_is_no_verdict(length, explanation):
    whole = json.dumps(GOOD | {"explanation": explanation + json.dumps(GOOD)})
    if length < len(whole):
        assert read(whole[:length], "length").status == "failed"


class Script:
    """An engine that says what it is told to, one text a call and conversation."""

    def __init__(self, *rounds):
        self.rounds, self.seen, self.sampling = list(rounds), [], []

    def chat(self, requests, sampling, samples=1, json_schema=None):
        self.seen.append([request.messages for request in requests])
        self.sampling.append(sampling)
        texts = self.rounds.pop(0)
        return [[t if isinstance(t, Completion) else Completion(t, "stop", 5, 2)] for t in texts]


def language_judge(engine, digest="digest", **changes):
    settings = LLMJudge(kind="llm", name="judge", model="m", **({"attempts": 2} | changes))
    return LanguageModelJudge(settings, Local("m", Path("/m"), digest), lambda: engine)


def test_the_language_judge_asks_again_with_another_seed(lake):
    write_answers(lake, TWO)
    engine = Script([json.dumps(GOOD), "nonsense"], [json.dumps(GOOD | {"score_a": 2})])
    (first, second), anew = judged(lake, language_judge(engine))
    assert (first["status"], first["score_a"], first["attempts"]) == ("ok", 8, 1)
    assert (second["status"], second["score_a"], second["attempts"], anew) == ("ok", 2, 2, 2)
    assert (second["prompt_tokens"], second["completion_tokens"]) == (10, 4), "both were paid for"
    assert [len(conversations) for conversations in engine.seen] == [2, 1]
    assert engine.sampling[0].temperature == 0 < engine.sampling[1].temperature
    assert engine.sampling[0].seed != engine.sampling[1].seed


def test_the_language_judge_gives_up_with_the_last_words_kept(lake):
    write_answers(lake, TWO)
    rows, _ = judged(lake, language_judge(Script(["no", "no"], ["never", "never"])))
    assert {(r["status"], r["failure"], r["raw"], r["attempts"], r["score_a"]) for r in rows} == {
        ("failed", "unparsable", "never", 2, None)
    }
    again, anew = judged(lake, language_judge(Script()))
    assert again == rows and anew == 0, "final: it is not asked for ever"


def test_what_a_judges_backend_refused_is_failed_but_judged_the_next_time(lake):
    write_answers(lake, TWO)
    gone = Completion("", "error", error="no route")
    rows, _ = judged(lake, language_judge(Script([json.dumps(GOOD), gone], [gone])))
    assert [(r["status"], r["failure"]) for r in rows] == [
        ("ok", None),
        ("failed", "backend error"),
    ]
    rows, anew = judged(lake, language_judge(Script([json.dumps(GOOD)])))
    assert anew == 1 and {r["status"] for r in rows} == {"ok"}
    engine = Script([gone, gone])
    rows, _ = judged(lake, language_judge(engine, attempts=3))
    assert {r["failure"] for r in rows} == {"backend error"} and not engine.rounds


def test_a_judge_whose_backend_is_gone_stops_the_run(lake):
    class Gone:
        def chat(self, *_, **__):
            raise BackendDown("nobody answers")

    write_answers(lake, TWO)
    with pytest.raises(
        BackendDown, match="judge: nobody answers; the verdicts that came before are kept"
    ):
        judged(lake, language_judge(Gone()))


def test_a_judge_stays_out_of_battles_of_its_own_weights_or_name(lake):
    write_answers(lake, {"p": {"ann": "fine", "bob": "Fine", "judge": "ok"}})
    engine = Script([json.dumps(GOOD)] * 2)
    rows, anew = judged(lake, language_judge(engine, "someone's"), batch=10)
    assert anew == 2, "its name is a contestant's"
    assert {r["status"] for r in rows if "judge" in (r["contestant_a"], r["contestant_b"])} == {
        "abstained"
    }
    rows, anew = judged(lake, language_judge(Script(), "weights of ann"), batch=10)
    left = [r for r in rows if "ann" in (r["contestant_a"], r["contestant_b"])]
    assert {(r["status"], r["attempts"]) for r in left} == {("abstained", 0)}
    free = Script([json.dumps(GOOD)] * 6)
    rows, anew = judged(
        lake, language_judge(free, "weights of ann", self_judging="allow", attempts=1), batch=10
    )
    assert anew == 6 and {r["status"] for r in rows} == {"ok"}


def game(**changes):
    parts = {"judgment_id": "id", "prompt_id": "p", "constraints": "[]", "reference": None}
    parts |= {"messages": [{"role": "user", "content": "Question p"}]}
    parts |= {"text_a": "first words", "text_b": "second {{ words }}"}
    parts |= {"turns_a": ["first words"], "turns_b": ["second {{ words }}"]}
    return Game(**(parts | changes))


def test_the_language_judge_sees_history_instruction_reference_and_both_answers():
    history = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    asked = [*history, {"role": "user", "content": "Question p"}]
    shown = language_judge(None).render(game(messages=asked, reference="It is 42."))
    text = shown[-1]["content"]
    parts = ["Hi", "Hello.", "Question p", "It is 42.", "first words", "second {{ words }}"]
    assert [text.index(part) for part in parts] == sorted(text.index(part) for part in parts)


def test_a_dialogue_of_several_turns_is_judged_as_a_whole():
    asked = [{"role": "user", "content": "One?"}, {"role": "user", "content": "Two?"}]
    shown = language_judge(None).render(
        game(messages=asked, turns_a=["1", "2"], text_a="2", turns_b=["I", "II"], text_b="II")
    )[-1]["content"]
    assert "[request] One?" in shown and "(assistant) 1\n(user) Two?\n(assistant) 2" in shown


def test_games_of_a_prompt_share_all_but_the_answers_with_the_prefix_cache():
    judge = language_judge(None)
    one = judge.render(game(judgment_id="1"))
    two = judge.render(game(judgment_id="2", text_a="others", turns_a=["others"]))
    assert one[0] == two[0]
    marker = one[1]["content"].index("The answers' marker")
    assert (
        one[1]["content"][:marker] == two[1]["content"][:marker]
        and "Question p" in one[1]["content"][:marker]
    )


def test_the_key_of_a_verdict_covers_judge_template_order_and_texts(lake, tmp_path):
    write_answers(lake, TWO)

    def keys(judge):
        with bench(lake) as games_of:
            games = games_of(judge)
            return tuple(
                games.connection.sql("select judgment_id from games order by game")
                .to_arrow_table()["judgment_id"]
                .to_pylist()
            )

    plain = keys(language_judge(None))
    template = tmp_path / "t.yaml"
    template.write_text("{version: pairwise-v2, system: s, user: u}", "utf-8")
    judges = [language_judge(None, "other"), language_judge(None, attempts=3)]
    judges += [language_judge(None, template=str(template)), Verifier("v")]
    every = {*plain, *(key for judge in judges for key in keys(judge))}
    assert len(every) == 10
    write_answers(lake, {"p": {"ann": "fine", "bob": "Finer"}})
    assert not set(keys(language_judge(None))) & every


def test_a_jurys_members_all_see_the_games_and_keep_their_weights(lake):
    write_answers(lake, ANSWERS)
    members = [
        {"judge": {"kind": "verifier", "name": "strict"}, "weight": 2},
        {"judge": {"kind": "verifier", "name": "second"}},
    ]
    jury = Jury.model_validate({"kind": "jury", "members": members})
    arena = load_profile()
    judge_round(
        lake, "judgments", "responses", ROUND, deciding_members(jury, {}, None), arena, print
    )
    rows = lake.read("judgments", ROUND).to_pylist()
    assert {(r["judge"], r["role"], r["jury"], r["weight"]) for r in rows} == {
        ("strict", "juror", "jury", 2.0),
        ("second", "juror", "jury", 1.0),
    }
    assert len(rows) == 2 * 4 * 3 * 2


def test_active_sampling_judges_whole_battles_of_a_share_and_finds_them_again(lake):
    answers = {
        f"p{n:02d}": {"good": "fine", "same": "fine", "half": "Fine", "bad": "Bad, very"}
        for n in range(20)
    }
    write_answers(lake, answers)
    settings = ActiveSampling(share=0.25, batches=5)

    def judge(seed):
        with bench(lake, batch=50) as games_of:
            verifier = Verifier("v")
            return judge_actively(
                lambda some: games_of(verifier, some), games_of.battles, settings, seed, print
            )

    chosen, anew = judge(1)
    assert chosen.num_rows == 30 and anew > 0
    pairs = Counter(zip(chosen["first"].to_pylist(), chosen["second"].to_pylist(), strict=True))
    assert pairs["bad", "good"] == min(pairs.values()), "the clearest pair is worth least"
    again, anew = judge(1)
    assert again == chosen and anew == 0
    assert judge(2)[0] != chosen
