"""Rows of JSON: an object a line, an array of objects, objects one after the other, or a table.

An array is not parsed as a whole but cut into its elements, which are then parsed like lines: so a
file of any length is streamed, and a broken element is told apart from the sound ones around it. A
parser of streams (ijson) would stop at the first broken one and give no text of it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TextIO

import regex

from arena_assets.reading.records import LONGEST, Record, json_record, line_records, parse_json

Open = Callable[[], AbstractContextManager[TextIO]]

_SHOWN = 1_000  # characters of a line that is too long
_FIRST_LINES = 5
_CHUNK = 1024 * 1024  # characters
# A text in quotation marks (the second one is missing where it is broken), a bracket, or a comma.
# not `re`, whose possessive quantifiers lose matches in Python before 3.11.4
_MARK = regex.compile(r'"(?:[^"\\\n]++|\\[^\n])*+("?)|[\[\]{},]')
_CLOSED_BY = {"[": "]", "{": "}"}


def json_rows(open_text: Open, path: str, by_line: bool) -> Iterator[Record]:
    """The rows of a file of JSON; ValueError where an array never ends.

    `by_line` says what the name promises. The first lines decide where they say another thing.
    One object may hold a whole table by its columns, as pandas writes one.
    """
    records = _records_of(open_text, path, by_line)
    head = list(itertools.islice(records, 2))
    yield from _rows_of_table(head[0]) if len(head) == 1 else head
    yield from records


def _rows_of_table(whole: Record) -> Iterator[Record]:
    """The rows of an object whose columns hold cells by their row's number; any other is a row."""
    columns = list(whole.row.values())
    if not columns or not all(isinstance(column, dict) for column in columns):
        yield whole
        return
    rows = columns[0].keys()
    if rows and all(map(str.isdecimal, rows)) and all(c.keys() == rows for c in columns):
        for number in rows:
            yield Record(whole.line, {name: cells[number] for name, cells in whole.row.items()})
    else:
        yield whole


def _records_of(open_text: Open, path: str, by_line: bool) -> Iterator[Record]:
    with open_text() as text:
        head = text.read(_CHUNK)
    lines = head.split("\n")
    whole = lines if len(head) < _CHUNK else lines[:-1]
    first = [line for line in whole if line.strip()][:_FIRST_LINES]
    spread = [line.strip() for line in first[:1]] == ["{"]  # an object over several lines
    with open_text() as text:
        if head.lstrip().startswith("[") and not (len(first) > 1 and _is_json(first[0])):
            yield from _elements(text, path, in_array=True)
        elif (by_line and not spread) or any(line[0] == "{" and _is_json(line) for line in first):
            yield from _by_line(text)
        else:
            yield from _elements(text, path, in_array=False)


def _is_json(text: str) -> bool:
    try:
        parse_json(text.strip())
    except ValueError:
        return False
    return True


def _by_line(text: TextIO) -> Iterator[Record]:
    number = 0
    while line := text.readline(LONGEST):
        number += 1
        row = line.strip().removeprefix("\ufeff")  # files that were joined keep their marks
        if len(line) == LONGEST and not line.endswith("\n"):
            yield Record(number, {}, f"longer than {LONGEST} characters", row[:_SHOWN])
            while len(line) == LONGEST and not line.endswith("\n"):
                line = text.readline(LONGEST)
        elif row:
            yield from line_records(number, row)


def _elements(text: TextIO, path: str, in_array: bool) -> Iterator[Record]:
    """The elements of an array, or the values of a file that is none."""
    for line, element, own_line in _cut(text, path, in_array):
        if element.strip(" \t\n,"):
            yield from _records(line, element, own_line)


def _records(line: int, text: str, own_line: bool) -> Iterator[Record]:
    """The record of an element, or those of the lines that its missing bracket swallowed."""
    indent = len(text) - len(text.lstrip(" \t")) if own_line else 1
    record = json_record(line, text.strip())
    if record.problem and "\n" in text:
        pieces = re.split(rf"\n(?=[ \t]{{0,{min(indent, 100)}}}\{{)", text)
        if len(pieces) > 1:
            for piece in pieces:
                yield json_record(line, piece.strip().rstrip(",").rstrip())
                line += piece.count("\n") + 1
            return
    yield record


def _cut(text: TextIO, path: str, in_array: bool) -> Iterator[tuple[int, str, bool]]:
    """Each element with the line that it begins on, and whether it begins that line."""
    depth = 1 if in_array else 0  # of what elements lie in
    awaited: list[str] = []  # the closing brackets of those that are open
    pieces: list[str] = []  # of the element at hand
    size, line, own_line, ended = 0, 1, True, False
    for piece, sign in _pieces(text):
        if ended and piece.strip():
            raise ValueError(f"{path}: there is more after the array that ends on line {line}")
        pieces.append(piece)
        size += len(piece)
        if size > LONGEST or sign is None:
            raise ValueError(
                f"{path}: what begins on line {line} is longer than {LONGEST} characters, "
                "or never ends"
            )
        if sign in _CLOSED_BY:
            awaited.append(_CLOSED_BY[sign])
        elif sign in awaited:
            while awaited.pop() != sign:  # those in it were left open
                pass
            ended = len(awaited) < depth
        if sign and len(awaited) > depth:
            continue
        element = "".join(pieces)
        closes = sign in ("]", "}") and not ended
        yield _placed(element if closes else element.removesuffix(sign), line, own_line)
        size, line, own_line, pieces = 0, line + element.count("\n"), False, []
    if in_array and not ended:
        raise ValueError(f"{path}: the array breaks off in what begins on line {line}")


def _pieces(text: TextIO) -> Iterator[tuple[str, str | None]]:
    """The text up to each bracket and comma outside of quotation marks, and that sign.

    The rest of the file comes with an empty sign, what is too long without brackets with None.
    """
    buffer, at = "", 0
    while chunk := text.read(max(_CHUNK, len(buffer))):
        buffer += chunk
        begin = 0
        for mark in _MARK.finditer(buffer, at):
            sign = mark[0]
            if sign[0] == '"' and not mark[1] and buffer[mark.end() :] in ("", "\\"):
                break  # the end of this text is still to be read
            at = mark.end()
            if sign[0] != '"':
                yield buffer[begin:at], sign
                begin = at
        buffer, at = buffer[begin:], at - begin
        if len(buffer) > LONGEST:
            yield buffer, None
    yield buffer, ""


def _placed(element: str, line: int, fresh: bool) -> tuple[int, str, bool]:
    """An element without the lines before it, the line that it begins on, and whether it does."""
    blank = element[: len(element) - len(element.lstrip())]
    lines = blank.count("\n")
    return line + lines, element[blank.rfind("\n") + 1 :], fresh or lines > 0
