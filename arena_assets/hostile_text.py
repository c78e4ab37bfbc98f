"""Text that somebody else wrote, made harmless wherever it is shown: pages, Markdown, a terminal.

Prompts, answers, verdicts and error messages may hold markup that loads a picture or runs a script,
and characters that a terminal obeys. Nothing is left out: what could act is shown as what it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# C0, C1, and what is drawn as nothing: bidirectional controls, zero-width characters, tags, halves
# of surrogates. U+200C and U+200D stay: Persian and joined emoji need them.
_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_HTML = re.compile("[<>&\"'=`:]")
# An underscore inside a word is no markup, so names of columns stay as they are.
_MARKUP = re.compile(r"[\\`*{}\[\]<>#|!~&@]|(?<![^\W_])_|_(?![^\W_])")
# The UI makes links of bare addresses, after it has read character references; only a character in
# between stops it, and U+2060 takes no room.
_ADDRESS = re.compile(r"(?i)(?<=:)(?=//)|(?<=www)(?=\.)|(?<=@)")

_CELL = 160  # characters of a cell that are shown


def visible(text: str) -> str:
    """One line without a character that acts or hides: spaces for white space, else escapes.

    >>> visible("red" + chr(27) + "[31m" + chr(10) + "text")
    'red\\\\x1b[31m text'
    """
    return _INVISIBLE.sub(_shown, text)


def visible_lines(text: str) -> str:
    """Several lines, each as of `visible`: for messages."""
    return "\n".join(visible(line) for line in text.split("\n"))


def shows_nothing(text: str) -> bool:
    """Whether a text is empty for who reads it: blanks, controls and invisible characters only.

    The suites of checks and the selection in dbt ask the same of their tables.

    >>> shows_nothing(chr(0x200B) + " "), shows_nothing("?")
    (True, False)
    """
    return all(unicodedata.category(character)[0] in "ZC" for character in text)


def in_html(text: str) -> str:
    """One line that HTML shows as it is, between tags and in attributes alike.

    >>> in_html('<img src=x onerror=alert(1)>')
    '&#60;img src&#61;x onerror&#61;alert(1)&#62;'
    """
    return _HTML.sub(_reference, visible(text))


def in_markdown(text: str) -> str:
    """One line that Markdown shows as it is: no image, link, table cell or HTML comes of it.

    Characters of markup become character references, which are never read as markup.

    >>> in_markdown("![x](y) | <b>")
    '&#33;&#91;x&#93;(y) &#124; &#60;b&#62;'
    """
    apart = _ADDRESS.sub("\u2060", visible(text))
    return _MARKUP.sub(_reference, apart)


def markdown_rows(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A table in Markdown: names and cells as `in_markdown` shows them, None as nothing.

    >>> print(markdown_rows(["a"], [{"a": "x|y"}, {"a": 0.5}]))
    | a |
    | --- |
    | x&#124;y |
    | 0.50 |
    """
    lines = ["| " + " | ".join(map(in_markdown, columns)) + " |", "|" + " --- |" * len(columns)]
    for row in rows:
        lines.append("| " + " | ".join(_cell(row[name]) for name in columns) + " |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    text = f"{value:.2f}" if isinstance(value, float) else str("" if value is None else value)
    cut = text if len(text) <= _CELL else text[:_CELL] + "…"
    return in_markdown(cut)


def _reference(found: re.Match[str]) -> str:
    return f"&#{ord(found[0])};"


def _shown(found: re.Match[str]) -> str:
    character = found[0]
    if character.isspace():
        return " "
    return character.encode("unicode_escape").decode("ascii")
