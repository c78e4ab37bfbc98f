"""What a model thought, apart from what it answered.

Servers that do not split the two send both in one text, each family of models in its own way. The
table of markers follows vLLM's reasoning parsers. What the text leaves open is no answer: reasoning
must never be judged or trained on as one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import regex

_TAGS = (
    "think",  # DeepSeek, Qwen, GLM, Nemotron, MiniMax, OLMo, SmolLM, Phi, ERNIE, Magistral 2506
    "thinking",
    "thought",  # EXAONE Deep
    "thoughts",
    "reasoning",
    "reflection",
    "scratchpad",
    "seed:think",
    "mm:think",
    "longcat_think",
    "ifm|think",
    "ifm|think_fast",
    "ifm|think_faster",
)
_PAIRS = (
    *((f"<{tag}>", f"</{tag}>") for tag in _TAGS),
    ("[think]", "[/think]"),  # Mistral
    ("◁think▷", "◁/think▷"),  # Kimi-VL
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<unused94>thought", "<unused95>"),  # MedGemma
    ("<|start_thinking|>", "<|end_thinking|>"),  # Cohere
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # Sky-T1, OpenThinker
    ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),  # Kimi K3
)
# gpt-oss where the decoder left the special tokens out
_PLAIN_HARMONY = re.compile(r"\s*(?:assistant)?(?:analysis|commentary)(?=[A-Z])")
_PLAIN_FINAL = "assistantfinal"
_CLOSER = dict(_PAIRS)
_MOST_BLOCKS = 100
_MARKS = [_PLAIN_FINAL, *(marker for pair in _PAIRS for marker in pair)]
_MARKER = re.compile("|".join(re.escape(marker) for marker in _MARKS), re.I)
_LEAD = re.compile(r"(?:[\s\ufeff\u200b]|<s>|<\|im_start\|>assistant|<\|assistant\|>)*", re.I)
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.M)
_WRAPPED = re.compile(  # the answer's own wrapper, where reasoning came before it
    r"<answer>(.*)</answer>|<response>(.*)</response>"
    r"|<\|start_response\|>(.*?)(?:<\|end_response\|>)?"
    r"|<\|begin_of_solution\|>(.*?)(?:<\|end_of_solution\|>)?"
    r"|<\|open\|>response<\|sep\|>(.*?)(?:<\|close\|>response<\|sep\|>)?",
    re.I | re.S,
)
_GRANITE = re.compile(
    r"\s*here(?:'s| is) my thought process:(.*?)here(?:'s| is) my response:(.*)", re.I | re.S
)
# not `re`, whose possessive quantifiers lose matches in Python before 3.11.4
_HARMONY = regex.compile(  # gpt-oss: <|start|>role<|channel|>name<|message|>text<|end|>
    r"(?:<\|start\|>[^<]*)?<\|channel\|>\s*+(\w++)[^<]*+(?:<\|constrain\|>[^<]*+)?<\|message\|>"
    r"|<\|start\|>[^<]*(?:<\|message\|>)?|<\|(?:end|return|call)\|>"
)


def split_reasoning(text: str) -> tuple[str, str]:
    """(reasoning, answer) of a model's text; a text without reasoning is its answer, unchanged.

    Reasoning stands at the start, in one block or several. A block that is not closed leaves no
    answer; a closing mark alone ends reasoning that the chat template opened. Marks that are only
    spoken of (in code, in quotation marks, amid a sentence) split nothing.

    >>> split_reasoning("<think>Six times seven.</think>\\n\\n42")
    ('Six times seven.', '42')
    >>> split_reasoning("Close it with `</think>`.")
    ('', 'Close it with `</think>`.')
    """
    if re.match(r"\s*(?:<\|start\|>[^<]*)?<\|channel\|>", text):
        return _harmony(text)
    if granite := _GRANITE.fullmatch(text):
        return granite[1].strip(), granite[2].lstrip()
    thoughts: list[str] = []
    answer = text
    while len(thoughts) < _MOST_BLOCKS and (block := _block(answer) or _template_opened(answer)):
        thought, answer = block
        thoughts.append(thought.strip())
    if not thoughts:
        return "", text
    if wrapped := _WRAPPED.fullmatch(answer.strip()):
        answer = next(part for part in wrapped.groups() if part is not None)
    return "\n\n".join(thought for thought in thoughts if thought), answer.lstrip()


def _block(text: str) -> tuple[str, str] | None:
    """The block that the text starts with, and what follows it; None where it starts with none."""
    lead = _LEAD.match(text)
    start = lead.end() if lead else 0
    opener = _MARKER.match(text, start)
    if opener is None or opener[0].lower() not in _CLOSER:
        plain = _PLAIN_HARMONY.match(text)
        if plain is None or _PLAIN_FINAL in text:
            return None
        return text[plain.end() :], ""
    open_, close = opener[0].lower(), _CLOSER[opener[0].lower()]
    for amid_too in (False, True):  # no better mark may come
        depth = 1
        for marker in _said(text, opener.end(), amid_too):
            depth += {open_: 1, close: -1}.get(marker[0].lower(), 0)
            if depth == 0:
                return text[opener.end() : marker.start()], text[marker.end() :]
    return text[opener.end() :], ""


def _template_opened(text: str) -> tuple[str, str] | None:
    """What stands before a closing mark whose opening mark was part of the prompt, and after it."""
    if _is_json(text):
        return None  # a mark in a string of it is quoted
    last = None
    for marker in _outside_code(text):
        if marker[0].lower() in _CLOSER:
            break  # a block amid the text belongs to it
        last = marker
    if last is None:
        return None
    plain = _PLAIN_HARMONY.match(text) if last[0] == _PLAIN_FINAL else None
    return text[plain.end() if plain else 0 : last.start()], text[last.end() :]


def _outside_code(text: str) -> Iterator[re.Match[str]]:
    """The marks that are neither in a code fence nor between backticks of one line."""
    place, fenced, ticked = 0, False, False
    for marker in _said(text, 0):
        fenced ^= len(_FENCE.findall(text, place, marker.start())) % 2 == 1
        lines = text[place : marker.start()].split("\n")
        ticked = (ticked and len(lines) == 1) ^ (lines[-1].count("`") % 2 == 1)
        place = marker.end()
        if not fenced and not ticked:
            yield marker


def _said(text: str, start: int, amid_too: bool = False) -> Iterator[re.Match[str]]:
    """The marks that are meant as marks, not spoken of; with `amid_too` those in a sentence too."""
    for marker in _MARKER.finditer(text, start):
        before = text[max(0, marker.start() - 1) : marker.start()]
        after = text[marker.end() : marker.end() + 2]
        amid = before in (" ", "(") and re.match(r" [a-z]|[.,;:!?)]", after)
        if (amid_too or not amid) and not _quoted(text, marker):
            yield marker


def _quoted(text: str, marker: re.Match[str]) -> bool:
    """Whether a mark stands in quotation marks or backticks of its own."""
    before = text[max(0, marker.start() - 2) : marker.start()]
    after = text[marker.end() : marker.end() + 2]
    pairs = {"`": "`", '"': '"', "'": "'", "“": "”", "‘": "’", "«": "»"}
    return (
        pairs.get(before[-1:]) == after[:1] != ""
        and not (before[:-1].isalnum() or before[:-1] == before[-1:])
        and not (after[1:].isalnum() or after[1:] == after[:1])
    )


def has_marks(text: str) -> bool:
    """Whether a mark of reasoning stands anywhere in a text, meant as one."""
    return any(_said(text, 0))


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return False
    return True


def _harmony(text: str) -> tuple[str, str]:
    """gpt-oss' channels: only `final`, and text in no channel, is the answer."""
    thoughts: list[str] = []
    answers: list[str] = []
    channel, place = "", 0
    for mark in [*_HARMONY.finditer(text), None]:
        said = text[place : mark.start() if mark else len(text)].strip()
        if said:
            (answers if channel in ("", "final") else thoughts).append(said)
        if mark:
            channel, place = (mark[1] or "").lower(), mark.end()
    return "\n\n".join(thoughts), "\n\n".join(answers)
