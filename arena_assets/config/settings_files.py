"""Reads YAML files into settings, and tells a mistake in one line that names its place.

YAML itself lets the last of two equal keys win without a word; here that is an error.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

Kind = TypeVar("Kind", bound=BaseModel)


class ProfileError(ValueError):
    """A settings file that cannot be used: names the file, the key and what would be valid."""


def read_settings(path: Path, kind: type[Kind], what: str) -> Kind:
    """The settings of a YAML file; `what` it is ("profile") stands in messages.

    Raises ProfileError with one line a problem: file, key, what is wrong and what would be valid.
    """
    content = _mapping(path, what)
    try:
        return kind.model_validate(content, context={"folder": path.absolute().parent})
    except ValidationError as error:
        lines = [f"{path}: {explain(problem, kind, what)}" for problem in error.errors()]
        raise ProfileError("\n".join(lines)) from None


def merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with some changed: sections are merged, other values replaced."""
    both = dict(settings)
    for name, value in changes.items():
        inside = isinstance(value, Mapping) and isinstance(both.get(name), Mapping)
        both[name] = merged(both[name], value) if inside else value
    return both


def _mapping(path: Path, what: str) -> dict[Any, Any]:
    text = _text(path, what)
    try:
        content = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        hint = "; a tab cannot indent in YAML, use blanks" if "'\\t'" in str(error) else ""
        problem = error.problem or error.context
        raise ProfileError(f"{path}{place}: not valid YAML: {problem}{hint}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: dates, numbers
        reason = " ".join(str(error).split())
        raise ProfileError(f"{path}: not valid YAML: {reason}") from None
    if content is None:
        raise ProfileError(f"{path}: {what}: the file is empty; expected keys with their values")
    if not isinstance(content, dict):
        names: dict[type, str] = {list: "a list", str: "a text"}
        found = names.get(type(content), repr(content))
        raise ProfileError(f"{path}: {what}: expected keys with their values, got {found}")
    return content


def _text(path: Path, what: str) -> str:
    if path.is_dir():
        there = ", ".join(sorted(file.name for file in path.glob("*.yaml"))) or "none"
        raise ProfileError(f"{path}: a folder, no {what}; name a YAML file (there: {there})")
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ProfileError(f"{path}: no such {what}") from None
    except UnicodeDecodeError as error:
        byte = f"byte {error.object[error.start]:#04x} at {error.start}"
        raise ProfileError(f"{path}: not a text in UTF-8 ({byte}); save it as UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise ProfileError(f"{path}: cannot be read: {reason}") from None


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key stands once."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # here and not where mappings are constructed, because there merged keys (<<), which may be
        # overridden, stand among the mapping's own
        node = super().compose_mapping_node(anchor)
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name = self.construct_object(key) if key.tag in _CONVERTED else key.value
            if name in lines:
                merge = "; to merge several write <<: [*a, *b]" if name == "<<" else ""
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} is already on line {lines[name]}{merge}",
                    problem_mark=key.start_mark,
                )
            lines[name] = key.start_mark.line + 1
        return node


_CONVERTED = {f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "null")}


def explain(problem: Any, kind: type[BaseModel], what: str) -> str:
    """One line for a pydantic problem; unknown keys are told with the valid ones."""
    parts = problem["loc"]
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error" and not parts:
        return message  # names the key itself
    section: Any = kind
    shown = []
    for part in parts[:-1]:
        section, written = _step(section, part)
        shown += [str(part)] if written else []
    if parts and _step(section, parts[-1])[1]:
        shown.append(str(parts[-1]))
    place = ".".join(shown) or what
    if problem["type"] != "extra_forbidden":
        return f"{place}: {message}"
    valid = list(_model(section).model_fields)
    near = difflib.get_close_matches(str(parts[-1]), valid, 1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"{place}: unknown key ({meant}valid here: {', '.join(valid)})"


def _step(section: Any, part: str | int) -> tuple[Any, bool]:
    """What lies one step down a location such as ('opponents', 0, 'best_of').

    False with it where the step is pydantic's own: the tag of the member of a union.
    """
    origin, inside = get_origin(section), get_args(section)
    if origin is Annotated:
        return _step(inside[0], part)
    if origin in (Union, UnionType):
        for member in inside:
            if isinstance(member, type) and issubclass(member, BaseModel):
                tag = member.model_fields.get("kind")
                if tag and part in get_args(tag.annotation):
                    return member, False
        return _step(inside[0], part)
    if origin is dict:
        return inside[1], True
    if origin in (tuple, list):
        return inside[0], True
    if not (isinstance(section, type) and issubclass(section, BaseModel)):
        return None, True
    field = section.model_fields.get(str(part))
    return (field.annotation if field else None), True


def _model(section: Any) -> type[BaseModel]:
    """The settings class in an annotation such as `Rater | None`."""
    while not isinstance(section, type):
        section = get_args(section)[0]
    return section
