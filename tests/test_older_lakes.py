"""Lakes of earlier versions are read with what they have; nothing is dropped without a word."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from arena_assets.cli.main import app
from arena_assets.lake.lake import Lake, MissingPartition, write_atomically
from arena_assets.lake.tables import RATINGS, TABLES

ROUND = "i01.1-sft"
ROW = {"round": ROUND, "contestant": "ann", "rating": 1020.0, "lower": 990.0, "upper": 1050.0}
ROW |= {"rank": 1, "battles": 8, "wins": 5, "losses": 2, "ties": 1, "purpose": "all"}
UNKNOWN = {"gain": None, "gain_lower": None, "gain_upper": None}


@pytest.fixture
def lake(tmp_path) -> Lake:
    """Ratings as an earlier version wrote them."""
    lake = Lake(tmp_path)
    lake.write("ratings", [ROW], ROUND)
    return lake


@pytest.fixture
def one_more(monkeypatch):
    """Adds a column to the table of ratings, as a later version may."""

    def add(kind: pa.DataType, nullable: bool = True) -> None:
        schema = RATINGS.schema.append(pa.field("margin", kind, nullable))
        monkeypatch.setitem(TABLES, "ratings", replace(RATINGS, schema=schema))

    return add


@pytest.mark.parametrize("kind", [pa.float64(), pa.string(), pa.list_(pa.string())], ids=str)
def test_a_column_that_an_older_table_does_not_know_is_null(lake, one_more, kind):
    one_more(kind)
    assert lake.read("ratings", ROUND).to_pylist() == [ROW | UNKNOWN | {"margin": None}]
    assert lake.read("ratings", ROUND, ["margin", "rank"]).to_pylist() == [
        {"margin": None, "rank": 1}
    ]
    assert lake.read("ratings", ROUND).schema.field("margin").type == kind
    found = lake.query("select rank, margin from r", r=("ratings", ROUND))
    assert found.to_pylist() == [{"rank": 1, "margin": None}]
    lake.write("ratings", [ROW | {"margin": None}], ROUND)
    assert "margin" in pq.read_schema(lake.path("ratings", ROUND)).names


def test_one_that_may_not_be_null_is_told_with_what_to_do(lake, one_more):
    one_more(pa.float64(), nullable=False)
    sentence = "an earlier version wrote it, without margin; materialize the asset ratings again"
    for read in (
        lambda: lake.read("ratings", ROUND),
        lambda: lake.query("select * from r", r=("ratings", ROUND)),
    ):
        with pytest.raises(MissingPartition, match=sentence):
            read()
    assert lake.read("ratings", ROUND, ["rank"]).to_pylist() == [{"rank": 1}], "it is not asked for"


def test_a_column_of_a_later_version_is_read_as_it_is(lake):
    later = pa.Table.from_pylist([ROW | {"margin": 1.5}])
    write_atomically(later.to_reader(), lake.path("ratings", ROUND))
    assert lake.read("ratings", ROUND).to_pylist() == [ROW | UNKNOWN | {"margin": 1.5}]
    assert lake.read("ratings", ROUND, ["rank"]).to_pylist() == [{"rank": 1}]


@pytest.mark.parametrize(
    "rows",
    [
        [ROW, ROW | {"margin": 1.0, "colour": None}],
        pa.Table.from_pylist([ROW | {"margin": 1.0, "colour": "red"}]),
        pa.Table.from_pylist([ROW | {"margin": 1.0, "colour": "red"}]).to_reader(),
    ],
    ids=["rows", "table", "reader"],
)
def test_unknown_columns_are_refused_and_not_dropped(lake, rows):
    before = lake.digest("ratings", ROUND)
    with pytest.raises(ValueError, match=f"ratings/{ROUND}: unknown columns: colour, margin; add"):
        lake.write("ratings", rows, ROUND)
    assert lake.digest("ratings", ROUND) == before


def test_a_leaderboard_of_an_older_lake_is_printed_with_what_it_has(
    tmp_path, tiny_profile, monkeypatch
):
    board = [{name: ROW[name] for name in ("round", "rank", "contestant", "rating", "battles")}]
    lake = Lake(tmp_path)
    write_atomically(pa.Table.from_pylist(board).to_reader(), lake.path("leaderboard", ROUND))
    monkeypatch.setenv("ARENA_PROFILE", str(tiny_profile))
    monkeypatch.setenv("ARENA_LAKE", str(tmp_path))
    printed = CliRunner().invoke(app, ["leaderboard"], catch_exceptions=False).stdout
    (line,) = (line for line in printed.splitlines() if "ann" in line)
    assert "1020" in line and "-" in line
