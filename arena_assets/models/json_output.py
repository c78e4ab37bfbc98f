"""The one JSON object that a model was asked for, in the text that it wrote.

How the object is written is taken leniently, as long as only one reading is possible: fences,
single or curly quotation marks, trailing commas, comments, "8/10". Which object is meant is taken
strictly, since a wrong number would become training data: a draft in reasoning, an object that is
quoted amid a sentence, a second object that differs, or a text that goes on to correct what it said
is no output.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, NamedTuple

import regex

from arena_assets.models.reasoning import has_marks, split_reasoning

EXPLANATION = "explanation"
_MOST_OBJECTS = 100  # a text that opens more of them is no answer, and would cost quadratic time
_DEEPEST = 50

_END = r"(?=\s*(?:[,:}\]，：]|//|/\*|\#))"  # what a closing quotation mark stands before
# not `re`, whose possessive quantifiers lose matches in Python before 3.11.4
_TOKEN = regex.compile(
    rf"""
    (?P<blank>[\s\ufeff\u200b]+)
    |(?P<comment>//[^\n]*|/\*.*?\*/|\#[^\n]*)
    |"(?P<double>(?:[^"\\]|\\.|"(?!{_END}))*+)"
    |'(?P<single>(?:[^'\\]|\\.|'(?!{_END}))*+)'
    |[“”„](?P<curly>(?:[^“”\\]|\\.|[“”](?!{_END}))*+)[“”]
    |(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
        (?:\s*(?:/|out\s+of)\s*10(?:\.0)?)?(?![\w.]|/(?![/*]))
    |(?P<key>[^\W\d][\w-]*)(?=\s*[:：])
    |(?P<word>true|false|null|none|nan|infinity)\b
    |(?P<mark>[][{{}},:，：])
    """,
    regex.X | regex.S | regex.I,
)
_WORDS = {"none": "null", "nan": "NaN", "infinity": "Infinity"}
_OBJECT_LIKE = regex.compile(
    r"""\{(?:\s|//[^\n]{0,500}+|/\*.{0,500}?\*/)*+(?:["'“”„}]|[^\W\d][\w-]*\s*[:：])""", regex.S
)
_ESCAPE = re.compile(r'\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|["\\/bfnrt]|.)|"', re.S)
_OF_TEN = r"(?:\s*(?:/|out of)\s*10(?:\.0)?)?"
_NUMBER = re.compile(rf"([+-]?\d+(?:\.\d+)?){_OF_TEN}(?:\s*points?)?", re.I)

# what stands around an object and says nothing
_DRESSING = re.compile(
    r"(?:```|~~~)\w*|<\|[^|>\n]*\|>|</?[a-z][\w:-]*>|\[/?(?:INST|JSON)\]|[`*\u200b\ufeff]", re.I
)
_LINK = re.compile(r"\[(?:[^][\n]*\]\([^)\n]{0,2000}\)|\^?\d+\])|https?://\S+")
_SCALE = re.compile(r"\b[01]\s*(?:-|–|to)\s*10\b|(?:/|\bout of)\s*10\b")
_POLITE = re.compile(
    r"\b(?:let me know|feel free|(?:i )?hope|if you (?:need|want|would|have|['’]d))\b[^.!?\n]*",
    re.I,
)
_LEADING_WORD = re.compile(
    r"\b(?:json|verdict|evaluation|assessment|output|result|final|goes|scores|ratings|judge?ment"
    r"|(?:my|the|this|it)\b[^.]{0,30}\bis)$",
    re.I,
)
_QUOTED = re.compile(
    r"(?:\be\.\s?g\.|\b(?:example|for instance|draft|sample|placeholder|hypothetical\w*|suppose)\b)"
    r"[^.!?]{0,25}[:.]?$"
    r"|\b(?:says?|said|contain(?:s|ing)?|writes?|wrote|claims?|includ(?:es|ing)|injects?|states?"
    r"|demands?|instructs?|quot(?:es|ing)|(?:ends?|begins?|starts?) with|such as)"
    r"\s*(?:this|that|the following|(?:the )?(?:text|line|string|json|object))?\s*:?$"
    r"|\b(?:[AB]|first|second|one)['’]s\b[^.!?]{0,30}$"
    r"|\b(?:inject|trick|manipul|attack|hidden|embed|fake|naive|bad|wrong|tempted|earlier|previous|old"
    r"|schema|(?:was|were) given)\w*\b[^.!?\n]{0,80}:$"
    r"|(?:\bnot|\bnever|n['’]t) (?:output|print|give|say|reply|return|answer|this)\b[^.!?\n]{0,20}$"
    r"|\b(?:answer|response|assistant|text|line|it|which|[AB])\b[^.!?\n]{0,40}"
    r"\b(?:demand|instruct|tell|told|ask|want|order|command|try|tries)\w*\b[^.!?\n]{0,40}"
    r"\b(?:me|us|I|judges?|output|print|reply|respond|return)\b[^.!?\n]{0,40}$"
    r"|\bthat$"
    r"|(?:^|\n)\W*(?:(?:begin|start)\b\W*(?:of )?)?"
    r"(?:(?:the )?(?:assistant|answer|response|model|option|candidate)\s*[AB12]\W*|[AB]:)$",
    re.I,
)
# "Antwort B verlangt:" in any language: one side's name, and nothing that says what follows
_OF_ONE_SIDE = re.compile(r"(?<![A-Za-z0-9])(?:A|(B))(?![A-Za-z0-9])")
_WINS = re.compile(r"\b(?:better|best|wins?|won|winner|stronger|superior|prefer\w*)\b", re.I)
_STRUCK = re.compile(r"(?<!~)~~(?!~)")
_ASIDE = re.compile(  # a tag in which a model thinks or quotes
    r"<((?:analysis|draft|notes?|plan|scratch|reason|think|thought|reflect|consider|example|quote"
    r"|(?:answer|response|assistant)_?[ab12])\w*)>",
    re.I,
)
_REVISED = re.compile(
    r"correct(?:ion|ing|ed)|corrig|corre[cz]|korrekt|korrig|更正|修正|修改|revis|reconsider"
    r"|reflection|second thought|actually|\bwait\b|instead|oops|scratch|strike|never ?mind|mistak"
    r"|\bshould\b|swap|revers|mix(?:ed|ing)|other way|vice versa|disregard|ignore|retract|withdraw"
    r"|updat|adjust|chang|\bhmm|\bno[,.!—–]|(?:\bnot|n['’]t)\b.{0,20}\b(?:right|final|correct|meant?)"
    r"|\bmeant\b|sorry|apolog|rather|\bedit\b|errat|wrong|\berror|re-?evaluat|re-?think|\bredo\b"
    r"|cannot|can['’]t|unable|refus|too (?:high|low|generous|harsh)|higher|lower|draft|example"
    r"|impression|prelimin|tentativ|provisional|\bfollows\b|invers|deserv|\bto be fair\b|opposit"
    r"|discard|start over|\bagain\b|\blet me\b|\blater\b|hold on|closer look|typo|\btests?\b"
    r"|\bminus\b|\bplus\b|\bdeduct|\b(?:three|four|five|six|seven|eight|nine|ten)\b",
    re.I,
)
# A correction in another language would not be seen: letters with marks and of other scripts, and
# the words that no sentence of those languages goes without.
_NOT_ENGLISH = re.compile(
    r"[^\W\d_a-z]\w*|\b(?:ich|ist|nicht|und|aber|doch|nein|der|das|je|est|les|que|mais|el|los|pero"
    r"|es|la|il|che|ma|mas|um|de|het|niet|een|ik|maar|jest|nie|ale|bir|ama|yang|tidak|och|men|og)\b",
    re.I,
)
_SCORE_AFTER = re.compile(r"(?<![\d.])(?:10|[1-9])(?:\.\d+)?(?![\d%])")


class Unread(ValueError):
    """A text in which the object cannot be read surely; the message says why."""


class Output(NamedTuple):
    """`values` by the names asked for, `others` by squeezed names, and the prose behind it.

    The names of `others` begin with the one that they are nested in.
    """

    values: dict[str, Any]
    others: dict[str, Any]
    after: str


class _Written(NamedTuple):
    value: dict[str, Any]
    start: int
    end: int
    comments: str


def read_object(text: str, numbers: tuple[str, ...]) -> Output:
    """The object with an explanation and `numbers`, whose values are as written (see number_of).

    Names may be written in any case, with blanks or hyphens; the object may be nested or stand in a
    list. Raises Unread.

    >>> read_object('Sure!\\n{"Explanation": "Short.", "Score": "8/10",}', ("score",)).values
    {'explanation': 'Short.', 'score': '8/10'}
    """
    thought, answer = split_reasoning(text)
    if thought and not answer.strip():
        raise Unread("reasoning that does not end in an answer")
    if answer.lstrip().startswith('"'):
        answer = _unquoted(answer)
    names = {_squeezed(name): name for name in (EXPLANATION, *numbers)}
    found = [
        (written, output)
        for written in _objects(answer, names)
        if (output := _named(written.value, names)).values
    ]
    if not found:
        raise Unread(f"no JSON object with {', '.join(names.values())}")
    first, output = found[0]
    for name in names.values():
        if output.values.get(name) is None:
            raise Unread(f"no {name}")
    for _, other in found[1:]:
        if any(other.values.get(name) != output.values[name] for name in numbers):
            raise Unread("two JSON objects that differ")
    starts = [written.start for written, _ in found[1:]] + [len(answer)]
    ends = [written.end for written, _ in found]
    after = "\n".join(answer[end:start] for end, start in zip(ends, starts, strict=True))
    _refuse_quoted(answer[: first.start], after)
    after = _plain(after)
    for name in numbers:
        after = _restated(name, output.values[name]).sub(" ", after)
    _refuse_revision(after, "".join(written.comments for written, _ in found))
    return Output(output.values, output.others, after)


def number_of(value: Any) -> float | None:
    """A number as a model writes it, "8/10" and "8 out of 10" too; None where it is none.

    >>> number_of("8 out of 10"), number_of(7.5), number_of("8-9"), number_of(True)
    (8.0, 7.5, None, None)
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return None
    written = _NUMBER.fullmatch(value.strip())
    return float(written[1]) if written else None


def text_of(value: Any) -> str:
    """An explanation as text that can be stored, also where the model made a list of it."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unquoted(answer: str) -> str:
    """The inside of an answer that is one JSON string: the object was written as JSON twice."""
    try:
        return json.loads(answer, strict=False)
    except ValueError:
        return answer


def _objects(text: str, names: dict[str, str]) -> Iterator[_Written]:
    """The outermost JSON objects of a text. Raises Unread at a broken one that gives a number."""
    place = 0
    for _ in range(_MOST_OBJECTS):
        start = _OBJECT_LIKE.search(text, place)
        if start is None:
            return
        try:
            written = _decoded(text, start.start())
        except (ValueError, RecursionError) as error:
            place = _passed(text, start.start(), names, error)
        else:
            yield written
            place = written.end
    raise Unread(f"more than {_MOST_OBJECTS} opening braces")


def _decoded(text: str, start: int) -> _Written:
    """The object that starts here, rewritten token by token; ValueError where it is none."""
    written: list[str] = []
    comments: list[str] = []
    open_: list[str] = []
    place = start
    while token := _TOKEN.match(text, place):
        place, kind = token.end(), str(token.lastgroup)
        said = token[kind]
        if kind == "comment":
            comments.append(said)
        elif kind in ("double", "single", "curly", "key"):
            written.append(_string(said))
        elif kind == "number":
            written.append(json.dumps(float(said)))
        elif kind == "word":
            written.append(_WORDS.get(said.lower(), said.lower()))
        elif kind == "mark":
            mark = unicodedata.normalize("NFKC", said)
            if mark in "{[":
                open_.append({"{": "}", "[": "]"}[mark])
                if len(open_) > _DEEPEST:
                    raise ValueError("nested too deeply")
            elif mark in "}]":
                if open_.pop() != mark:
                    raise ValueError(f"{mark} closes nothing")
                if written[-1] == ",":
                    written.pop()
            written.append(mark)
            if not open_:
                value = json.loads("".join(written), strict=False, object_pairs_hook=_distinct)
                return _Written(value, start, place, "\n".join(comments))
    raise ValueError(f"not JSON at {text[place : place + 20]!r}" if text[place:] else "cut off")


def _string(said: str) -> str:
    """A string's inside as JSON: a backslash before anything else than JSON's escapes is itself."""

    def escaped(found: re.Match[str]) -> str:
        if found[0] == '"':
            return '\\"'
        after = found[1]
        if after in "'“”":
            return after
        if len(after) == 3:
            return f"\\u00{after[1:]}"
        return found[0] if after[0] in '"\\/bfnrt' or len(after) == 5 else "\\\\" + after

    return f'"{_ESCAPE.sub(escaped, said)}"'


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key that is given twice would let the second value win unseen."""
    found = {_squeezed(name): value for name, value in pairs}
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _squeezed(name: str) -> str:
    """A key without case, blanks and separators."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())


def _passed(text: str, start: int, names: dict[str, str], error: Exception) -> int:
    """Where to read on behind braces that are no JSON; Unread where they may be the object."""
    depth, end = 0, len(text)
    for brace in re.compile("[{}]").finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            end = brace.end()
            break
    inside = text[start:end]
    squeezed = _squeezed(inside)
    if any(name in squeezed for name in names) and (
        depth or re.search(r"\d", _SCALE.sub("", inside))
    ):
        raise Unread(f"a JSON object that cannot be read: {error}")
    return end


def _named(value: Any, names: dict[str, str]) -> Output:
    """The values by name in an object and what is nested in it. Raises Unread at a name twice."""
    output = Output({}, {}, "")

    def look(part: Any, prefix: str) -> None:
        for item in part if isinstance(part, list) else ():
            look(item, prefix)
        for key, inner in part.items() if isinstance(part, dict) else ():
            name = names.get(key) or names.get(prefix + key)
            if name in output.values:
                raise Unread(f"{name} stands twice")
            if name:
                output.values[name] = inner
            elif isinstance(inner, dict | list):
                look(inner, key.removesuffix("s"))
            else:
                output.others[prefix + key] = inner

    look(value, "")
    return output


def _refuse_quoted(before: str, after: str) -> None:
    """Unread where the object is quoted or a draft rather than said."""
    if has_marks(before) or has_marks(after):
        raise Unread("reasoning amid the answer")
    for aside in _ASIDE.finditer(before):
        if before.find(f"</{aside[1]}>", aside.end()) < 0:
            raise Unread(f"a JSON object in {aside[0]}")
    lead = _DRESSING.sub("", before.rpartition("\n")[2]).rstrip()
    tail = _DRESSING.sub("", after.partition("\n")[0]).lstrip(" \t]}")
    if re.search(r"""[A-Za-z0-9,]\s*[('"“]?$""", lead) and not _LEADING_WORD.search(lead):
        raise Unread("a JSON object amid a sentence")
    if re.match(r"[,;.]\s*\w|[a-z]", tail):
        raise Unread("a JSON object amid a sentence")
    said = _DRESSING.sub("", before).rstrip()
    if _QUOTED.search(said[-120:]) or _introduces_one_side(said.rpartition("\n")[2]):
        raise Unread("a JSON object that is quoted")
    if len(_STRUCK.findall(before)) % 2 or before.rfind("<!--") > before.rfind("-->"):
        raise Unread("a JSON object that is struck out")


def _introduces_one_side(line: str) -> bool:
    """Whether a line ends in a colon and speaks of one answer only, not of the verdict."""
    lead = line.rstrip(" :：")
    if lead == line or _WINS.search(lead) or _LEADING_WORD.search(lead):
        return False
    lead = re.sub(r"^\W*A (?=[a-z])", "", lead)  # the article
    return len({found[1] for found in _OF_ONE_SIDE.finditer(lead)}) == 1


def _refuse_revision(after: str, comments: str) -> None:
    """Unread where the text goes on to correct the object, or may do so."""
    for said in (after, comments):
        said = _SCALE.sub(" ", said)
        plain = _POLITE.sub(" ", said)
        revised = _REVISED.search(plain) or _SCORE_AFTER.search(said) or _NOT_ENGLISH.search(plain)
        if revised:
            raise Unread(f"words behind the JSON object that may correct it: {revised[0]!r}")


def _restated(name: str, value: Any) -> re.Pattern[str]:
    """A number of the object, said again in prose: "Score A: 8"."""
    spoken = r"[\W_]*".join(map(re.escape, name.split("_")))
    number = number_of(value)
    same = "(?!)" if number is None else rf"{re.escape(f'{number:g}')}(?:\.0)?{_OF_TEN}(?![\d.]*\d)"
    return re.compile(rf"\b{spoken}\b\W{{1,5}}{same}", re.I)


def _plain(after: str) -> str:
    """The prose behind an object."""
    return _LINK.sub(" ", _DRESSING.sub(" ", after)).lstrip(" \t\r\n]}").rstrip()
