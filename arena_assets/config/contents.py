"""What is in the files that a profile names, as it goes into an identity: no comments, no layout.

What cannot be read goes in as it is: whoever uses the file says what is wrong in it.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import yaml

from arena_assets.config.places import resolve
from arena_assets.lake.files import digest_of_state, file_state


def file_digest(path: str) -> str:
    """SHA-256 of a file, or of the files of a folder or pattern with their names."""
    from arena_assets.reading.places import digest_of

    return digest_of(str(resolve(path)))


def folder_digests(path: str) -> list[list[str]] | None:
    """Name and SHA-256 of each file at or below a folder; None where there is none.

    A file is read once for each state of it in a process.
    """
    folder = resolve(path)
    there = sorted(file for file in folder.rglob("*") if file.is_file())
    names = [(file.relative_to(folder), file_state(file)) for file in there]
    shown = [(name, state) for name, state in names if not _hidden(name)]
    return [[name.as_posix(), digest_of_state(state)] for name, state in shown if state] or None


def prompt_values(path: str) -> Any:
    """The values of a prompt's YAML file, each as it is written, without its label `version`."""
    text = _text(path)
    try:
        values = yaml.load(text, yaml.BaseLoader)  # texts, lists and mappings only
    except yaml.YAMLError:
        return text
    if isinstance(values, dict):
        values.pop("version", None)
    return values


def template_values(path: str) -> Any:
    """The same of a file whose `user` is a Jinja template."""
    values = prompt_values(path)
    if isinstance(values, dict) and isinstance(values.get("user"), str):
        values["user"] = jinja_tokens(values["user"])
    return values


def template_tokens(path: str) -> list[list[str]] | str:
    """A Jinja file as chat templates are read: without the line breaks after its tags."""
    return jinja_tokens(_text(path), trimmed=True)


def sharding(path: str) -> Any:
    """How a settings file of accelerate shares a model out; nothing where each process holds it.

    One process and several that hold the whole model compute the same; who shares it out rounds
    otherwise.
    """
    try:
        values = yaml.load(_text(path), yaml.BaseLoader)
    except yaml.YAMLError:
        return _text(path)
    known = values if isinstance(values, dict) else {}
    return {name: known[name] for name in ("fsdp_config", "deepspeed_config") if name in known}


def _hidden(name: PurePath) -> bool:
    """Whether a file is a note of a file system or of a tool, such as .cache of the hub."""
    return any(part.startswith(".") for part in name.parts)


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
