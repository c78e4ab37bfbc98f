"""What a value was made from, as one hash: keys of stores, data versions and "out of date" use it.

The hash is SHA-256 over canonical JSON. Settings go in without what does not change the value
(marked NOT_IDENTITY where it is declared) and without what has its default, so that a price, an
address or a new neutral setting keeps every key; files go in by their content (`As`). A default
that changes what comes out needs a new VERSION, or a new version of the code that reads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

VERSION: Final = 2  # of the canonical form; 1 had every setting in it


class _NotIdentity:
    """The type of NOT_IDENTITY."""

    def __repr__(self) -> str:
        return "NOT_IDENTITY"


# marks a setting that changes no value: Annotated[float, NOT_IDENTITY]
NOT_IDENTITY: Final = _NotIdentity()


@dataclass(frozen=True)
class As:
    """Marks a setting that goes into an identity as `form(value)`, a file as its content.

    It is left out where it is None or the form is empty. Pydantic shows marks of the outermost
    annotation only: write Annotated[str | None, As(...)], not Annotated[str, As(...)] | None.
    """

    form: Callable[[Any], Any]


def identity(kind: str, /, **parts: Any) -> str:
    """The identity of one kind of value ("answer", "verdict" ...): 32 hexadecimal digits.

    `parts` are settings, identities of inputs, versions of code: pydantic models and what JSON can
    hold. Raises TypeError for anything else.
    """
    text = json.dumps(
        [VERSION, kind, canonical(parts)],
        sort_keys=True,
        ensure_ascii=False,
        separators=(",", ":"),
        allow_nan=False,
    )
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def canonical(value: Any) -> Any:
    """A value as JSON has it, the same for values that mean the same.

    1.0 is 1, a tuple is a list, sets are sorted. Of a model's fields those stay that are part of
    its identity and have another value than their default.
    """
    match value:
        case BaseModel():
            return dict(_said(value))
        case bool() | int() | str() | None:
            return str(value) if isinstance(value, str) else value
        case float():
            return int(value) if value.is_integer() else value
        case Mapping():
            return {str(name): canonical(part) for name, part in value.items()}
        case Set():
            return sorted((canonical(part) for part in value), key=json.dumps)
        case Sequence() if not isinstance(value, bytes | bytearray):
            return [canonical(part) for part in value]
    raise TypeError(f"no identity for a {type(value).__name__}: {value!r}")


def _said(settings: BaseModel, names: Iterable[str] | None = None) -> Iterator[tuple[str, Any]]:
    """What settings say in an identity: the names and canonical values of (some) fields."""
    fields = type(settings).model_fields
    for name in names or fields:
        field = fields[name]
        if NOT_IDENTITY in field.metadata:
            continue
        value = getattr(settings, name)
        form = next((mark.form for mark in field.metadata if isinstance(mark, As)), None)
        if form:
            # also of a default: the file that it names may be another one now
            said = None if value is None else canonical(form(value))
            if said not in (None, [], {}):
                yield name, said
        elif field.is_required() or canonical(value) != canonical(_default(field)):
            yield name, canonical(value)


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True, validated_data={})


def setting(settings: BaseModel, name: str) -> Any:
    """What one of some settings says in an identity; None where it says nothing."""
    return dict(_said(settings, [name])).get(name)
