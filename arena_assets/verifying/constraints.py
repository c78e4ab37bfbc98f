"""Machine-readable constraints: what a checkable instruction demands of an answer.

A constraint is a JSON object with a `type` and its parameters. Every type can say what it demands
(`describe`) and whether a text meets it (`holds`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from arena_assets.config.settings import Settings

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_BULLET = re.compile(r"^\s*[-*•]\s+\S", re.MULTILINE)
_NUMBERED = re.compile(r"^\s*(\d+)[.)]\s+\S", re.MULTILINE)
_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)]*(?=\s|$)")


def _words(text: str) -> list[str]:
    return _WORD.findall(text)


def _mentions(text: str, word: str) -> bool:
    """Whether `word` (one or several words) stands in the text as whole words, in any case."""
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None


class Constraint(Settings):
    """Base of the constraints; they see the text without white space around it."""

    def describe(self) -> str:
        raise NotImplementedError

    def holds(self, text: str) -> bool:
        raise NotImplementedError


class AllLowercase(Constraint):
    type: Literal["all_lowercase"] = "all_lowercase"

    def describe(self) -> str:
        return "no capital letters"

    def holds(self, text: str) -> bool:
        return text == text.lower() and any(c.isalpha() for c in text)


class AllUppercase(Constraint):
    type: Literal["all_uppercase"] = "all_uppercase"

    def describe(self) -> str:
        return "capital letters only"

    def holds(self, text: str) -> bool:
        return text == text.upper() and any(c.isalpha() for c in text)


class BulletCount(Constraint):
    type: Literal["bullet_count"] = "bullet_count"
    count: int = Field(gt=0)

    def describe(self) -> str:
        return f"exactly {self.count} bullet points"

    def holds(self, text: str) -> bool:
        return len(_BULLET.findall(text)) == self.count


class NumberedListCount(Constraint):
    type: Literal["numbered_list_count"] = "numbered_list_count"
    count: int = Field(gt=0)

    def describe(self) -> str:
        return f"a numbered list from 1 to {self.count}"

    def holds(self, text: str) -> bool:
        return [int(n) for n in _NUMBERED.findall(text)] == list(range(1, self.count + 1))


class CommaListCount(Constraint):
    """One line of items with commas between them, and nothing else."""

    type: Literal["comma_list_count"] = "comma_list_count"
    count: int = Field(gt=1)

    def describe(self) -> str:
        return f"one line of exactly {self.count} items with commas between them"

    def holds(self, text: str) -> bool:
        items = [item.strip() for item in text.split(",")]
        short = all(0 < len(_words(item)) <= 4 for item in items)
        return "\n" not in text and len(items) == self.count and short


class ContainsWords(Constraint):
    type: Literal["contains_words"] = "contains_words"
    words: tuple[str, ...] = Field(min_length=1)

    def describe(self) -> str:
        return "mentions " + ", ".join(f"“{word}”" for word in self.words)

    def holds(self, text: str) -> bool:
        return all(_mentions(text, word) for word in self.words)


class ExcludesWords(Constraint):
    type: Literal["excludes_words"] = "excludes_words"
    words: tuple[str, ...] = Field(min_length=1)

    def describe(self) -> str:
        return "does not use " + ", ".join(f"“{word}”" for word in self.words)

    def holds(self, text: str) -> bool:
        return not any(_mentions(text, word) for word in self.words)


class WordCount(Constraint):
    type: Literal["word_count"] = "word_count"
    minimum: int = Field(1, ge=1)
    maximum: int = Field(gt=0)

    def describe(self) -> str:
        return f"{self.minimum} to {self.maximum} words"

    def holds(self, text: str) -> bool:
        return self.minimum <= len(_words(text)) <= self.maximum


class SentenceCount(Constraint):
    type: Literal["sentence_count"] = "sentence_count"
    count: int = Field(gt=0)

    def describe(self) -> str:
        return "exactly one sentence" if self.count == 1 else f"exactly {self.count} sentences"

    def holds(self, text: str) -> bool:
        return len(_SENTENCE_END.findall(text)) == self.count and text[-1] in ".!?\"'”’)"


class StartsWith(Constraint):
    type: Literal["starts_with"] = "starts_with"
    phrase: str

    def describe(self) -> str:
        return f"starts with “{self.phrase}”"

    def holds(self, text: str) -> bool:
        return text.casefold().startswith(self.phrase.casefold())


class EndsWith(Constraint):
    type: Literal["ends_with"] = "ends_with"
    phrase: str

    def describe(self) -> str:
        return f"ends with “{self.phrase}”"

    def holds(self, text: str) -> bool:
        return text.casefold().endswith(self.phrase.casefold())


class WrappedInQuotes(Constraint):
    type: Literal["wrapped_in_quotes"] = "wrapped_in_quotes"

    def describe(self) -> str:
        return "the whole answer in double quotation marks"

    def holds(self, text: str) -> bool:
        return len(text) > 2 and text[0] in '"“' and text[-1] in '"”'


class JsonObject(Constraint):
    """A JSON object and nothing else; a code fence around it is allowed."""

    type: Literal["json_object"] = "json_object"
    keys: tuple[str, ...] = Field(min_length=1)

    def describe(self) -> str:
        return "a JSON object with exactly the keys " + ", ".join(self.keys)

    def holds(self, text: str) -> bool:
        fenced = re.fullmatch(r"```(?:json)?\s*(.*?)\s*```", text, re.DOTALL)
        try:
            value = json.loads(fenced[1] if fenced else text)
        except ValueError:
            return False
        return isinstance(value, dict) and set(value) == set(self.keys)


class FinalAnswer(Constraint):
    """The last line is "Answer: <value>"; numbers are compared as numbers."""

    type: Literal["final_answer"] = "final_answer"
    value: str

    def describe(self) -> str:
        return f"the last line is “Answer: {self.value}”"

    def holds(self, text: str) -> bool:
        match = re.fullmatch(r"answer:\s*(.+?)\.?", text.splitlines()[-1].strip(), re.IGNORECASE)
        if not match:
            return False
        given = match[1].replace(",", "").casefold()
        try:
            return float(given) == float(self.value)
        except ValueError:
            return given == self.value.casefold()


class LastLineLabel(Constraint):
    """The form of a final answer without its value, so that form and value score apart."""

    type: Literal["last_line_label"] = "last_line_label"
    label: str

    def describe(self) -> str:
        return f"the last line begins with “{self.label}”"

    def holds(self, text: str) -> bool:
        return text.splitlines()[-1].strip().casefold().startswith(self.label.casefold())


class BracketedTitle(Constraint):
    type: Literal["bracketed_title"] = "bracketed_title"

    def describe(self) -> str:
        return "the first line is a title in <<double angle brackets>>"

    def holds(self, text: str) -> bool:
        return re.fullmatch(r"<<[^<>]+>>", text.splitlines()[0].strip()) is not None


class OneWordOf(Constraint):
    type: Literal["one_word_of"] = "one_word_of"
    words: tuple[str, ...] = Field(min_length=2)

    def describe(self) -> str:
        return "one word only, of " + ", ".join(self.words)

    def holds(self, text: str) -> bool:
        return text.rstrip(".!").casefold() in {word.casefold() for word in self.words}


class NoCommas(Constraint):
    type: Literal["no_commas"] = "no_commas"

    def describe(self) -> str:
        return "no commas"

    def holds(self, text: str) -> bool:
        return "," not in text


class ParagraphCount(Constraint):
    type: Literal["paragraph_count"] = "paragraph_count"
    count: int = Field(gt=0)
    separator: str = "***"

    def describe(self) -> str:
        return f"{self.count} parts with {self.separator} between them"

    def holds(self, text: str) -> bool:
        parts = text.split(self.separator)
        return len(parts) == self.count and all(part.strip() for part in parts)


AnyConstraint = Annotated[
    AllLowercase
    | AllUppercase
    | BulletCount
    | NumberedListCount
    | CommaListCount
    | ContainsWords
    | ExcludesWords
    | WordCount
    | SentenceCount
    | StartsWith
    | EndsWith
    | WrappedInQuotes
    | JsonObject
    | FinalAnswer
    | LastLineLabel
    | BracketedTitle
    | OneWordOf
    | NoCommas
    | ParagraphCount,
    Field(discriminator="type"),
]
_CONSTRAINTS: TypeAdapter[list[AnyConstraint]] = TypeAdapter(list[AnyConstraint])


@lru_cache(maxsize=10_000)
def _parse(json_text: str) -> tuple[Constraint, ...]:
    try:
        return tuple(_CONSTRAINTS.validate_json(json_text))
    except ValidationError as error:
        problems = [
            ".".join(map(str, problem["loc"])) + ": " + problem["msg"] for problem in error.errors()
        ]
        raise ValueError("constraints: " + "; ".join(problems)) from None


def parse_constraints(json_text: str) -> Sequence[Constraint]:
    """The constraints in a JSON list; ValueError says which one is wrong and how."""
    return _parse(json_text)
