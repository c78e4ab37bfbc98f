"""Gives what an older version paid for the keys of now, once: answers, verdicts, difficulties.

For everybody in the profile the old and the new key are computed, and the rows move to the new one.
What belongs to nobody in the profile stays where it is and is counted. New shards are written
before old ones go, so a run that was killed is only run again. Checkpoints are told of and stay as
they are: training makes other weights of the same rows now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from arena_assets.config.generation import changing_text, names_of_type
from arena_assets.config.judges import LLMJudge
from arena_assets.config.rounds import BASE
from arena_assets.curation import difficulty
from arena_assets.flywheel import old_keys
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.old_testset import migrate_testset
from arena_assets.flywheel.weights import base_of, known_models, trusts_target
from arena_assets.generation.contestants import Contestant, opponent_contestant, target_contestant
from arena_assets.generation.responses import STORE_SCHEMA as ANSWERS
from arena_assets.generation.responses import create_requested
from arena_assets.judging.games import STORE_SCHEMA as VERDICTS
from arena_assets.judging.judges import LanguageModelJudge, Verifier
from arena_assets.lake.durable import exclusive
from arena_assets.lake.lake import has_rows, writing
from arena_assets.lake.rekeying import move_rows
from arena_assets.lake.store import Store, content_key_sql, is_whole
from arena_assets.lake.tables import PROMPTS
from arena_assets.models.model import Local, Served, recording

# as judging/games.py has them
_PROMPT_DIGEST = (
    "sha256(to_json(struct_pack(m := messages, c := constraints, r := reference))::varchar)"
)
_TEXT_DIGEST = "sha256(to_json(turns)::varchar || text)"
_GONE = "no table of the lake holds what they are about"
_NOBODY = "nobody in the profile made them"
_TRAINED_OTHERWISE = "it was trained without float32 masters: the next run trains it again"


@dataclass(frozen=True)
class Moved:
    """What became of some stored rows: how many have new keys, how many stay as they are, why."""

    what: str
    moved: int
    left: int
    why: str = ""


def migrate(arena: Arena, log: Callable[[str], None]) -> list[Moved]:
    """Move what the profile's contestants and judges were paid for to the keys of now.

    It may be run again at any time: what came to have an owner in the profile moves then. Raises
    NotWritable where the disk takes no more; what was moved before stays moved.
    """
    lake = arena.lake
    with exclusive(lake.root / ".locks" / "migrate", "the keys of the lake", log):
        with lake.connect() as connection:
            migration = _Migration(arena, connection, log)
            moved = [*migration.answers(), *migration.verdicts(), *migration.difficulties()]
        moved += _old_checkpoints(arena)
        moved += [Moved(*said) for said in migrate_testset(arena)]
        moved += _nobodys(lake.root / "store", migration.seen, log)
        with writing(lake.migrated):
            lake.migrated.parent.mkdir(parents=True, exist_ok=True)
            lake.migrated.touch()
    return moved


class _Migration:
    """The stores of one lake; `connection` gets the tables prompts, answers and ids."""

    def __init__(
        self, arena: Arena, connection: duckdb.DuckDBPyConnection, log: Callable[[str], None]
    ):
        self.arena, self.profile, self.lake = arena, arena.profile, arena.lake
        self.connection, self.log = connection, log
        self.seen: set[Path] = set()  # old folders that somebody of the profile owns
        self.old_stores = self.lake.root / "store"
        self.models = known_models(arena)
        self.old_digests = {name: self._old_digest(name) for name in self.models}

    def _old_digest(self, name: str) -> str:
        model = self.models[name]
        if isinstance(model, Served):
            return old_keys.served(model.endpoint)
        (digest,) = (r["digest"] for r in self.lake.read("models").to_pylist() if r["name"] == name)
        template = self.profile.models[name].chat_template
        return old_keys.templated(digest, template) if template else digest

    def _contestants(self) -> Iterator[tuple[Contestant, str]]:
        """Everybody of the profile whose model is known, with the old digest of the model."""
        target = self.profile.target
        if target.model in self.models:
            base = base_of(self.arena, self.models)
            yield target_contestant(target, BASE, base), self.old_digests[target.model]
        engine = changing_text(self.profile.generation.engine)
        trusted = trusts_target(self.profile)
        for key in self.arena.rounds:
            if manifest := self.arena.checkpoints.manifest(key):
                path = self.arena.checkpoints.path(key)
                checkpoint = Local(key, path, manifest.digest, trusted, engine_settings=engine)
                yield target_contestant(target, key, checkpoint), manifest.digest
        for opponent in self.profile.opponents:
            if opponent.recorded:
                recorded = recording(opponent.recorded)
                yield opponent_contestant(opponent, recorded), recorded.digest
            elif opponent.model in self.models:
                model = self.models[opponent.model]
                yield opponent_contestant(opponent, model), self.old_digests[opponent.model]

    def answers(self) -> Iterator[Moved]:
        """Move the answers of every contestant, and note all that the lake has for the verdicts."""
        self._create_prompts()
        self.connection.execute(
            "create temp table said (prompt_id varchar, prompt_digest varchar, text_digest varchar)"
        )
        seed = self.profile.seed
        for contestant, digest in self._contestants():
            folder = self.old_stores / "responses" / old_keys.answers(contestant, digest, seed)
            old = Store(folder, ANSWERS, "response_id")
            folder = self.lake.stores / "responses" / contestant.key(seed)
            new = Store(folder, ANSWERS, "response_id")
            create_requested(self.connection, contestant, seed)
            if has_rows(old.folder):
                yield self._move_answers(contestant, digest, old, new)
            new.create_view(self.connection, "stored")
            self._note("stored join requested using (response_id)")
        self._note_tables()

    def _move_answers(self, contestant: Contestant, digest: str, old: Store, new: Store) -> Moved:
        sql = old_keys.response_sql(contestant, digest, self.profile.seed)
        self._create_ids(f"select {sql} as old_id, response_id as new_id from requested")
        # a row says in which number type it was made; what was made before rows did is taken over
        model, why, suits = contestant.model, _GONE, "true"
        dtype = model.engine_settings.get("dtype") if isinstance(model, Local) else None
        if dtype:
            names = ", ".join(f"'{name}'" for name in names_of_type(dtype))
            suits = f"(dtype is null or dtype in ({names}))"
            why += f", or they were made in another number type than {dtype}"
        return self._move(f"answers of {contestant.name}", old, new, why, suits)

    def verdicts(self) -> Iterator[Moved]:
        """Move the verdicts of every judge on any two answers to a prompt."""
        for name, old_key, new_key in self._judges():
            old = Store(self.old_stores / "judgments" / old_key, VERDICTS, "judgment_id")
            if has_rows(old.folder):
                old_id, new_id = (
                    content_key_sql(f"'{key}'", "a.prompt_digest", "a.text_digest", "b.text_digest")
                    for key in (old_key, new_key)
                )
                self._create_ids(
                    f"""
                    with answers as (select distinct * from said)
                    select {old_id} as old_id, {new_id} as new_id
                    from answers as a join answers as b using (prompt_id, prompt_digest)
                    """
                )
                new = Store(self.lake.stores / "judgments" / new_key, VERDICTS, "judgment_id")
                yield self._move(f"verdicts of {name}", old, new, _GONE)

    def _judges(self) -> Iterator[tuple[str, str, str]]:
        """Every judge whose model is known, with its old and its new key."""
        for settings in self.profile.single_judges:
            if not isinstance(settings, LLMJudge):
                yield settings.name, old_keys.VERIFIER, Verifier.key
            elif settings.model in self.models:
                judge = LanguageModelJudge(settings, self.models[settings.model], _unasked)
                digest = self.old_digests[settings.model]
                yield settings.name, old_keys.verdicts(settings, judge.template, digest), judge.key

    def difficulties(self) -> Iterator[Moved]:
        """Move what the rater said of prompts."""
        rater = self.profile.prompts.testset.rater
        old = Store(self.old_stores / "difficulty", difficulty.SCHEMA, "key")
        if not (has_rows(old.folder) and rater and rater.model in self.models):
            return
        template = difficulty.read_template(rater.template)
        digest, model = self.old_digests[rater.model], self.models[rater.model].identity
        ids = []
        for (messages,) in self.connection.execute(
            "select distinct messages from prompts"
        ).fetchall():
            asked = template.render(messages=messages)
            ids.append(
                {
                    "old_id": old_keys.difficulty(digest, rater.sampling, asked),
                    "new_id": difficulty.key_of(model, rater.sampling, asked),
                }
            )
        schema = pa.schema([("old_id", pa.string()), ("new_id", pa.string())])
        self.connection.register("rated", pa.Table.from_pylist(ids, schema=schema))
        self._create_ids("select old_id, new_id from rated")
        new = Store(self.lake.stores / "difficulty", difficulty.SCHEMA, "key")
        yield self._move("difficulties", old, new, _GONE)

    def _move(self, what: str, old: Store, new: Store, why: str, suits: str = "true") -> Moved:
        self.seen.add(old.folder)
        moved, left = move_rows(self.connection, old, new, self.log, suits)
        self.log(f"{what}: {moved} moved, {left} left")
        return Moved(what, moved, left, why if left else "")

    def _create_ids(self, sql: str) -> None:
        self.connection.execute(
            f"create or replace temp table ids as select distinct * from ({sql})"
        )

    def _create_prompts(self) -> None:
        """The table `prompts`: every prompt that the lake holds, in each of its wordings."""
        columns = "prompt_id, messages, constraints, reference"
        self.connection.register("none", PROMPTS.schema.empty_table())
        source = self._files("prompts", "prompts_curated", "testset_versions") or '"none"'
        self.connection.execute(
            f"create temp table prompts as select distinct {columns} from {source}"
        )

    def _note_tables(self) -> None:
        """Note the answers in tables of rounds, also of contestants that are no more."""
        if source := self._files("responses", "arena_responses"):
            self._note(
                f"(select prompt_id, turns, text from {source}) join prompts using (prompt_id)"
            )

    def _note(self, source: str) -> None:
        self.connection.execute(
            f"""
            insert into said
            select distinct prompt_id, {_PROMPT_DIGEST}, {_TEXT_DIGEST} from {source}
            where text is not null
            """
        )

    def _files(self, *tables: str) -> str:
        """SQL that reads all whole partitions of some tables; empty where there are none."""
        found = [self.lake.path(t, part) for t in tables for part in self.lake.partitions(t)]
        files = _whole(found, self.log)
        listed = ", ".join("'" + str(file).replace("'", "''") + "'" for file in files)
        return f"read_parquet([{listed}], union_by_name = true)" if files else ""


def _unasked() -> NoReturn:
    raise AssertionError("keys are computed without an engine")


def _whole(files: Iterable[Path], log: Callable[[str], None]) -> list[Path]:
    """The Parquet files that can be read; of the others the log says that they are left out."""
    whole = []
    for file in files:
        if is_whole(file):
            whole.append(file)
        else:
            log(f"{file}: not a whole Parquet file; its rows are left out")
    return whole


def _old_checkpoints(arena: Arena) -> Iterator[Moved]:
    """The checkpoints of version 0.3.0, which named the version of what it learned from rows."""
    for key in arena.rounds:
        manifest = arena.checkpoints.manifest(key)
        if manifest and "rows_version" in manifest.config:
            yield Moved(f"checkpoint {key}", 0, 1, _TRAINED_OTHERWISE)


def _nobodys(stores: Path, seen: set[Path], log: Callable[[str], None]) -> Iterator[Moved]:
    """What stays because nobody in the profile made it, by kind of store."""
    for kind in ("responses", "judgments", "difficulty"):
        shards = [s for s in (stores / kind).rglob("*.parquet") if s.parent not in seen]
        if rows := sum(pq.read_metadata(shard).num_rows for shard in _whole(shards, log)):
            yield Moved(f"other {kind}", 0, rows, _NOBODY)
