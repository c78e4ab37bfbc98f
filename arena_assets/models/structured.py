"""Structured outputs: what a model is asked for as JSON, and what its values have to be.

One pydantic model says both. Its JSON schema goes to the engine; its validation takes the values
that `json_output` found, as a model really writes them. Numbers are asked for whole, since a small
model finds no end to decimals, and taken with a fraction too.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic.json_schema import GenerateJsonSchema

from arena_assets.models.json_output import EXPLANATION, number_of, text_of


def _number(said: Any) -> float:
    number = number_of(said)
    if number is None:
        raise ValueError("no number")
    return number


AS_WRITTEN: Final = BeforeValidator(_number)  # a float that may be written as "8/10"
WHOLE: Final[dict[str, Any]] = {"type": "integer"}  # in the schema only


class _Bare(GenerateJsonSchema):
    """Without titles: servers show a schema to their models, and words in it are instructions."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


class StructuredOutput(BaseModel):
    """An object of an explanation and numbers; the explanation comes first, so that the numbers
    follow from it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    explanation: Annotated[str, BeforeValidator(text_of)]

    @classmethod
    def numbers(cls) -> tuple[str, ...]:
        """The names of all fields but the explanation."""
        return tuple(name for name in cls.model_fields if name != EXPLANATION)

    @classmethod
    def json_schema(cls, explanation_characters: int) -> dict[str, Any]:
        """The JSON schema; the explanation's length is asked for, and not checked afterwards."""
        schema = cls.model_json_schema(schema_generator=_Bare)
        schema["properties"][EXPLANATION]["maxLength"] = explanation_characters
        return {name: said for name, said in schema.items() if name not in ("title", "description")}
