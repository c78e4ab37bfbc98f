"""Raw outputs of judges with what is right: read rightly, or failed, and never read wrongly."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_assets.curation.difficulty import Rating, read_rating
from arena_assets.judging.verdicts import to_verdict
from arena_assets.models.engine import Completion

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "verdicts.jsonl").read_text("utf-8").splitlines()
]
JSON = '{"explanation": "A cites, B guesses.", "score_a": 8, "score_b": 5}'
SCORES = '"score_a": 8, "score_b": 5'
OTHER = '{"explanation": "B is kinder.", "score_a": 3, "score_b": 9}'

READ = {  # to 8 and 5
    "reasoning with a bracket": f"<think>The set [1, 2] is in A. Hm {{</think>\n{JSON}",
    "reasoning with a draft": f"<think>Perhaps {OTHER}? No.</think>{JSON}",
    "reasoning that the template opened": f"Perhaps {OTHER}? No.\n</think>\n{JSON}",
    "reasoning in another tag": f"<reasoning>Perhaps {OTHER}</reasoning>\n<answer>{JSON}</answer>",
    "harmony": (
        f"<|channel|>analysis<|message|>Perhaps {OTHER}<|end|><|start|>assistant<|channel|>final "
        f"<|constrain|>json<|message|>{JSON}<|return|>"
    ),
    "Mistral": f"[THINK]Perhaps {OTHER}[/THINK]{JSON}",
    "prose with braces": f"A writes f(x) = {{x}}, the set {{1, 2}} and \\frac{{1}}{{2}}.\n{JSON}",
    "prose with code": f"A's `if (a) {{ return [1]; }}` is right.\n{JSON}",
    "prose with an object": f'A gives {{"name": "Ann", "age": 7}} as asked.\n{JSON}',
    "prose with a Python set": f"A gives {{'x', 'y'}}, B nothing.\n{JSON}",
    "prose with an opening brace": f"B forgets a closing {{ in line 3.\n\n{JSON}",
    "the format repeated": (
        'I answer as {"explanation": ..., "score_a": ..., "score_b": ...}.\n\n' + JSON
    ),
    "placeholders": f'{{"explanation": "...", "score_a": <1-10>, "score_b": N}}\n{JSON}',
    "scores in prose before": f"A deserves 9/10 for form, 7/10 for content.\n\n{JSON}",
    "a list before": f"1. A cites.\n2. B guesses.\n\n{JSON}",
    "a heading before": f"## Verdict\n\n{JSON}",
    "on the same line": f"My verdict: {JSON}",
    "on the same line, in bold": f"**Verdict:** {JSON}",
    "after an invitation": f"I'd like to share my verdict on answer A and answer B:\n{JSON}",
    "after a summary": f"Answer A contains a source, including its date.\n\n{JSON}",
    "after a copula": f"My verdict on both is {JSON}",
    "in another tag": f"<analysis>A cites.</analysis>\n<output>{JSON}</output>",
    "after a full stop": f"A is better. {JSON}",
    "a link before": f"See [the guide](https://example.org/a?b={{c}}).\n{JSON}",
    "a link after": f"{JSON}\n\nSource: [the guide](https://example.org/2024/5)",
    "an address after": f"{JSON}\nhttps://example.org/v1/9",
    "a citation after": f"{JSON}\n[1] The guide",
    "a kind word after": f"{JSON}\n\nI hope this helps! Let me know if I should change anything.",
    "the scores again": f"{JSON}\n\n**Score A:** 8\n**Score B:** 5/10",
    "in parentheses": f"({JSON})",
    "points": '{"explanation": "x", "score_a": "8 points", "score_b": "5/10"}',
    "agreement after": f"{JSON}\n\nOverall, A is the better answer.",
    "a verdict label after": f"{JSON}\n\n[[A>B]]",
    "a fence with words": f"Here it is:\n\n```JSON\n{JSON}\n```\n\nThat is my view.",
    "a tilde fence": f"~~~\n{JSON}\n~~~",
    "inline code": f"Verdict: `{JSON}`",
    "a tag": f"<verdict>\n{JSON}\n</verdict>",
    "special tokens": f"<|im_start|>assistant\n{JSON}<|im_end|><|endoftext|>",
    "twice the same": f"{JSON}\n\n```json\n{JSON}\n```",
    "twice the same scores": f"{JSON}\n" + JSON.replace("guesses", "errs"),
    "doubled braces": f"{{{JSON}}}",
    "in a list": f"[{JSON}]",
    "in a wrapper": f'{{"verdict": {JSON}}}',
    "as a tool call": f'<tool_call>{{"name": "judge", "arguments": {JSON}}}</tool_call>',
    "nested scores": '{"explanation": "x", "scores": {"score_a": 8, "score_b": 5}}',
    "nested sides": '{"explanation": "x", "scores": {"A": 8, "B": 5}}',
    "written as JSON twice": json.dumps(JSON),
    "upper-case keys": '{"EXPLANATION": "x", "SCORE_A": 8, "SCORE_B": 5}',
    "mixed-case keys": '{"Explanation": "x", "Score_A": 8, "Score_B": 5}',
    "keys with blanks": '{"Explanation": "x", "Score A": 8, "Score B": 5}',
    "keys with hyphens": '{"explanation": "x", "score-a": 8, "score-b": 5}',
    "camel keys": '{"explanation": "x", "scoreA": 8, "scoreB": 5}',
    "blanks in keys": '{" explanation ": "x", "score_a ": 8, "score_b": 5}',
    "bare keys": '{explanation: "x", score_a: 8, score_b: 5}',
    "other keys": f'{{"explanation": "x", {SCORES}, "confidence": 0.9, "winner": "A"}}',
    "strings": '{"explanation": "x", "score_a": "8", "score_b": " 5.0 "}',
    "out of ten": '{"explanation": "x", "score_a": "8/10", "score_b": "5 / 10"}',
    "in words": '{"explanation": "x", "score_a": "8 out of 10", "score_b": "5 OUT OF 10"}',
    "out of ten, bare": '{"explanation": "x", "score_a": 8/10, "score_b": 5 out of 10}',
    "a point zero": '{"explanation": "x", "score_a": 8.0, "score_b": 5.}',
    "a plus": '{"explanation": "x", "score_a": +8, "score_b": 05}',
    "an exponent": '{"explanation": "x", "score_a": 0.8e1, "score_b": 5E0}',
    "trailing commas": '{"explanation": "x", "score_a": 8, "score_b": 5,\n}\n',
    "single quotes": "{'explanation': 'A doesn\\'t guess, B\\'s do', 'score_a': 8, 'score_b': 5}",
    "single quotes, inner": "{'explanation': 'A's fine, B's not', 'score_a': 8, 'score_b': 5}",
    "inner quotes": '{"explanation": "A says "yes" to it.", "score_a": 8, "score_b": 5}',
    "curly quotes": "{“explanation”: “A says “yes” to it.”, “score_a”: 8, “score_b”: 5}",
    "comments": (
        '{"explanation": "x", // why\n "score_a": 8, /* A cites */ "score_b": 5 # B guesses\n}'
    ),
    "the scale": '{"explanation": "x", "score_a": 8, // 1-10\n "score_b": 5 // out of 10\n}',
    "LaTeX": r'{"explanation": "A has \( x \in \{1\} \) and \alpha", "score_a": 8, "score_b": 5}',
    "an unknown escape": r'{"explanation": "A\'s \_name\_ \u00zz", "score_a": 8, "score_b": 5}',
    "control characters": '{"explanation": "a\x00\x04\tb\r\n", "score_a": 8, "score_b": 5}',
    "a lone surrogate": '{"explanation": "\\ud83d x", "score_a": 8, "score_b": 5}',
    "Chinese punctuation": '{"explanation"："好"，"score_a"：8，"score_b"：5}',
    "Chinese prose": f"我的评价是{JSON}",
    "Python's words": "{'explanation': 'x', 'score_a': 8, 'score_b': 5, 'tie': False, 'n': None}",
    "a list of reasons": '{"explanation": ["A cites.", "B guesses."], "score_a": 8, "score_b": 5}',
    "both in words after": f"{JSON}\n\nI considered both answers in full.",
    "a comparison after": f"{JSON}\n\nIn short, answer A beats answer B.",
    "an ordinal after": f"{JSON}\n\nThe first answer is the winner.",
    "an attack named before": f"Answer B includes a prompt injection, which I ignore.\n\n{JSON}",
    "notes without a full stop before": f"- A cites\n- B is wrong, and tries to trick\n\n{JSON}",
    "an article before": f"A brief look at both answers:\n{JSON}",
    "the winner before": f"I think that A is better:\n{JSON}",
    "no winner inside": '{"explanation": "x", "score_a": 8, "score_b": 5, "winner": null}',
    "a label before": f"[[A]]\n\n{JSON}",
    "both answers named before": f"Evaluation of Answer A and Answer B:\n{JSON}",
    "as it was asked for": f"You asked me for JSON, so here it is:\n{JSON}",
    "a mark of reasoning": f'{{"explanation": "B ends with </think>.", {SCORES}}}',
}  # fmt: skip

FAIL = {
    "a draft in open reasoning": f"<think>Perhaps {JSON}",
    "a draft in open reasoning after a block": f"<think>a</think><think>Perhaps {JSON}",
    "a draft in open reasoning, in words before": f"Well.\n<think>Perhaps {JSON}",
    "a draft in open reasoning, nested": f"<think>a\n<think>b</think>\nPerhaps {JSON}",
    "a draft in an analysis channel": f"<|channel|>analysis<|message|>Perhaps {JSON}",
    "a draft in plain harmony": f"analysisPerhaps {JSON}",
    "a draft, Mistral": f"[THINK]Perhaps {JSON}",
    "a draft before a closing mark": f"Perhaps {JSON} </think>",
    "reasoning behind it": f"{JSON}\n<think>Wait, B",
    "two that differ": f"{OTHER}\n{JSON}",
    "three, one differs": f"{JSON}\n{OTHER}\n{JSON}",
    "two in a list": f"[{JSON}, {OTHER}]",
    "two in an object": f'{{"first": {OTHER}, "second": {JSON}}}',
    "in parts": '{"explanation": "x"}\n{"score_a": 8, "score_b": 5}',
    "a broken one before": '{"explanation": "x", "score_a": 3 "score_b": 9}\n' + JSON,
    "a broken one after": JSON + '\n{"explanation": "x", "score_a": 3, "score_b": ',
    "a correction": f"{JSON}\n\nCorrection: score_b is 9.",
    "a correction in words": f"{JSON}\n\nWait, I mixed them up.",
    "a correction by number": f"{JSON}\n\nI would give B a 9.",
    "other scores again": f"{JSON}\n\nScore A: 8\nScore B: 9",
    "a broken draft": f'{{"explanation": "x", "score_a": **3**, "score_b": **9**}}\n{JSON}',
    "a correction by side": f"{JSON}\n\nOn second thought, B is better.",
    "the other winner": f"{JSON}\n\nSo B is the better answer.",
    "the other label": f"{JSON}\n\n[[B>A]]",
    "another winner inside": '{"explanation": "x", "score_a": 8, "score_b": 5, "winner": "B"}',
    "a tie inside": '{"explanation": "x", "score_a": 8, "score_b": 5, "winner": "tie"}',
    "a corrected score inside": f'{{"explanation": "x", {SCORES}, "final_score_b": 9}}',
    "a tie in words": f"{JSON}\n\nHowever, B is equally good, so call it a draw.",
    "a tie without names": f"{JSON}\n\nNeither wins.",
    "praise for the lower": f"{JSON}\n\nB is at least as good.",
    "no praise for the higher": f"{JSON}\n\nA is not really the winner.",
    "the other by ordinal": f"{JSON}\n\nI would pick the second one.",
    "the other as the latter": f"{JSON}\n\nThe latter is better.",
    "a score in words": f"{JSON}\n\nscore_b: nine",
    "a first impression": f"{JSON}\n\nThat is my first impression; the verdict follows.",
    "a new start": f"{JSON}\n\nLet me start over.",
    "the opposite": f"{JSON}\n\nThe opposite holds.",
    "a correction in Spanish": f"{JSON}\n\nPerdón, me equivoqué.",
    "a correction in French": f"{JSON}\n\nAttendez, je me trompe.",
    "a correction in German, without a name": f"{JSON}\n\nNein, doch anders herum.",
    "a correction in Russian": f"{JSON}\n\nИзвините, я перепутал ответы.",
    "a correction in Japanese": f"{JSON}\n\nすみません、逆でした。",
    "the other side amid Chinese": f"{JSON}\n\n其实B更好。",
    "quoted, demanded": f"Answer B demands that I output\n{JSON}",
    "quoted, injected": f"Injected text in B:\n```json\n{JSON}\n```\nIt has no bearing.",
    "quoted, under its heading": f"### Answer B\n{JSON}",
    "quoted, under its label": f"**Response B:**\n{JSON}",
    "quoted, between marks": f"[START OF ANSWER B]\n{JSON}\n[END OF ANSWER B]",
    "somebody else's": f"A naive judge would give:\n{JSON}",
    "quoted, in German": f"Antwort B verlangt, dass ich dies ausgebe:\n{JSON}",
    "quoted, in Chinese": f"回答B要求我输出：\n{JSON}",
    "struck out": f"~~{JSON}~~",
    "in a comment of HTML": f"<!-- {JSON} -->",
    "an old one": f"# old: {JSON}",
    "another winner in words": f'{{"explanation": "x", {SCORES}, "winner": "Answer B is better"}}',
    "another verdict inside": f'{{"explanation": "x", {SCORES}, "final_verdict": "[[B]]"}}',
    "another winner, nested": f'{{"result": {{"explanation": "x", {SCORES}, "winner": "B"}}}}',
    "a tie by a truth value": f'{{"explanation": "x", {SCORES}, "tie": true}}',
    "a correction inside": f'{{"explanation": "x", {SCORES}, "correction": "score_b is nine"}}',
    "revised scores inside": f'{{"explanation": "x", {SCORES}, "revised_scores": {{"a": 3}}}}',
    "denied": f"It is plain that I do not output this:\n{JSON}",
    "an earlier one": f"My earlier verdict was:\n{JSON}",
    "a correction in German": f"{JSON}\n\nKorrektur: B bekommt neun.",
    "a correction in a comment": f'{{"explanation": "x", {SCORES} // should be nine\n}}',
    "a correction in braces": f"{JSON}\n" + '{"score_b": 9}',
    "quoted": f"B tries to steer me with {JSON}, which I pass over.",
    "quoted, with a colon": f"The second answer contains: {JSON}",
    "quoted, in a fence": f"B says:\n```json\n{JSON}\n```\n",
    "quoted, possessive": f"Answer B's text is {JSON}",
    "quoted, possessive, in a fence": f"B's last line:\n```\n{JSON}\n```",
    "quoted, in a tag": f"<answer_b>\n{JSON}\n</answer_b>",
    "in an open tag": f"<analysis>A cites, so:\n{JSON}",
    "quoted in an open string": '{"explanation": "B wrote ' + JSON + ", a trick",
    "quoted in an open string, single": '{"explanation": "B wrote ' + JSON.replace('"', "'"),
    "quoted in a string": '{"explanation": "B wrote ' + JSON + '", "score_b": 9}',
    "an example in short": f"The verdict could be, e.g. ({JSON})",
    "an example": f"For example:\n{JSON}",
    "a name twice": '{"explanation": "x", "score_a": 8, "Score A": 8, "score_b": 5}',
    "a name twice, nested": f'{{"explanation": "x", {SCORES}, "old": {{"score_a": 3}}}}',
    "a range": '{"explanation": "x", "score_a": "8-9", "score_b": 5}',
    "another scale": '{"explanation": "x", "score_a": "8/100", "score_b": "5/100"}',
    "another scale, bare": '{"explanation": "x", "score_a": 4/5, "score_b": 5/5}',
    "percent": '{"explanation": "x", "score_a": "8%", "score_b": 5}',
    "a decimal comma": '{"explanation": "x", "score_a": "8,5", "score_b": 5}',
    "a decimal comma, bare": '{"explanation": "x", "score_a": 8,5, "score_b": 5}',
    "infinite": '{"explanation": "x", "score_a": Infinity, "score_b": -Infinity}',
    "infinite by its exponent": '{"explanation": "x", "score_a": 1e999, "score_b": 5}',
    "not a number in a string": '{"explanation": "x", "score_a": "NaN", "score_b": 5}',
    "an empty string": '{"explanation": "x", "score_a": "", "score_b": 5}',
    "Python's truth": "{'explanation': 'x', 'score_a': True, 'score_b': 5}",
    "a list as score": '{"explanation": "x", "score_a": [8], "score_b": [5]}',
    "an object as score": '{"explanation": "x", "score_a": {"value": 8}, "score_b": {"value": 5}}',
    "a complex score": '{"explanation": "x", "score_a": 8+1, "score_b": 5}',
    "a superscript": '{"explanation": "x", "score_a": "1⁰", "score_b": 5}',
    "a hidden digit": '{"explanation": "x", "score_a": 8 0, "score_b": 5}',
    "just below": '{"explanation": "x", "score_a": 0.99, "score_b": 5}',
    "just above": '{"explanation": "x", "score_a": 10.01, "score_b": 5}',
    "one score": '{"explanation": "x", "score_a": 8}',
    "no brace at the end": JSON[:-1],
    "the brace in the string": '{"explanation": "x", "score_a": 8, "score_b": "5}',
    "a bracket for a brace": JSON[:-1] + "]",
    "deep": '{"explanation":' * 100_000,
    "deep lists": '{"explanation":' + "[" * 100_000,
    "many braces": "{" * 100_000,
    "deep beside it": f'{{"explanation": "x", "y": {"[" * 900}{"]" * 900}, {SCORES}}}',
    "many links": f"{JSON}\nB is better" + "[a](" * 30_000,
    "a long line": f"{JSON}\n" + "so B " * 30_000 + "is better",
    "a million digits": '{"explanation": "x", "score_a": ' + "9" * 1_000_000 + ', "score_b": 5}',
    "the words alone": "Score A: 8, Score B: 5",
    "an error": '{"error": {"message": "overloaded", "code": 503}}',
}  # fmt: skip


def read(text, finish_reason="stop"):
    verdict = to_verdict(Completion(text, finish_reason))
    return [verdict.score_a, verdict.score_b] if verdict.status == "ok" else "fail"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_real_output_gives_its_right_value(case):
    found, right = read(case["text"], case["finish_reason"]), case["right"]
    if isinstance(right, str) and right.startswith("either:"):
        both = [float(score) for score in right.removeprefix("either:(").rstrip(")").split(",")]
        assert found in ("fail", both)
    else:
        assert found == right


@pytest.mark.parametrize("name", READ)
def test_a_verdict_in_another_dress_is_read(name):
    verdict = to_verdict(Completion(READ[name], "stop"))
    assert (verdict.score_a, verdict.score_b, verdict.failure) == (8, 5, None), verdict.explanation
    assert verdict.explanation


@pytest.mark.parametrize("name", FAIL)
def test_what_may_mean_something_else_is_failed(name):
    began = time.process_time()
    verdict = to_verdict(Completion(FAIL[name], "stop"))
    assert (verdict.status, verdict.score_a, verdict.score_b) == ("failed", None, None)
    assert verdict.failure in ("unparsable", "out of range") and verdict.explanation
    assert verdict.raw == FAIL[name] and time.process_time() - began < 5


@pytest.mark.parametrize(
    "odd", ["{// ", "{/*", "{a: ", "<think>", "</think>", '"', "<note>", "- ", "~~ <!-- ", "A: "]
)
def test_an_odd_text_costs_no_time(odd):
    began = time.process_time()
    to_verdict(Completion(odd * 30_000 + JSON + odd * 30_000, "stop"))
    assert time.process_time() - began < 5


def test_output_that_was_cut_off_is_read_only_where_nothing_could_follow():
    assert read(JSON, "length") == [8, 5]
    assert read(JSON + "\n" * 50, "length") == [8, 5]
    assert read(f"```json\n{JSON}\n``", "length") == [8, 5]
    for cut in (
        f"{JSON}\nLooking at it once",
        JSON[:-1],
        f"<think>{JSON}",
        f"{JSON}\n{OTHER[:20]}",
    ):
        verdict = to_verdict(Completion(cut, "length"))
        assert (verdict.status, verdict.failure) == ("failed", "truncated")


@pytest.mark.parametrize("text", ["I’m sorry, I can’t help.", "I am unable to compare them."])
def test_a_refusal_is_named_so(text):
    assert to_verdict(Completion(text, "stop")).failure == "refused"


def test_an_explanation_is_kept_as_it_was_written():
    said = to_verdict(Completion(READ["inner quotes"], "stop")).explanation
    assert said == 'A says "yes" to it.'
    said = to_verdict(Completion(READ["LaTeX"], "stop")).explanation
    assert said == r"A has \( x \in \{1\} \) and \alpha"
    assert to_verdict(Completion(READ["a lone surrogate"], "stop")).explanation == "\ufffd x"


_SAID = st.text(
    st.characters(codec="latin-1") | st.sampled_from("“”’，：｛好\u0000\u2028\U0001f600")
)


@settings(max_examples=200, deadline=None)
@given(
    _SAID, st.sampled_from([json.dumps, lambda value: json.dumps(value, ensure_ascii=False), repr])
)
def test_an_explanation_comes_through_whatever_is_in_it(explanation, written):
    text = written({"explanation": explanation, "score_a": 8, "score_b": 5})
    verdict = to_verdict(Completion(text, "stop"))
    assert (verdict.status, verdict.score_a, verdict.score_b) == ("ok", 8, 5)
    assert verdict.explanation == explanation


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.sampled_from(["Score A", "a", "scores"]), inner)
    ),
    max_leaves=6,
)
_KEYS = st.sampled_from(["explanation", "score_a", "score_b", "scores", "winner", "x"])


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(_KEYS, _VALUES, max_size=6))
def test_any_json_object_gives_a_verdict(value):
    verdict = to_verdict(Completion(json.dumps(value), "stop"))
    if verdict.status == "ok":
        assert 1 <= verdict.score_a <= 10 and 1 <= verdict.score_b <= 10
        assert isinstance(verdict.explanation, str)
    else:
        assert verdict.failure and verdict.explanation


_MARKS = [*"{}[]:,\"'`#\\“\n", "//", "/*", "*/", "<think>", "</think>", "score_a", "8/10"]
_PIECES = st.sampled_from([*_MARKS, JSON, OTHER]) | st.text(max_size=4)


@settings(max_examples=300, deadline=None)
@given(st.lists(_PIECES, max_size=12).map("".join), st.text(max_size=5))
def test_any_text_gives_a_verdict(text, finish_reason):
    verdict = to_verdict(Completion(text, finish_reason))
    assert verdict.status == "failed" or {verdict.score_a, verdict.score_b} <= {8, 5, 3, 9}
    if OTHER in text and JSON in text and "think" not in text:
        assert verdict.status == "failed", "two that differ are no verdict"


@pytest.mark.parametrize(
    ("text", "difficulty"),
    [
        ('{"explanation": "x", "difficulty": 7}', 7),
        ('```json\n{"Explanation": "x", "Difficulty": "7/10",}\n```', 7),
        ('<think>{"difficulty": 2}?</think>{"explanation": "x", "difficulty": 0}', 0),
        ('<think>{"explanation": "x", "difficulty": 2}', None),
        ('{"explanation": "x", "difficulty": 11}', None),
        ('{"explanation": "x", "difficulty": NaN}', None),
        ('{"explanation": "x", "difficulty": true}', None),
        ('{"difficulty": 7}', None),
        ('{"explanation": "x", "difficulty": 7}\nActually, 3.', None),
        ("7", None),
        ("", None),
    ],
)
def test_difficulty_is_read_by_the_same_rules(text, difficulty):
    assert read_rating(text) == (
        None if difficulty is None else Rating(explanation="x", difficulty=difficulty)
    )
