"""What a value was made from, as one hash: keys of stores, data versions and "out of date" use it.

The hash is SHA-256 over canonical JSON. Settings go in without what does not change the value
(marked NOT_IDENTITY where it is declared) and without what has its default, so that a price, an
address or a new neutral setting keeps every key; files go in by their content (`As`). A default
that changes what comes out needs a new VERSION, or a new version of the code that reads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence, Set
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
    """Marks a setting that goes into an identity as `form(value)`, a file as its content."""

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
            return {
                name: said
                for name, field in type(value).model_fields.items()
                if (said := _said(field, getattr(value, name))) is not None
            }
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


def _said(field: FieldInfo, value: Any) -> Any:
    """What a field says in an identity; None where it says nothing."""
    if any(mark is NOT_IDENTITY for mark in field.metadata):
        return None
    if value == field.get_default(call_default_factory=True, validated_data={}):
        return None
    forms = [mark.form for mark in field.metadata if isinstance(mark, As)]
    return canonical(forms[0](value) if forms and value is not None else value)


def setting(section: BaseModel, name: str) -> Any:
    """What one field of some settings says in an identity; None where it says nothing."""
    return _said(type(section).model_fields[name], getattr(section, name))
