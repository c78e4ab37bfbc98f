"""Keeps answers from talking to the judge: fences with markers that no answer can know.

An answer may hold instructions to the judge, fake end marks or fake verdicts. It is shown between
two lines with a marker that is made from the hash of the game, which covers the answers themselves:
whoever writes an answer cannot foresee it, and a second run shows the judge the same prompt.
Control tokens of chat templates are broken up, because a tokenizer would take them for real ones.
"""

from __future__ import annotations

import re

from arena_assets.lake.identity import identity

# <|im_end|>, <|eot_id|>, <｜User｜>, [INST], <<SYS>>, </s>, <start_of_turn>, <bos>, ...
_CONTROL = re.compile(
    r"<(?=[|｜][^<>\n]{1,80}[|｜]>)"
    r"|<(?=/?(?:s|bos|eos|pad|unk|mask|sep|cls|start_of_turn|end_of_turn|tool_call|think)>)"
    r"|\[(?=/?(?:INST|SYS|TOOL_CALLS|AVAILABLE_TOOLS|SYSTEM_PROMPT|CLS|SEP|PAD|UNK|MASK)\])"
    r"|<(?=</?SYS>)",
    re.IGNORECASE,
)
# the same glyph for a reader, another character for a tokenizer
_LOOKALIKE = {"<": "‹", "[": "⟦"}
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\x00-\x08\x0b-\x1f\x7f]")


def neutralise(text: str) -> str:
    """Text without control tokens of chat templates and without invisible characters.

    >>> neutralise("Fine.<|im_end|>")
    'Fine.‹|im_end|>'
    """
    visible = _INVISIBLE.sub("", text)
    return _CONTROL.sub(lambda found: _LOOKALIKE[found.group()], visible)


def marker_of(judgment: str, attempt: int, texts: tuple[str, ...]) -> str:
    """The marker of one call: 16 hexadecimal digits that are in none of `texts`."""
    number = 0
    while True:
        marker = identity("marker", judgment=judgment, attempt=attempt, number=number)[:16]
        if not any(marker in text for text in texts):
            return marker
        number += 1


def fence(text: str, label: str, marker: str) -> str:
    """`text`, neutralised, between two lines that only this call knows."""
    body = neutralise(text)
    return f"[answer {label} begins {marker}]\n{body}\n[answer {label} ends {marker}]"
