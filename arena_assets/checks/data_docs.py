"""Data Docs: Great Expectations' results as pages that load nothing and run no script.

Great Expectations' own page takes its looks from servers on the internet and writes values into the
HTML as they are. Here its renderer says what is on a page, and its view is held to three things:
what is no markup of its own is escaped, its links and scripts stay out, and the style is in the
page. The index over all pages is ours, since Great Expectations' is a script.

Importing this takes seconds: it imports Great Expectations.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from great_expectations.render.renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaPageView
from jinja2 import ChoiceLoader, FileSystemLoader, pass_context
from markupsafe import Markup

from arena_assets.config.places import output_folder
from arena_assets.hostile_text import in_html

_PAGES = Path(__file__).with_name("pages")


def pages_of(arena: str) -> Path:
    """The folder of an arena's pages: below ARENA_DATA_DOCS, else data/quality."""
    return output_folder("ARENA_DATA_DOCS", "data/quality") / arena


def write_page(result: Any, folder: Path, table: str, partition: str) -> None:
    """The page of one validation in `folder`, and the index over all pages there."""
    view = _page()
    document = ValidationResultsPageRenderer().render(result)
    title = f"{folder.name} / {table} / {partition}"
    _write(folder / table / f"{partition}.html", view.render(document, title=title))
    passed = sum(bool(found.success) for found in result.results)
    summary = {"success": bool(result.success), "passed": passed, "checks": len(result.results)}
    _write(folder / table / f"{partition}.json", json.dumps(summary))
    rows = [
        {"table": file.parent.name, "partition": file.stem, **json.loads(file.read_text("utf-8"))}
        for file in sorted(folder.glob("*/*.json"))
    ]
    index = view.env.get_template("index.j2")
    title = f"Data quality of {folder.name}"
    _write(folder / "index.html", index.render(title=title, rows=rows))


@cache
def _page() -> OfflinePage:
    """One for all pages of a process: it compiles its templates once."""
    return OfflinePage()


def _write(path: Path, text: str) -> None:
    """Replace a file in one step: runs side by side write the same index."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


class OfflinePage(DefaultJinjaPageView):
    """Great Expectations' page with every value escaped, without its links, scripts and servers."""

    _template = "validation.j2"

    def __init__(self) -> None:
        super().__init__()
        # Great Expectations' templates are named *.j2, for which Jinja escapes nothing by default
        self.env.autoescape = True
        self.env.loader = ChoiceLoader([FileSystemLoader(_PAGES), self.env.loader])

    @pass_context
    def render_content_block(
        self, context: Any, block: Any, index: Any = None, content_block_id: Any = None
    ) -> str:
        """Markup of what is a block; anything else is text."""
        if isinstance(block, list):
            parts = (
                self.render_content_block(context, part, number, f"{content_block_id}-{number}")
                for number, part in enumerate(block)
            )
            return Markup(" ").join(parts)
        if isinstance(block, Mapping) and "content_block_type" in block:
            return Markup(super().render_content_block(context, block, index, content_block_id))
        return Markup("" if block is None else in_html(str(block)))

    def render_string_template(self, template: Any) -> str:
        return Markup(super().render_string_template(template))

    @staticmethod
    def _escape_template_param_value(value: Any) -> str:
        return in_html(str(value))

    def render_styling(self, styling: Mapping[str, Any]) -> str:
        attributes = {
            name: in_html(str(value))
            for name, value in (styling.get("attributes") or {}).items()
            if name != "href"  # leads to a page of Great Expectations' own site, which is not there
        }
        return Markup(super().render_styling({**styling, "attributes": attributes}))

    def render_styling_from_string_template(self, template: Any) -> str:
        return Markup(super().render_styling_from_string_template(template))

    def attributes_dict_to_html_string(self, attributes_dict: Any, prefix: str = "") -> str:
        escaped = {name: in_html(str(value)) for name, value in attributes_dict.items()}
        return Markup(super().attributes_dict_to_html_string(escaped, prefix))
