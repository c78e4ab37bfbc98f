"""How difficult prompts are, from 0 to 10, asked of a language model; asked once and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import duckdb
import pyarrow as pa
from pydantic import Field, ValidationError

from arena_assets.config.models import Sampling
from arena_assets.config.places import resolve
from arena_assets.config.prompts import DifficultyRater
from arena_assets.config.settings_files import read_settings
from arena_assets.lake.code import code_version
from arena_assets.lake.identity import identity
from arena_assets.lake.store import Store
from arena_assets.models.asking import (
    Asking,
    Row,
    Tried,
    attempt_sampling,
    batches_of,
    create_missing,
    tries,
)
from arena_assets.models.conversations import Arrived, Ask, Conversation, converse
from arena_assets.models.dialogue import Message
from arena_assets.models.engine import Engine, Request
from arena_assets.models.json_output import Unread, read_object
from arena_assets.models.prompting import PromptTemplate
from arena_assets.models.structured import AS_WRITTEN, WHOLE, StructuredOutput

SCHEMA = pa.schema(
    [("key", pa.string()), ("difficulty", pa.float64()), ("explanation", pa.string())]
)
_ROWS = 10_000  # rows an Arrow batch


class DifficultyTemplate(PromptTemplate):
    """What a rater of difficulty is told; the prompt that it makes goes into every key."""

    user: str = Field(description="Jinja: messages")


class Rating(StructuredOutput):
    """The rater's answer."""

    difficulty: Annotated[float, Field(ge=0, le=10, json_schema_extra=WHOLE), AS_WRITTEN]


_RATING_SCHEMA = Rating.json_schema(explanation_characters=160)


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
    store = Store(folder, SCHEMA, "key")
    requests = _requests(prompts, settings, model)
    with duckdb.connect() as connection:
        connection.register("requests", requests)
        with store.locked(log):
            if waiting := _create_todo(connection, store, batch):
                _ask(connection, waiting, settings, engine, store, log)
            store.create_view(connection, "stored")
            rows = connection.execute(
                "select prompt_id, difficulty from requests join stored using (key) order by all"
            ).fetchall()
    return dict(rows)


def key_of(model: str, sampling: Sampling, messages: list[Message]) -> str:
    """The key of a rating: what is asked of which model, and how."""
    code = code_version("difficulty")
    return identity("difficulty", code=code, model=model, sampling=sampling, messages=messages)


def read_rating(text: str) -> Rating | None:
    """The rating in a model's output; None where none is read surely.

    >>> read_rating('{"explanation": "One step.", "difficulty": "2/10"}')
    Rating(explanation='One step.', difficulty=2.0)
    """
    try:
        return Rating.model_validate(read_object(text, Rating.numbers()).values)
    except (Unread, ValidationError):
        return None


def read_template(path: str) -> DifficultyTemplate:
    """A template of a rater; ProfileError names the file and what is wrong in it."""
    return read_settings(resolve(path), DifficultyTemplate, "difficulty template")


def _requests(prompts: pa.Table, settings: DifficultyRater, model: str) -> pa.Table:
    """What is asked for each prompt, with the key of its rating: key, prompt_id, messages."""
    template = read_template(settings.template)
    asked = prompts.select(["prompt_id", "messages"])
    rendered = [template.render(messages=row["messages"]) for row in asked.to_pylist()]
    keys = [key_of(model, settings.sampling, messages) for messages in rendered]
    columns = {"key": keys, "prompt_id": asked["prompt_id"], "messages": rendered}
    return pa.table(columns, schema=pa.schema([("key", pa.string()), *asked.schema]))


def _create_todo(connection: duckdb.DuckDBPyConnection, store: Store, batch: int) -> int:
    """The table `todo` over the view `requests`: the ratings that the store lacks; how many."""
    # prompts of the same words share a key and a rating
    connection.execute(
        """
        create temp table asked as
        select key, max(prompt_id) as prompt_id, any_value(messages) as messages,
               (row_number() over (order by key) - 1) // $batch as batch
        from requests group by key
        """,
        {"batch": batch},
    )
    return create_missing(connection, store, "asked")


def _ask(
    connection: duckdb.DuckDBPyConnection,
    waiting: int,
    settings: DifficultyRater,
    engine: Callable[[], Engine],
    store: Store,
    log: Callable[[str], None],
) -> None:
    failed = 0

    def lead(rows: Sequence[Row], arrived: Arrived[Tried[Rating | None]]) -> None:
        converse(engine(), [_conversation(settings, row) for row in rows], arrived)

    def kept(row: Row, tried: Tried[Rating | None], _: float) -> Row | None:
        nonlocal failed
        if tried.result:
            return {"key": row["key"], **tried.result.model_dump()}
        failed += 1
        return None

    def said(done: int, _: float) -> str:
        return f"{done}/{waiting} prompts, {failed} failed"

    todo = connection.sql("select * from todo order by batch, key").to_arrow_reader(_ROWS)
    asking = Asking("difficulty", lambda: "the ratings", store, lead, kept, said)
    asking.ask(batches_of(todo), log)


def _conversation(settings: DifficultyRater, row: Row) -> Conversation[Tried[Rating | None]]:
    request = Request(row["prompt_id"], row["messages"])

    def ask(attempt: int) -> Ask:
        sampling = attempt_sampling(settings.sampling, attempt)
        return Ask(request, sampling, json_schema=_RATING_SCHEMA)

    return tries(settings.attempts, ask, lambda said: read_rating(said.text), bool)
