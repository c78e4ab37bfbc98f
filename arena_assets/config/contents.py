"""What is in the files that a profile names, as it goes into an identity: no comments, no layout.

What cannot be read goes in as it is: whoever uses the file says what is wrong in it.
"""

from __future__ import annotations

from typing import Any

import yaml

from arena_assets.config.places import resolve


def file_digest(path: str) -> str:
    """SHA-256 of a file, or of the files of a folder or pattern with their names."""
    from arena_assets.reading.places import digest_of

    return digest_of(str(resolve(path)))


def yaml_values(path: str) -> Any:
    """The values of a YAML file, each as it is written."""
    text = _text(path)
    try:
        return yaml.load(text, yaml.BaseLoader)  # texts, lists and mappings only
    except yaml.YAMLError:
        return text


def template_values(path: str) -> Any:
    """The values of a YAML file whose `user` is a Jinja template."""
    values = yaml_values(path)
    if isinstance(values, dict) and isinstance(values.get("user"), str):
        values["user"] = jinja_tokens(values["user"])
    return values


def template_tokens(path: str) -> list[list[str]] | str:
    """A Jinja file as chat templates are read: without the line breaks after its tags."""
    return jinja_tokens(_text(path), trimmed=True)


def jinja_tokens(text: str, trimmed: bool = False) -> list[list[str]] | str:
    """What a Jinja template says and does, token by token; comments do nothing.

    `trimmed` is for templates that are rendered with trim_blocks and lstrip_blocks.
    """
    from jinja2 import Environment, TemplateSyntaxError

    environment = Environment(trim_blocks=trimmed, lstrip_blocks=trimmed)
    tokens: list[list[str]] = []
    try:
        for _, kind, value in environment.lex(text):
            if kind == "whitespace" or kind.startswith("comment"):
                continue
            if kind == "data" and tokens and tokens[-1][0] == "data":  # a comment was between them
                tokens[-1][1] += value
            else:
                tag = kind.endswith(
                    ("_begin", "_end")
                )  # its signs and blanks have had their effect
                tokens.append([kind, "" if tag else value])
    except TemplateSyntaxError:
        return text
    return tokens


def _text(path: str) -> str:
    return resolve(path).read_text("utf-8-sig", errors="replace")
