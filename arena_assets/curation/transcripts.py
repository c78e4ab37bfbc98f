"""Dialogues that a cell holds as one text: transcripts, and lists that a table wrote as text."""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any

from arena_assets.reading.records import parse_json

ROLE_KEYS = ("role", "from", "speaker")
# Who speaks, where a text is nothing but turns: "\n\nHuman: ...\n\nAssistant: ..." (Anthropic's
# HH-RLHF) and "### Human: ...### Assistant: ..." (Guanaco).
_SPEAKERS = (
    re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):"),
    re.compile(r"(?:\A\s*)?### ?(Human|Assistant):"),
)
# What a model's chat template wrote; an answer in it would pass for a part of the prompt.
_TEMPLATE = re.compile(
    r"\s*(?:<s>\s*)?(\[INST\]|<\|im_start\|>|<\|start_header_id\|>|<\|begin_of_text\|>"
    r"|<\|(?:user|system|prompter|human)\|>|<start_of_turn>)"
)
_LATER = re.compile(r"(<extra_id_1>)(?:User|Assistant)")  # HelpSteer2, behind the first turn
_ANSWERED = re.compile(r"^### Response:\s*\S", re.MULTILINE)  # Alpaca's template, filled in
_NO_COMMA = re.compile(r"""['"}]\s+['"{]""")  # between elements, as numpy writes them
_LONGEST = 1_000_000  # characters; Python's parser needs hundreds of bytes for each


def unpacked(text: str, place: str) -> Any:
    """What the text of a cell of turns holds; ValueError where it is no dialogue."""
    found = _transcript(text, place)
    if found is not None:
        return found
    try:
        return parse_json(text)
    except ValueError as error:
        found = python_list(text)
        if found is None:
            raise ValueError(f"{place}: {error}") from None
        return found


def dialogue_in(text: str, column: str) -> list[Any] | None:
    """The turns of a prompt's text that is a dialogue or a list of texts, else None.

    ValueError for a dialogue in a model's chat template.
    """
    if column == "text" and _ANSWERED.search(text):
        raise ValueError("text: an instruction with its answer; give the instruction alone")
    found = _transcript(text, column)
    if found is None and re.match(r"""\s*\[\s*[{"']""", text):
        try:
            found = parse_json(text)
        except ValueError:
            found = python_list(text)
    if isinstance(found, list) and (
        all(isinstance(item, str) for item in found)
        or all(isinstance(item, dict) and any(key in item for key in ROLE_KEYS) for item in found)
    ):
        return found
    return None


def _transcript(text: str, place: str) -> list[Any] | None:
    if template := _TEMPLATE.match(text) or _LATER.search(text):
        raise ValueError(
            f"{place}: a dialogue in a model's template ({template[1]}); give its turns as messages"
        )
    for speakers in _SPEAKERS:
        if not speakers.match(text):
            continue
        marks = list(speakers.finditer(text))
        names = [mark[1] for mark in marks]
        if names[0] == "Human" and "Assistant" in names:
            ends = [mark.start() for mark in marks[1:]] + [len(text)]
            return [
                {"role": mark[1], "content": text[mark.end() : end].strip()}
                for mark, end in zip(marks, ends, strict=True)
            ]
    return None


def python_list(text: str) -> list[Any] | None:
    """A list as Python writes it, which is how pandas saves one in a CSV.

    None for texts without a comma between them: Python would read those as one.
    """
    if not text.lstrip().startswith("[") or len(text) > _LONGEST or _NO_COMMA.search(text):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a backslash in a text is no mistake of ours
            return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
