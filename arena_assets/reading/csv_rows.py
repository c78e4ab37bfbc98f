"""Rows of CSV and TSV, every cell a text.

A row that breaks the rules of quoting is told apart with all of its lines: what is left of a broken
cell never passes for a row of its own, and a quotation mark that is never closed costs one row.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TextIO

from arena_assets.reading.records import LONGEST, Record

_DELIMITERS = (",", "\t", ";", "|")
_SAID = re.compile(r"sep=([,;|\t])\r?\n?", re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_AHEAD = 1_000  # lines in which the end of a broken cell is looked for


def csv_rows(
    open_text: Callable[..., AbstractContextManager[TextIO]], path: str, delimiter: str
) -> Iterator[Record]:
    """The rows below the header; `delimiter` is what the name promises.

    A header without it is split at another usual one; what a first line `sep=;` says, as Excel
    reads it, comes before both. Raises ValueError for a header with a name that is there twice.
    """
    csv.field_size_limit(LONGEST)  # the csv module's own limit of 128 Ki cuts long documents
    with open_text(newline="") as text:
        lines = _Lines(text)
        if said := _SAID.fullmatch(lines.peek()):
            delimiter = said[1]
            lines.take()
        first = _QUOTED.sub("", lines.peek())
        if delimiter not in first:
            delimiter = max(_DELIMITERS, key=first.count) if first else delimiter
        header: list[str] | None = None
        while lines.peek():
            line = lines.number + 1
            try:
                cells, raw = lines.row(delimiter)
            except csv.Error as error:
                raw = lines.broken(delimiter, len(header or ()))
                if header is None:
                    raise ValueError(f"{path}: the header is not CSV: {error}") from None
                yield Record(line, {}, f"not CSV: {error}", raw)
                continue
            if not cells:
                continue
            if header is None:
                header = [name.strip() for name in cells]
                _refuse_twice(header, path)
            else:
                yield _record(line, header, cells, raw)


def _refuse_twice(header: list[str], path: str) -> None:
    for name in header:
        if name and header.count(name) > 1:
            raise ValueError(f"{path}: the column {name!r} is there twice; rename one")


def _record(line: int, header: list[str], cells: list[str], raw: str) -> Record:
    extra = cells[len(header) :]
    if len(cells) < len(header) or any(cell.strip() for cell in extra):
        return Record(line, {}, f"expected {len(header)} cells, got {len(cells)}", raw)
    return Record(line, dict(zip(header, cells, strict=False)), None, raw)


class _Lines:
    """The lines of a file, read row by row, of which some can be put back."""

    def __init__(self, text: TextIO):
        self._text = text
        self._waiting: deque[str] = deque()
        self._taken: list[str] = []  # by the row at hand
        self.number = 0  # of the last line taken

    def _next(self) -> str:
        return self._waiting.popleft() if self._waiting else self._text.readline(LONGEST)

    def peek(self) -> str:
        """The next line, empty at the end of the file."""
        if not self._waiting:
            self._waiting.append(self._text.readline(LONGEST))
        return self._waiting[0]

    def row(self, delimiter: str) -> tuple[list[str], str]:
        """The cells of the next row, and its text; csv.Error where it breaks the rules."""
        self._taken = []
        reader = csv.reader(iter(self.take, ""), delimiter=delimiter, strict=True)
        cells = next(reader, [])
        return cells, "".join(self._taken).rstrip("\r\n")

    def take(self) -> str:
        line = self._next()
        if line:
            self._taken.append(line)
            self.number += 1
        return line

    def broken(self, delimiter: str, width: int) -> str:
        """The text of the row that broke the rules: one line, or up to the end of its cell.

        The next quotation mark at the edge of a cell decides: where it ends a cell, that cell is
        the broken row's; where it begins one, another row has begun. Past lines that look like rows
        an end is looked for only while the first line leaves a cell open. What is not the broken
        row's is put back.
        """
        taken, self._taken = self._taken, []
        self._waiting.extendleft(reversed(taken[1:]))
        edges = _edges(taken[0], delimiter)
        is_open = taken[0].count('"') % 2 == 1 or edges[-1:] == ["begin"]
        ahead: list[str] = []
        end = 0  # of the lines ahead that are the broken row's
        while len(ahead) < _AHEAD and (line := self._next()):
            ahead.append(line)
            edges = _edges(line, delimiter)
            if edges[:1] == ["end"]:
                end, is_open = len(ahead), False
            elif edges or (not is_open and line.count(delimiter) + 1 == width):
                break
        self._waiting.extendleft(reversed(ahead[end:]))
        self.number += end + 1 - len(taken)
        return "".join([taken[0], *ahead[:end]]).rstrip("\r\n")


def _edges(line: str, delimiter: str) -> list[str]:
    """Which of a line's quotation marks begin and which end a cell; those inside of one do neither.

    >>> _edges('that goes on here",y', ","), _edges('"Good, one",y', ","), _edges('5" pipe,x', ",")
    (['end'], ['begin', 'end'], [])
    """
    text = line.rstrip("\r\n")
    edges = []
    place = text.find('"')
    while place >= 0:
        if place == 0 or text[place - 1] == delimiter:
            edges.append("begin")
        elif place + 1 == len(text) or text[place + 1] == delimiter:
            edges.append("end")
        place = text.find('"', place + 1)
    return edges
