"""How difficult prompts are, from 0 to 10, asked of a language model; asked once and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from pydantic import Field

from arena_assets.config.models import Sampling
from arena_assets.config.places import resolve
from arena_assets.config.prompts import DifficultyRater
from arena_assets.config.settings import Settings
from arena_assets.config.settings_files import read_settings
from arena_assets.lake.code import code_version
from arena_assets.lake.identity import identity
from arena_assets.lake.store import Store
from arena_assets.models.conversations import Ask, converse, once
from arena_assets.models.engines import Completion, Engine, Request
from arena_assets.models.json_output import EXPLANATION, Unread, number_of, read_object, text_of

SCHEMA = pa.schema(
    [("key", pa.string()), ("difficulty", pa.float64()), ("explanation", pa.string())]
)


# Asked for through structured outputs: whole numbers, since a small model finds no end to decimals.
_OUTPUT = {
    "type": "object",
    "properties": {
        "explanation": {"type": "string", "maxLength": 160},
        "difficulty": {"type": "integer", "minimum": 0, "maximum": 10},
    },
    "required": ["explanation", "difficulty"],
    "additionalProperties": False,
}


class Template(Settings):
    """What the rater is told, read from YAML."""

    version: str
    system: str
    user: str = Field(description="Jinja: messages")


def rate(
    prompts: pa.Table,
    settings: DifficultyRater,
    model: str,
    engine: Callable[[], Engine],
    folder: Path,
    batch: int,
    log: Callable[[str], None],
) -> dict[str, float]:
    """The difficulty of each prompt (prompt_id, messages); what `folder` holds is not asked again.

    `model` is the model's identity. A prompt whose rating could not be parsed in `attempts` tries
    is missing in the result. Raises BackendDown where the backend is gone.
    """
    template = read_template(settings.template)
    store = Store(folder, SCHEMA, "key")
    keys, requests = {}, {}
    for row in prompts.select(["prompt_id", "messages"]).to_pylist():
        messages = render(template, row["messages"])
        key = key_of(model, settings.sampling, messages)
        keys[row["prompt_id"]], requests[key] = key, Request(row["prompt_id"], messages)
    with store.locked(log):
        pending = sorted(set(requests) - _kept(store, requests).keys())
        for attempt in range(settings.attempts if pending else 0):
            drawn = settings.sampling
            if attempt and drawn.temperature == 0:
                # greedy output would fail the same way again
                drawn = drawn.model_copy(update={"temperature": 0.7})
            failed: list[str] = []
            for start in range(0, len(pending), batch):
                part = pending[start : start + batch]
                asks = [Ask(requests[key], drawn, json_schema=_OUTPUT) for key in part]
                rated = _ask(engine(), asks, part, store)
                failed += [key for key in part if key not in rated]
                log(f"difficulty: {start + len(part)}/{len(pending)} prompts, {len(failed)} failed")
            pending = failed
    by_key = _kept(store, requests)
    return {prompt_id: by_key[key] for prompt_id, key in keys.items() if key in by_key}


def key_of(model: str, sampling: Sampling, messages: list[dict[str, str]]) -> str:
    """The key of a rating: what is asked of which model, and how."""
    code = code_version("difficulty")
    return identity("difficulty", code=code, model=model, sampling=sampling, messages=messages)


def _ask(engine: Engine, asks: Sequence[Ask], keys: Sequence[str], store: Store) -> set[str]:
    """The keys that were rated; every rating is stored as it comes."""
    rated: set[str] = set()
    with store.collecting() as keep:

        def arrived(ended: list[tuple[int, list[Completion]]]) -> None:
            found = [(keys[number], read_difficulty(said.text)) for number, (said,) in ended]
            keep([{"key": key, **rating} for key, rating in found if rating])
            rated.update(key for key, rating in found if rating)

        converse(engine, [once(ask) for ask in asks], arrived)
    return rated


def read_difficulty(text: str) -> dict[str, Any] | None:
    """The rating in a model's output, without a key; None where none is read surely.

    >>> read_difficulty('{"explanation": "One step.", "difficulty": "2/10"}')
    {'explanation': 'One step.', 'difficulty': 2.0}
    """
    try:
        values = read_object(text, ("difficulty",)).values
    except Unread:
        return None
    difficulty = number_of(values["difficulty"])
    if difficulty is None or not 0 <= difficulty <= 10:
        return None
    return {"explanation": text_of(values[EXPLANATION]), "difficulty": difficulty}


def _kept(store: Store, keys: Iterable[str]) -> dict[str, float]:
    """The ratings of the store among `keys`."""
    with duckdb.connect() as connection:
        store.create_view(connection, "ratings")
        rows = connection.execute(
            "select key, difficulty from ratings where list_contains($keys, key)",
            {"keys": list(keys)},
        ).fetchall()
    return dict(rows)


def render(template: Template, messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """What the rater is asked about a conversation."""
    user = _compiled(template.user).render(messages=messages)
    return [{"role": "system", "content": template.system}, {"role": "user", "content": user}]


@lru_cache(maxsize=1)
def _compiled(user: str) -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    return SandboxedEnvironment(undefined=StrictUndefined).from_string(user)


def read_template(path: str) -> Template:
    """A difficulty template; ProfileError names the file and what is wrong in it."""
    return read_settings(resolve(path), Template, "difficulty template")
