"""Reasoning is split from the answer as the families of models write it, and nothing else is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_assets.models.reasoning import split_reasoning

SPLIT = {
    "at the start": ("<think>Six times seven.</think>42", "Six times seven.", "42"),
    "after blanks": ("\n  <think>\nhm\n</think>\n\n42\n", "hm", "42\n"),
    "after a byte order mark": ("\ufeff<think>hm</think>42", "hm", "42"),
    "after a role token": ("<|im_start|>assistant\n<think>hm</think>42", "hm", "42"),
    "empty": ("<think>\n\n</think>\n\n42", "", "42"),
    "on one line": ("<think>six times seven </think> forty-two", "six times seven", "forty-two"),
    "unclosed": ("<think>It may be 41, or 42", "It may be 41, or 42", ""),
    "upper case": ("<THINK>hm</Think>42", "hm", "42"),
    "opened by the template": ("So it is 42.\n</think>\n\n42", "So it is 42.", "42"),
    "opened by the template, no blanks": ("So it is 42.</think>42", "So it is 42.", "42"),
    "opened by the template, the mark spoken of later": (
        "hm\n</think>\nIt ends with </think>, then answers.", "hm",
        "It ends with </think>, then answers.",
    ),
    "opened by the template, one line": ("So it is. </think> {42}", "So it is.", "{42}"),
    "nested": ("<think>a <think>b</think> c</think>42", "a <think>b</think> c", "42"),
    "nested, the outer open": ("<think>a\n<think>b</think>\n42?", "a\n<think>b</think>\n42?", ""),
    "repeated": ("<think>a</think>\n<think>b</think>42", "a\n\nb", "42"),
    "repeated, the last open": ("<think>a</think><think>b", "a\n\nb", ""),
    "a mark spoken of": ("<think>Then `</think>`. Hm</think>42", "Then `</think>`. Hm", "42"),
    "an opener spoken of": ("<think>Use <think> tags.</think>42", "Use <think> tags.", "42"),
    "quotation marks at the border": ('<think>say "x"</think>"x"', 'say "x"', '"x"'),
    "code": ("<think>```\nx = 1\n```</think>```\nx\n```", "```\nx = 1\n```", "```\nx\n```"),
    "thinking": ("<thinking>hm</thinking>42", "hm", "42"),
    "thought": ("<thought>hm</thought>42", "hm", "42"),
    "reasoning and answer tags": ("<reasoning>hm</reasoning>\n<answer>\n42</answer>", "hm", "42"),
    "another tag inside": ("<thinking>a<think>b</think></thinking>42", "a<think>b</think>", "42"),
    "Seed-OSS": ("<seed:think>hm</seed:think>42", "hm", "42"),
    "Mistral": ("[THINK]hm[/THINK]42", "hm", "42"),
    "Mistral, unclosed": ("[THINK]hm", "hm", ""),
    "Kimi-VL": ("◁think▷hm◁/think▷42", "hm", "42"),
    "Gemma": ("<|channel>thought\nhm<channel|>42", "hm", "42"),
    "Cohere": (
        "<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>42<|END_RESPONSE|>", "hm", "42",
    ),
    "Granite": ("Here is my thought process: hm. Here is my response: 42", "hm.", "42"),
    "harmony": (
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>42"
        "<|return|>", "hm", "42",
    ),
    "harmony, constrained": (
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final <|constrain|>"
        'json<|message|>{"a": 1}', "hm", '{"a": 1}',
    ),
    "harmony, unfinished": ("<|channel|>analysis<|message|>hm", "hm", ""),
    "harmony, the final alone": ("<|channel|>final<|message|>42<|return|>", "", "42"),
    "harmony, a preamble": (
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>b"
        "<|end|><|start|>assistant<|channel|>final<|message|>42", "a\n\nb", "42",
    ),
    "harmony, content without a channel": ("<|channel|>analysis<|message|>hm<|end|>42", "hm", "42"),
    "harmony without its tokens": ("analysisWe count.assistantfinal42", "We count.", "42"),
    "harmony without its tokens, unfinished": ("analysisWe count", "We count", ""),
}  # fmt: skip

WHOLE = {
    "no mark": "42",
    "blanks": "  42\n",
    "empty": "",
    "an opener amid a sentence": "The tag <think> opens the reasoning.",
    "a pair amid a sentence": "Write <think>why</think> and then the answer.",
    "a pair on lines of its own": "DeepSeek writes\n<think>\nwhy\n</think>\nand the answer.",
    "a closer in backticks": "Close it with `</think>`.",
    "a closer in quotation marks": 'Close it with "</think>".',
    "a closer amid a sentence": "The model writes </think> when it is done.",
    "a closer at the end of a sentence": "It ends with </think>. Then it answers.",
    "a closer in parentheses": "It ends (</think>), then it answers.",
    "a code block": "```xml\n<think>why</think>\n```\nThat is the format.",
    "a closer in a code block": "```\nreason\n</think>\n42\n```",
    "code that starts the text": "`<think>` opens the reasoning, `</think>` ends it.",
    "another tag": "<p>42</p>",
    "a word": "analysis of the second answer",
    "Analysis": "Analysis: it is 42.",
    "a thought process without a response": "Here is my thought process: I count.",
    "a JSON string that quotes a closer": '{"explanation": "B writes </think>.", "score_a": 8}',
    "a reference": "[1] says 42.",
}


@pytest.mark.parametrize("name", SPLIT)
def test_reasoning_is_split_from_the_answer(name):
    text, reasoning, answer = SPLIT[name]
    assert split_reasoning(text) == (reasoning, answer)


@pytest.mark.parametrize("name", WHOLE)
def test_a_text_that_only_speaks_of_reasoning_stays_whole(name):
    assert split_reasoning(WHOLE[name]) == ("", WHOLE[name])


MARKS = "<think> </think> [THINK] [/THINK] <|channel|> <|message|> <|end|> <|start|> <answer>"
PIECES = st.sampled_from([*MARKS.split(), "analysis", "final", "assistant", "`", "```\n", '"', "a"])


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES | st.text(max_size=5), max_size=12).map("".join))
def test_any_text_is_split_and_nothing_is_made_up(text):
    reasoning, answer = split_reasoning(text)
    assert answer in text or "<|" in text, "an answer is one piece of the text"
    assert len(reasoning) + len(answer) <= len(text)


@settings(max_examples=100, deadline=None)
@given(st.text("abc .\n{}[]\"'`", max_size=40), st.text("ABC{}1 .\n", max_size=40))
def test_what_stands_in_a_block_never_reaches_the_answer(thought, answer):
    assert split_reasoning(f"<think>{thought}</think>\n\n{answer}") == (
        thought.strip(),
        answer.lstrip(),
    )
    assert split_reasoning(f"<think>{thought}") == (thought.strip(), "")
