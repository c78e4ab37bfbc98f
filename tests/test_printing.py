"""Tables for people: whole words at any width, and intervals in one cell."""

from __future__ import annotations

import re
import sys

import pytest

from arena_assets.cli.printing import interval, print_table

ROW = {"name": "i01.1-sft", "digest": "1b744c8cb48d", "rating": 1091.4, "why": None}
ROW |= {"interval": "1061 to 1121", "state": "intact", "held_out_rating": 934.2}


@pytest.fixture
def screen(monkeypatch, capsys):
    def print_at(width: int) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        print_table("models", tuple(ROW), [ROW, ROW | {"name": "base", "why": "it was there"}])
        shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)  # a terminal has bold names
        return shown.splitlines()

    return print_at


@pytest.mark.parametrize("width", [200, 92, 80, 72, 40, 20])
def test_no_word_is_cut_however_narrow_the_screen(screen, width):
    lines = screen(width)
    assert max(map(len, lines)) <= width
    for word in ("i01.1-sft", "1b744c8cb48d", "1091", "1061", "1121", "intact", "934", "there"):
        assert any(word in line for line in lines), word
    assert not any("…" in line for line in lines)


def test_a_row_that_does_not_fit_is_told_by_name_without_what_is_missing(screen):
    lines = screen(40)
    assert lines[1] == "i01.1-sft" and "digest 1b744c8cb48d" in lines[2]
    first = " ".join(lines[2 : lines.index("base")])
    assert "held out rating 934" in " ".join(first.split()) and "why" not in first


@pytest.mark.parametrize(
    ("ends", "told"),
    [((1060.6, 1121.2), "1061 to 1121"), ((-0.5, 3.4), "-0 to 3"), ((None, 1.0), None)],
)
def test_an_interval_is_one_cell(ends, told):
    assert interval(*ends) == told
