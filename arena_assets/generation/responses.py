"""Responses: every contestant answers every prompt; what is in the store is not generated again.

Keys are computed, looked up and joined in DuckDB; models/asking.py asks for what is missing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import duckdb
import pyarrow as pa

from arena_assets.generation import best_of
from arena_assets.generation.contestants import Contestant
from arena_assets.lake.code import code_version
from arena_assets.lake.lake import Lake
from arena_assets.lake.store import Store, content_key_sql
from arena_assets.lake.tables import RESPONSES
from arena_assets.models.asking import Asking, Row, batches_of, create_missing
from arena_assets.models.conversations import Arrived, Ask, Conversation, converse
from arena_assets.models.dialogue import Message, open_turns, with_answers
from arena_assets.models.engine import Completion, Engine, Request, total
from arena_assets.models.model import Model

STORE_SCHEMA = pa.schema(
    [
        ("response_id", pa.string()),
        ("text", pa.string()),
        ("reasoning", pa.string()),
        ("turns", pa.list_(pa.string())),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("dtype", pa.string()),  # that the model computed in; null where nobody says
        ("sample", pa.int64()),
        ("samples", pa.list_(pa.string())),  # all that were drawn, the kept one among them
        ("seconds", pa.float64()),  # since the answers before, shared
    ]
)
_ROWS = 10_000  # rows an Arrow batch
_NOTHING_SAID = (
    "the model came to no answer before it stopped or max_tokens was used up; models that reason "
    "want a larger sampling.max_tokens"
)


@dataclass
class Progress:
    """The answers made anew, beside what was found; `failed` and `refused` by contestant.

    Tokens are unknown (None) where one answer's are.
    """

    generated: int = 0
    found: int = 0
    completion_tokens: int | None = 0
    seconds: float = 0.0
    failed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def tokens_per_second(self) -> float | None:
        if self.completion_tokens is None:
            return None
        return self.completion_tokens / self.seconds if self.seconds else 0.0

    @property
    def pace(self) -> str:
        """How fast answers came, in words."""
        if self.tokens_per_second is not None:
            return f"{self.tokens_per_second:.0f} tokens/s"
        return f"{self.generated / max(self.seconds, 1e-3):.1f} answers/s"

    def count(self, contestant: str, answer: Row, seconds: float) -> None:
        """Count an answer that came; one that is asked for again was not generated."""
        self.seconds += seconds
        reason = answer["finish_reason"]
        self.failed[contestant] += reason == "error"
        self.refused[contestant] += reason == "refused"
        self.generated += reason not in ("error", "refused")
        if reason != "error":
            self.completion_tokens = total(self.completion_tokens, answer["completion_tokens"])

    def add(self, other: Progress) -> None:
        self.generated += other.generated
        self.found += other.found
        self.completion_tokens = total(self.completion_tokens, other.completion_tokens)
        self.seconds += other.seconds
        self.failed.update(other.failed)
        self.refused.update(other.refused)


@dataclass(frozen=True)
class Setting:
    """How a round's text is made: the engine of a model, the seed, requests a batch."""

    engine: Callable[[Model], Engine]
    seed: int
    batch: int
    log: Callable[[str], None]


def open_store(lake: Lake, contestant: Contestant, seed: int) -> Store:
    """The stored answers of a contestant; all rounds share them, and whoever answers alike."""
    return Store(lake.store("responses") / contestant.key(seed), STORE_SCHEMA, "response_id")


def respond(
    lake: Lake,
    table: str,
    partition: str,
    prompts: pa.Table,
    contestants: Sequence[Contestant],
    setting: Setting,
) -> Progress:
    """Write a partition of a responses table: every contestant's answer to every prompt.

    `prompts` has prompt_id, messages and constraints. Where there is no answer, the row's status is
    "failed"; it is not stored, and is asked for again the next time. Where a filter refused one,
    it is "refused", which is final. Raises BackendDown where the backend is gone; what came before
    is kept.
    """
    progress = Progress()
    failures: dict[str, str] = {}
    for contestant in contestants:
        store = open_store(lake, contestant, setting.seed)
        with store.locked(setting.log):
            done = _generate(lake, store, prompts, contestant, setting, failures)
        progress.add(done)
        setting.log(
            f"{contestant.name}: {done.generated} generated, {done.found} found, {done.pace}"
        )
    rows = _partition_rows(lake, partition, prompts, contestants, setting.seed, failures)
    lake.write(table, pa.RecordBatchReader.from_batches(RESPONSES.schema, rows), partition)
    return progress


def create_requested(
    connection: duckdb.DuckDBPyConnection, contestant: Contestant, seed: int
) -> None:
    """The view `requested` over the view `prompts`: each prompt with the key of its answer.

    The constraints are part of a key only where they choose the best of several answers.
    """
    rule = code_version("best of")
    constraints = f"'{rule}' || constraints" if contestant.best_of > 1 else "''"
    connection.execute("set variable contestant_key = $key", {"key": contestant.key(seed)})
    key = content_key_sql(
        "getvariable('contestant_key')", "to_json(messages)::varchar", constraints
    )
    connection.execute(
        f"create or replace temp view requested as select *, {key} as response_id from prompts"
    )


def create_todo(
    connection: duckdb.DuckDBPyConnection,
    store: Store,
    contestant: Contestant,
    seed: int,
    batch: int = 1,
) -> int:
    """The table `todo` over the view `prompts`: the answers that the store lacks; how many.

    Two prompts of the same words share a key and an answer. Batches are counted over all that is
    requested, so that they are the same whatever the store has already.
    """
    create_requested(connection, contestant, seed)
    connection.execute(
        """
        create temp table asked as
        select response_id, min(prompt_id) as prompt_id,
               (row_number() over (order by min(prompt_id)) - 1) // $batch as batch
        from requested group by response_id
        """,
        {"batch": batch},
    )
    return create_missing(connection, store, "asked")


def _generate(
    lake: Lake,
    store: Store,
    prompts: pa.Table,
    contestant: Contestant,
    setting: Setting,
    failures: dict[str, str],
) -> Progress:
    """Answer what the store lacks; errors go to `failures` by response_id."""
    progress = Progress()
    with lake.connect(prompts=prompts) as connection:
        waiting = create_todo(connection, store, contestant, setting.seed, setting.batch)
        progress.found = prompts.num_rows - waiting
        if not waiting:
            return progress
        started = time.monotonic()
        engine = setting.engine(contestant.asked)
        if (loading := time.monotonic() - started) > 1:
            setting.log(f"{contestant.name}: engine ready after {loading:.0f} s")

        def lead(rows: Sequence[Row], arrived: Arrived[Row]) -> None:
            converse(engine, [_conversation(contestant, row) for row in rows], arrived)

        def kept(_: Row, answer: Row, seconds: float) -> Row | None:
            progress.count(contestant.name, answer, seconds)
            if answer["finish_reason"] != "error":
                return answer | {"seconds": seconds}
            failures[answer["response_id"]] = answer["error"]
            return None

        def said(done: int, seconds: float) -> str:
            failed, refused = progress.failed[contestant.name], progress.refused[contestant.name]
            return (
                f"{progress.generated}/{waiting} answers, {progress.pace}"
                + (f", {failed} without an answer" if failed else "")
                + (f", {refused} refused" if refused else "")
            )

        def results() -> str:
            return f"{progress.generated} answers"

        asking = Asking(contestant.name, results, store, lead, kept, said)
        asking.ask(_batches(connection), setting.log)
    return progress


def _batches(connection: duckdb.DuckDBPyConnection) -> Iterator[list[Row]]:
    return batches_of(
        connection.sql(
            """
            select todo.batch, todo.response_id, prompts.prompt_id, prompts.messages,
                   prompts.constraints
            from todo join prompts on prompts.prompt_id = todo.prompt_id
            order by todo.batch, prompts.prompt_id
            """
        ).to_arrow_reader(_ROWS)
    )


def _conversation(contestant: Contestant, row: Row) -> Conversation[Row]:
    """The store row of a prompt, turn by turn where its dialogue has several open ones."""
    answer: Row = {
        "response_id": row["response_id"],
        "turns": [],
        "reasoning": None,
        "dtype": None,
        "finish_reason": "stop",
        "prompt_tokens": 0,
        "completion_tokens": 0,
    }
    turns = open_turns(row["messages"])
    for turn in range(turns):
        last = turn == turns - 1  # only the last turn's samples are compared
        request = _request(contestant, row, answer["turns"])
        samples = yield Ask(request, contestant.sampling, contestant.best_of if last else 1)
        _add_turn(answer, samples, row["constraints"] if last else "[]")
        if answer["finish_reason"] in ("error", "refused"):
            break
    return answer


def _request(contestant: Contestant, row: Row, answers: Sequence[str]) -> Request:
    messages: list[Message] = with_answers(row["messages"], answers)
    return Request(row["prompt_id"], contestant.render(messages), len(answers))


def _add_turn(answer: Row, samples: Sequence[Completion], constraints: str) -> None:
    """Add a turn: the sample that is best by the rule of `best_of`."""
    best = best_of.choose(samples, constraints) if len(samples) > 1 else 0
    chosen = samples[best]
    if _says_nothing(chosen):
        chosen = replace(chosen, finish_reason="error", error=_NOTHING_SAID)
    thoughts = [answer["reasoning"], chosen.reasoning]
    answer |= {
        "text": chosen.text,
        "turns": [*answer["turns"], chosen.text],
        "reasoning": "\n\n".join(filter(None, thoughts)) or None,
        "finish_reason": best_of.reason_of_turns(answer["finish_reason"], chosen.finish_reason),
        "error": chosen.error,
        "dtype": chosen.dtype,
        "sample": best,
        "samples": [sample.text for sample in samples],
        # all samples were paid for
        "prompt_tokens": total(answer["prompt_tokens"], *(s.prompt_tokens for s in samples)),
        "completion_tokens": total(
            answer["completion_tokens"], *(s.completion_tokens for s in samples)
        ),
    }


def _says_nothing(sample: Completion) -> bool:
    """Whether the model only thought; one that stops at once has said that it says nothing."""
    return sample.text == "" and (bool(sample.reasoning) or sample.finish_reason == "length")


def _partition_rows(
    lake: Lake,
    partition: str,
    prompts: pa.Table,
    contestants: Sequence[Contestant],
    seed: int,
    failures: dict[str, str],
) -> Iterator[pa.RecordBatch]:
    """The rows of a partition, contestant by contestant, prompts in order."""
    errors = pa.table(
        {
            "response_id": pa.array(failures.keys(), pa.string()),
            "error": pa.array(failures.values(), pa.string()),
        }
    )
    for contestant in contestants:
        prompt = contestant.system_prompt
        with lake.connect(prompts=prompts, errors=errors) as connection:
            create_requested(connection, contestant, seed)
            open_store(lake, contestant, seed).create_view(connection, "stored")
            reader = connection.sql(
                """
                select requested.response_id, $round as round, requested.prompt_id,
                       $contestant as contestant, $role as role, $model as model,
                       $digest as model_digest, $system_prompt as system_prompt,
                       $sampling as sampling,
                       case when stored.text is null then 'failed'
                            when stored.finish_reason = 'refused' then 'refused'
                            else 'ok' end as status, errors.error,
                       coalesce(stored.text, '') as text, stored.reasoning, stored.dtype,
                       coalesce(stored.turns, []) as turns,
                       coalesce(stored.finish_reason, 'error') as finish_reason,
                       if(stored.text is null, 0, stored.prompt_tokens) as prompt_tokens,
                       if(stored.text is null, 0, stored.completion_tokens) as completion_tokens,
                       coalesce(stored.sample, 0) as sample
                from requested
                left join stored on stored.response_id = requested.response_id
                left join errors on errors.response_id = requested.response_id
                order by requested.prompt_id
                """,
                params={
                    "round": partition,
                    "contestant": contestant.name,
                    "role": contestant.role,
                    "model": contestant.asked.name,
                    "digest": contestant.asked.digest,
                    "system_prompt": prompt.version if prompt else "none",
                    "sampling": contestant.sampling_json(),
                },
            ).to_arrow_reader(_ROWS)
            for part in reader:
                yield part.select(RESPONSES.schema.names).cast(RESPONSES.schema)
