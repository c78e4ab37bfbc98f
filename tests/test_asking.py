"""One way to ask for what a store lacks: batches that stay, results kept as they come, retries."""

from __future__ import annotations

import json

import dagster as dg
import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_assets.assets.prompts import _rater as rater_of
from arena_assets.config.models import Sampling
from arena_assets.config.prompts import DifficultyRater
from arena_assets.curation.difficulty import Rating, rate
from arena_assets.flywheel.arena import Arena
from arena_assets.judging.verdicts import Scores
from arena_assets.lake.store import Store
from arena_assets.models.asking import (
    Asking,
    attempt_sampling,
    batches_of,
    create_missing,
    tries,
)
from arena_assets.models.conversations import Ask, converse
from arena_assets.models.engine import BackendDown, Completion, Request

SCHEMA = pa.schema([("key", pa.string()), ("said", pa.string()), ("seconds", pa.float64())])


def stored(store: Store) -> dict[str, str]:
    with duckdb.connect() as connection:
        store.create_view(connection, "rows")
        return dict(connection.execute("select key, said from rows").fetchall())


def asking(store: Store, lead, said=lambda done, _: f"{done} asked") -> Asking[str]:
    def kept(row, result, seconds):
        return None if result == "nothing" else {"key": row["key"], "said": result, "seconds": 0.5}

    return Asking("somebody", lambda: "the answers", store, lead, kept, said)


def missing(store: Store, keys: list[str], batch: int) -> list[list[str]]:
    """The keys that are asked for, batch by batch."""
    with duckdb.connect() as connection:
        rows = [{"key": key, "batch": number // batch} for number, key in enumerate(keys)]
        connection.register("wanted", pa.Table.from_pylist(rows))
        count = create_missing(connection, store, "wanted")
        reader = connection.sql("select * from todo order by batch, key").to_arrow_reader(2)
        batches = [[row["key"] for row in rows] for rows in batches_of(reader)]
    assert sum(map(len, batches)) == count
    return batches


def test_batches_are_the_same_whatever_the_store_holds(tmp_path):
    store = Store(tmp_path / "store", SCHEMA, "key")
    keys = ["a", "b", "c", "d", "e", "a"]
    assert missing(store, keys, 2) == [["a", "b"], ["c", "d"], ["e"]]
    with store.locked(print):
        store.append([{"key": key, "said": "x", "seconds": 0.0} for key in ("a", "d")])
    assert missing(store, keys, 2) == [["b"], ["c"], ["e"]]


def test_each_result_is_stored_as_it_comes_and_what_is_none_is_not(tmp_path):
    store, seen, lines = Store(tmp_path / "store", SCHEMA, "key"), [], []

    def lead(rows, arrived):
        arrived([(1, f"of {rows[1]['key']}")])
        seen.append(stored(store))
        arrived([(0, "nothing")])

    with store.locked(print):
        asking(store, lead).ask([[{"key": "a"}, {"key": "b"}]], lines.append)
    assert seen == [{"b": "of b"}] == [stored(store)]
    assert lines == ["somebody: 2 asked"]


def test_a_backend_that_goes_is_told_with_what_was_kept(tmp_path):
    store = Store(tmp_path / "store", SCHEMA, "key")

    def lead(rows, arrived):
        if rows[0]["key"] == "b":
            arrived([(0, "said")])
            raise BackendDown("nobody answers")
        arrived([(0, "said")])

    told = "somebody: nobody answers; the answers that came before are kept, mend the backend and"
    with store.locked(print), pytest.raises(BackendDown, match=told):
        asking(store, lead).ask([[{"key": "a"}], [{"key": "b"}], [{"key": "c"}]], print)
    assert stored(store) == {"a": "said", "b": "said"}


# -- tries -------------------------------------------------------------------------------------


class Script:
    """An engine that says one thing after the other."""

    def __init__(self, *said):
        self.said, self.sampling = list(said), []

    def chat(self, requests, sampling, samples=1, json_schema=None):
        self.sampling.append(sampling)
        return [[self.said.pop(0)] for _ in requests]


NO, YES = Completion("no", "stop", 5, 1), Completion("yes", "stop", 5, 2)


@pytest.mark.parametrize(
    ("said", "attempts", "result", "tokens"),
    [
        ([YES], 1, "yes", (5, 2)),
        ([NO, YES], 2, "yes", (10, 3)),
        ([NO, NO, NO], 3, "no", (15, 3)),
        ([NO, Completion("", "error", error="gone")], 2, "", (5, 1)),
        ([Completion("I may not", "refused", 5, 3)], 1, "I may not", (5, 3)),
        ([Completion("no", "stop", None, 1), YES], 2, "yes", (None, 3)),
    ],
)
def test_a_model_is_asked_until_its_output_can_be_used_or_it_is_final(
    said, attempts, result, tokens
):
    engine, ended = Script(*said), []

    def ask(attempt):
        return Ask(Request("p", []), attempt_sampling(Sampling(), attempt))

    conversation = tries(3, ask, lambda completion: completion.text, "yes".__eq__)
    converse(engine, [conversation], ended.extend)
    ((_, tried),) = ended
    assert (tried.result, tried.attempts, engine.said) == (result, attempts, [])
    assert (tried.prompt_tokens, tried.completion_tokens) == tokens
    assert len({repr(sampling) for sampling in engine.sampling}) == attempts


@given(st.floats(0, 2), st.none() | st.integers(0, 2**31), st.integers(2, 9))
@settings(max_examples=50, deadline=None)
def test_a_retry_never_draws_as_an_attempt_before_it(temperature, seed, attempt):
    first = Sampling(temperature=temperature, seed=seed)
    assert attempt_sampling(first, 1) == first
    drawn = [attempt_sampling(first, number) for number in range(1, attempt + 1)]
    assert len(set(map(repr, drawn))) == attempt and all(one.temperature > 0 for one in drawn[1:])


# -- ratings of difficulty ---------------------------------------------------------------------


class Rater:
    """An engine that rates everything 4, but nonsense at its first `nonsense` calls."""

    def __init__(self, nonsense=0):
        self.asked, self.seeds, self.nonsense = [], [], nonsense

    def chat(self, requests, sampling, samples=1, json_schema=None):
        self.asked.append([request.prompt_id for request in requests])
        self.seeds.append(sampling.seed)
        good = len(self.asked) > self.nonsense
        said = json.dumps({"explanation": "", "difficulty": 4}) if good else "hard"
        return [[Completion(said, "stop")] for _ in requests]


def prompts(count: int) -> pa.Table:
    rows = [
        {"prompt_id": f"p{n}", "messages": [{"role": "user", "content": f"Question {n}"}]}
        for n in range(count)
    ]
    return pa.Table.from_pylist(rows)


def test_ratings_are_asked_for_in_batches_that_do_not_move(tmp_path):
    table, rater = prompts(7), DifficultyRater(model="m")
    whole, rest = Rater(), Rater()
    rated = rate(table, rater, "d", lambda: whole, tmp_path / "whole", 3, print)
    assert rated == {f"p{n}": 4 for n in range(7)} and [*map(len, whole.asked)] == [3, 3, 1]
    first = whole.asked[0][0]
    some = table.filter(pc.equal(table["prompt_id"], first))
    rate(some, rater, "d", lambda: Rater(), tmp_path / "rest", 3, print)
    assert rate(table, rater, "d", lambda: rest, tmp_path / "rest", 3, print) == rated
    assert rest.asked == [whole.asked[0][1:], *whole.asked[1:]]


def test_a_rating_is_drawn_with_another_seed_where_the_first_was_nonsense(tmp_path):
    sampling, engine = Sampling(temperature=1.0, seed=7), Rater(nonsense=1)
    rater = DifficultyRater(model="m", sampling=sampling)
    assert rate(prompts(1), rater, "d", lambda: engine, tmp_path, 3, print) == {"p0": 4}
    assert len(set(engine.seeds)) == 2


def test_a_rater_that_is_gone_is_told_with_what_was_kept(tmp_path):
    class Gone:
        def chat(self, *_, **__):
            raise BackendDown("nobody answers")

    told = "difficulty: nobody answers; the ratings that came before are kept, mend"
    with pytest.raises(BackendDown, match=told):
        rate(prompts(2), DifficultyRater(model="m"), "d", Gone, tmp_path, 3, print)


def test_a_test_set_whose_rater_is_gone_fails_with_a_sentence(tmp_path, tiny_profile):
    profile = yaml.safe_load(tiny_profile.read_text("utf-8"))
    endpoint = {"urls": ["http://127.0.0.1:9/v1"], "model": "m", "retries": 0}
    profile["models"]["far"] = {"endpoint": endpoint}
    profile["prompts"]["testset"]["rater"] = {"model": "far"}
    (tmp_path / "arena.yaml").write_text(yaml.safe_dump(profile), "utf-8")
    arena = Arena(str(tmp_path / "arena.yaml"), str(tmp_path / "lake"))
    path = arena.profile.models["tiny"].path
    row = {"name": "tiny", "origin": path, "path": path, "digest": "d"}
    arena.lake.write("models", [row])
    with pytest.raises(dg.Failure) as failed:
        rater_of(arena, arena.profile.prompts.testset.rater, print)(prompts(3))
    told = "testset_versions: difficulty: http://127.0.0.1:9/v1: 3 requests in a row were not"
    assert failed.value.description.startswith(told)


# -- structured outputs ------------------------------------------------------------------------


def test_the_schemas_say_whole_numbers_in_their_range_after_an_explanation_and_nothing_else():
    score = {"type": "integer", "minimum": 1, "maximum": 10}
    schema = Scores.json_schema(explanation_characters=600)
    assert schema == {
        "type": "object",
        "properties": {
            "explanation": {"type": "string", "maxLength": 600},
            "score_a": score,
            "score_b": score,
        },
        "required": ["explanation", "score_a", "score_b"],
        "additionalProperties": False,
    }
    assert list(schema["properties"]) == ["explanation", "score_a", "score_b"]
    rating = Rating.json_schema(160)["properties"]
    assert rating["difficulty"] == {"type": "integer", "minimum": 0, "maximum": 10}
    assert list(rating) == ["explanation", "difficulty"]


def test_values_are_taken_as_models_write_them_and_checked_by_the_same_class():
    said = {"explanation": ["Two", "points"], "score_a": "8/10", "score_b": 6.5}
    assert Scores.model_validate(said).model_dump() == {
        "explanation": '["Two", "points"]',
        "score_a": 8.0,
        "score_b": 6.5,
    }
    for wrong in ("8-9", True, None, float("nan"), 0, 10.5):
        with pytest.raises(ValueError):
            Scores.model_validate(said | {"score_b": wrong})
