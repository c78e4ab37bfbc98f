"""Constraints and the verifier, with literal answers that pass and fail."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_assets.config.places import PROJECT
from arena_assets.verifying.constraints import parse_constraints
from arena_assets.verifying.verifier import verify

CASES = [
    ({"type": "all_lowercase"}, ["all small, really.", "ça va"], ["Not this", "123", "iPod"]),
    ({"type": "all_uppercase"}, ["LOUD!", "A 1"], ["Loud", "42"]),
    ({"type": "bullet_count", "count": 2}, ["- a\n- b", "* a\n\n* b"], ["- a", "- a\n- b\n- c"]),
    (
        {"type": "numbered_list_count", "count": 2},
        ["1. a\n2. b", "1) a\n2) b"],
        ["1. a", "2. a\n1. b", "1. a\n2. b\n3. c", "1. a\n1. b"],
    ),
    (
        {"type": "comma_list_count", "count": 3},
        ["red, green, blue"],
        [
            "red, green",
            "red,\ngreen, blue",
            "Sure, here are three colours: red, green, blue",
            "a,,b",
        ],
    ),
    (
        {"type": "contains_words", "words": ["sun", "hot day"]},
        ["The Sun on a hot day."],
        ["The sunny hot day", "sun", "sun hot-day"],
    ),
    ({"type": "excludes_words", "words": ["art"]}, ["a party"], ["Art is long"]),
    ({"type": "word_count", "minimum": 2, "maximum": 3}, ["two words", "it's well-known"], ["one"]),
    (
        {"type": "sentence_count", "count": 2},
        ["One. Two!", "He said “no.” Then left."],
        ["One.", "One. Two", "3.5 metres."],
    ),
    ({"type": "starts_with", "phrase": "In short,"}, ["in short, yes"], ["So, in short, yes"]),
    ({"type": "ends_with", "phrase": "That is all."}, ["Yes. That is all."], ["That is all. Yes"]),
    ({"type": "wrapped_in_quotes"}, ['"yes"', "“yes”"], ['"yes" he said', '""', "'yes'"]),
    (
        {"type": "json_object", "keys": ["a", "b"]},
        ['{"a": 1, "b": 2}', '```json\n{"b": 1, "a": 2}\n```'],
        ['{"a": 1}', '{"a": 1, "b": 2, "c": 3}', "[1]", 'Sure: {"a": 1, "b": 2}', "{"],
    ),
    (
        {"type": "final_answer", "value": "1200"},
        ["600 + 600\nAnswer: 1200", "answer: 1,200."],
        ["Answer: 12", "Answer: 1200\nDone", "1200"],
    ),
    ({"type": "final_answer", "value": "yes"}, ["Answer: Yes"], ["Answer: no"]),
    ({"type": "last_line_label", "label": "Answer:"}, ["x\nanswer: 3"], ["Answer: 3\nx"]),
    ({"type": "bracketed_title"}, ["<<A title>>\ntext", "<<A>>"], ["<A>\ntext", "text <<A>>"]),
    ({"type": "one_word_of", "words": ["yes", "no"]}, ["Yes.", "no"], ["yes it is", "maybe"]),
    ({"type": "no_commas"}, ["a and b"], ["a, b"]),
    ({"type": "paragraph_count", "count": 2}, ["a\n***\nb"], ["a", "a\n***\n", "a***b***c"]),
]


@pytest.mark.parametrize(("constraint", "good", "bad"), CASES, ids=lambda c: str(c)[:40])
def test_each_constraint_holds_for_good_answers_and_not_for_bad_ones(constraint, good, bad):
    (parsed,) = parse_constraints(json.dumps([constraint]))
    assert parsed.describe()
    assert [text for text in good if not parsed.holds(text)] == []
    assert [text for text in bad if parsed.holds(text)] == []


def test_every_type_of_constraint_has_a_case():
    with pytest.raises(ValueError, match="Input tag 'x'") as unknown:
        parse_constraints('[{"type": "x"}]')
    known = set(str(unknown.value).split("expected tags: ")[1].replace("'", "").split(", "))
    assert known == {constraint["type"] for constraint, _, _ in CASES}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"type": "word_count"}]', "maximum: Field required"),
        ('[{"type": "word_count", "maximum": "many"}]', "maximum: Input should be a valid integer"),
        ('[{"type": "word_count", "maximum": 3, "max": 4}]', "max: Extra inputs"),
        ('{"type": "no_commas"}', "valid array"),
        ("no json", "Invalid JSON"),
    ],
)
def test_a_malformed_constraint_is_refused_with_its_place(text, message):
    with pytest.raises(ValueError, match=message):
        parse_constraints(text)


def test_the_score_is_the_share_of_constraints_that_hold():
    constraints = parse_constraints('[{"type": "no_commas"}, {"type": "all_lowercase"}]')
    assert verify(constraints, "fine").score == 10
    half = verify(constraints, "Fine")
    assert (half.score, half.share, half.passed) == (5.5, 0.5, (True, False))
    assert half.explanation == "no commas: yes; no capital letters: no"
    assert verify(constraints, "Bad, very").score == 1
    assert verify(constraints, "  \n").score == 1, "an empty answer has no commas but says nothing"
    with pytest.raises(ValueError, match="nothing to verify"):
        verify([], "text")


SEED_CONSTRAINTS = sorted(
    {
        json.dumps(json.loads(line)["constraints"])
        for line in (PROJECT / "data/seed/prompts.jsonl").read_text("utf-8").splitlines()
    }
    - {"[]"}
)


@given(st.sampled_from(SEED_CONSTRAINTS), st.text())
def test_any_text_gets_a_score_in_range(constraints, text):
    verification = verify(parse_constraints(constraints), text)
    assert 1 <= verification.score <= 10
    assert (verification.score == 10) == all(verification.passed)
