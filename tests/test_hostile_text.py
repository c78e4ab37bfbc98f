"""Prompts and answers are hostile text: wherever they are shown, nothing loads, runs or acts."""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from test_assets import FIRST, answer, judgment

from arena_assets.assets.metadata import markdown_table
from arena_assets.checks.data_docs import pages_of
from arena_assets.checks.expectations import _check_result, failed_expectations, validate
from arena_assets.checks.suites import suites
from arena_assets.cli.printing import print_table
from arena_assets.flywheel.arena import Arena
from arena_assets.hostile_text import in_html, in_markdown, visible, visible_lines
from arena_assets.plots import ratings_plot

HOSTILE = [
    "<script>document.title = 'taken'</script>",
    '"><img src=http://evil.example/a.png onerror="document.title = \'taken\'">',
    "![picture](http://evil.example/b.png)",
    "[![picture][1]](http://evil.example/c) [1]: http://evil.example/d.png",
    "<http://evil.example/e> www.evil.example HTTPS://evil.example me@evil.example",
    "a | b |\n| --- |\n| ![x](//evil.example/f.png)",
    "``` ` \\` \\| <b>bold</b> **bold** __bold__ ~~gone~~",
    "[red]red[/red] [link=http://evil.example]here[/link] :warning:",
    "\x1b[31mred\x1b]8;;http://evil.example\x07link\x1b]8;;\x07 \x9b2J \r\x08 overwritten",
    "\u202eexe.gpj\u202c and \u2066hidden\u2069 \u200b \U000e0041 \ud800",
    "$$x$ ${template} {{ 7 * 7 }} {% raw %} &lt;b&gt; &#60;",
]
MARKDOWN = MarkdownIt("gfm-like", {"linkify": False, "html": True})


# -- text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words, 1.5 % - é 漢字 👩‍👩‍👧", "plain words, 1.5 % - é 漢字 👩‍👩‍👧"),
        ("two\nlines\tand\r\nmore", "two lines and  more"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("bell\x07 null\x00 c1\x9b", "bell\\x07 null\\x00 c1\\x9b"),
        ("half\ud800 tag\U000e0041", "half\\ud800 tag\\U000e0041"),
        ("line\u2028separator\x85", "line separator "),
    ],
)
def test_what_acts_or_hides_is_shown_as_what_it_is(text, shown):
    assert visible(text) == shown


def test_messages_keep_their_lines():
    assert visible_lines("one\x1b[2J\n  two") == "one\\x1b[2J\n  two"


def rendered(markdown: str) -> str:
    return MARKDOWN.render(markdown)


def text_of(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", page))


@given(st.text() | st.sampled_from(HOSTILE))
@settings(max_examples=150, deadline=None)
def test_markdown_shows_a_cell_as_it_is(text):
    page = rendered(f"| a | b |\n| --- | --- |\n| {in_markdown(text)} | end |")
    tags = "table thead tr th th tbody tr td td"
    assert re.findall(r"<(\w+)", page) == tags.split()
    cell = re.search(r"<td>(.*?)</td>", page, re.S)[1]
    assert html.unescape(cell).replace("\u2060", "").split() == visible(text).split()


@given(st.text() | st.sampled_from(HOSTILE))
@settings(max_examples=150, deadline=None)
def test_html_shows_text_as_it_is(text):
    escaped = in_html(text)
    assert html.unescape(escaped) == visible(text)
    assert not re.search("[<>\"'=`]", escaped)


@pytest.mark.parametrize("address", ["http://a.example/x", "HTTPS://b.example", "www.c.example"])
def test_no_bare_address_is_left_that_the_ui_would_make_a_link_of(address):
    # what mdast-util-gfm-autolink-literal looks for, after character references were read
    shown = html.unescape(in_markdown(f"see {address} or me@d.example"))
    assert not re.search(r"(https?://|www(?=\.))([-.\w]+)([^ \t\r\n]*)", shown, re.I)
    assert not re.search(r"([-.\w+]+)@([-\w]+(?:\.[-\w]+)+)", shown)


# -- metadata --------------------------------------------------------------------------------------


def test_a_preview_is_a_table_of_text():
    messages = [[{"role": "user", "content": text}] for text in HOSTILE[:-2]]
    table = pa.table({"<b>name</b>": HOSTILE[:-2], "messages": messages})
    page = rendered(markdown_table(table))
    assert set(re.findall(r"<(\w+)", page)) == {"table", "thead", "tbody", "tr", "th", "td"}
    assert page.count("<tr>") == 1 + len(messages) and page.count("<td>") == 2 * len(messages)
    assert "http://" not in page and "<b>name</b>" in text_of(page)


def test_what_a_check_says_is_text(arena):
    arena.lake.write("judgments", [judgment(1, status=HOSTILE[2]), judgment(2)], FIRST)
    suite = suites(arena.profile)["judgments"]
    (found,) = validate(arena, suite, FIRST, names={"known_status"}).results
    found.exception_info = {"metric": {"exception_message": HOSTILE[2] + HOSTILE[8]}}
    result = _check_result("judgments", FIRST, found)
    assert set(re.findall(r"<(\w+)", rendered(result.description))) == {"p"}
    assert "\x1b" not in str(result.metadata) + result.description
    kinds = {type(value) for value in result.metadata.values()}
    assert kinds == {dg.TextMetadataValue}, "which the UI shows as text"


# -- a terminal ------------------------------------------------------------------------------------


def test_a_table_on_a_terminal_prints_cells_as_text(capsys):
    rows = [{"contestant": text, "score": 1.0} for text in HOSTILE]
    print_table(HOSTILE[7] + HOSTILE[8], ("contestant", "score"), rows)
    printed = capsys.readouterr().out
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", printed)
    assert "[red]red[/red] [link=http://evil.example]here[/link] :warning:" in printed
    assert "\\x1b[31mred" in printed and "\\u202eexe.gpj" in printed


def test_names_in_plots_are_no_formulas():
    rows = [
        {"contestant": name, "rating": 1.0, "lower": 0.0, "upper": 2.0}
        for name in ("$\\frac{1", "a\x1b[31m", "$x$")
    ]
    assert ratings_plot(rows, "$\\oops{").startswith(b"\x89PNG")


# -- pages of Great Expectations -------------------------------------------------------------------


@pytest.fixture
def arena(tmp_path, tiny_profile, monkeypatch) -> Arena:
    monkeypatch.setenv("ARENA_DATA_DOCS", str(tmp_path / "quality"))
    return Arena(str(tiny_profile), str(tmp_path / "lake"))


@pytest.fixture
def page_of_hostile_answers(arena) -> Path:
    """The page of answers whose contestants, roles and finish reasons are hostile texts."""
    plea = "Ignore all previous instructions and "
    rows = [
        answer("p", text.replace("\ud800", ""), plea + text[:3], role=text.replace("\ud800", ""))
        for text in HOSTILE
    ]
    arena.lake.write("responses", rows, FIRST)
    failed = failed_expectations(arena, "responses", FIRST)
    assert failed == ["known_roles"]
    return pages_of("tiny") / "responses" / f"{FIRST}.html"


def test_values_on_a_page_are_text(page_of_hostile_answers):
    page = page_of_hostile_answers.read_text("utf-8")
    assert not re.search(r"<script|<img|<a [^>]*http|onerror=|src=|\x1b|\u202e", page)
    text = re.sub(r"\s+", " ", text_of(page))
    for hostile in (*HOSTILE[:5], HOSTILE[6]):
        assert visible(hostile) in text, hostile
    assert HOSTILE[-1] in text, "nobody's template language is read in a value"


def test_a_browser_loads_nothing_else_and_runs_nothing(page_of_hostile_answers):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium here; on Debian: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(page_of_hostile_answers.as_uri(), wait_until="load")
        assert page.title() == f"tiny / responses / {FIRST}", "no script has changed it"
        assert asked == [page_of_hostile_answers.as_uri()]
        assert page.locator("img, script, iframe, object, link").count() == 0
        hrefs = page.locator("a").evaluate_all("links => links.map(a => a.getAttribute('href'))")
        assert {href[0] for href in hrefs if href} == {"#", "."}
        table = page.locator("table").first
        assert table.evaluate("t => getComputedStyle(t).borderCollapse") == "collapse", "styled"
        browser.close()
