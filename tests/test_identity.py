"""The one hash of what a value was made from: what it sees, and what it does not."""

from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from arena_assets.lake.identity import NOT_IDENTITY, As, canonical, identity


class Part(BaseModel):
    width: float = 1.0
    names: tuple[str, ...] = ()


class Whole(BaseModel):
    kind: str
    part: Part = Part()
    price: Annotated[float | None, NOT_IDENTITY] = None
    file: Annotated[str | None, As(str.upper)] = None


def test_what_has_its_default_or_is_no_identity_is_left_out():
    assert canonical(Whole(kind="a")) == {"kind": "a"}
    assert canonical(Whole(kind="a", price=3.0)) == {"kind": "a"}
    assert canonical(Whole(kind="a", part=Part(width=2))) == {"kind": "a", "part": {"width": 2}}
    assert canonical(Whole(kind="a", file="x")) == {"kind": "a", "file": "X"}


def test_a_default_that_is_written_out_with_another_price_is_the_default():
    class Priced(BaseModel):
        part: Whole = Whole(kind="a", price=1.0)
        parts: tuple[Whole, ...] = (Whole(kind="a"),)

    plain = {"part": {"kind": "a", "price": 2.0}, "parts": [{"kind": "a", "price": 3.0}]}
    assert canonical(Priced.model_validate(plain)) == {}
    assert canonical(Priced(part=Whole(kind="b"))) == {"part": {"kind": "b"}}


def test_a_new_neutral_setting_keeps_the_identity():
    class Wider(Whole):
        colour: str = "none"

    assert identity("x", settings=Whole(kind="a")) == identity("x", settings=Wider(kind="a"))
    assert identity("x", settings=Whole(kind="a")) != identity("x", settings=Whole(kind="b"))


def test_kinds_and_names_of_parts_count():
    assert (
        len({identity("a", x=1), identity("b", x=1), identity("a", y=1), identity("a", x=2)}) == 4
    )


@given(st.dictionaries(st.text(max_size=3), st.integers() | st.floats(allow_nan=False) | st.text()))
@settings(max_examples=50, deadline=None)
def test_order_and_number_types_do_not_count(parts):
    turned = {
        name: float(part) if isinstance(part, int) and abs(part) < 2**50 else part
        for name, part in reversed(parts.items())
    }
    assume_finite = all(abs(p) != float("inf") for p in parts.values() if isinstance(p, float))
    if assume_finite:
        assert identity("x", parts=parts) == identity("x", parts=turned)


def test_what_has_no_canonical_form_is_refused():
    with pytest.raises(TypeError, match="no identity for a bytes"):
        identity("x", raw=b"1")
    with pytest.raises(ValueError):
        identity("x", number=float("nan"))
