"""Who gets what share of a battle's point: dbt, the ratings and the judges' audit say the same."""

from __future__ import annotations

import itertools

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment

from arena_assets.config.places import PROJECT
from arena_assets.judging.audit import audit_judges
from arena_assets.lake.lake import Lake, write_atomically
from arena_assets.lake.tables import TABLES
from arena_assets.ratings.battles import read_battles
from arena_assets.ratings.bradley_terry import Anchor, rate

ROUND = "i01.1-sft"
NAMES = ("contestant_1", "contestant_2")
RESULTS = [("decided", "ann"), ("decided", "bob"), ("tie", None)]
UNDECIDED = [("inconsistent", None), ("failed", None), ("abstained", None)]


def points_in_dbt(contestant: str) -> str:
    """The SQL that dbt makes of its macro."""
    macro = (PROJECT / "dbt_project/macros/points.sql").read_text("utf-8")
    return str(Environment().from_string(macro).module.points("battles", contestant)).strip()


def battle(number: int, status: str, winner: str | None, judge: str = "j", role="deciding"):
    row = {"battle_id": f"{number}{judge}", "round": ROUND, "prompt_id": f"p{number}"}
    row |= {"contestant_1": "ann", "contestant_2": "bob", "judge": judge, "role": role}
    ok = 2 if status in ("decided", "tie", "inconsistent") else 0
    return row | {"status": status, "winner": winner, "games_ok": ok} | {
        "games_won_1": int(winner == "ann"), "games_won_2": int(winner == "bob")
    }  # fmt: skip


def test_dbt_and_the_ratings_give_every_battle_the_same_shares():
    battles = pa.Table.from_pylist(
        [battle(n, *result) for n, result in enumerate([*RESULTS, *UNDECIDED])]
    )
    one, two = map(points_in_dbt, NAMES)
    shares = duckdb.sql(f"select prompt_id, {one}, {two} from battles").fetchall()
    by_prompt = {prompt: tuple(map(float, both)) for prompt, *both in shares if None not in both}
    read = read_battles(battles, "lake")
    assert read.undecided == len(UNDECIDED) == len(shares) - len(by_prompt)
    rows = read.table.to_pylist()
    assert by_prompt == {row["prompt_id"]: (row["score"], 1 - row["score"]) for row in rows}
    assert [row["score"] for row in rows] == [1.0, 0.0, 0.5]


@given(st.lists(st.sampled_from([*RESULTS, *UNDECIDED]), min_size=1, max_size=30))
@settings(max_examples=25, deadline=None)
def test_a_share_of_points_is_wins_and_half_the_ties(results):
    rows = [battle(n, *result) for n, result in enumerate([*results, ("tie", None)])]
    battles = pa.Table.from_pylist(rows)
    rated = rate(read_battles(battles, "lake").table, Anchor("ann", 1000)).to_pylist()
    for row, name in zip(sorted(rated, key=lambda r: r["contestant"]), NAMES, strict=True):
        ((mean,),) = duckdb.sql(f"select avg({points_in_dbt(name)}) from battles").fetchall()
        assert mean == (row["wins"] + row["ties"] / 2) / row["battles"]


def row_of(table: str, **given) -> dict:
    """A row with what is given, and anything else that a column has to hold."""
    anything = {pa.string(): "x", pa.int64(): 1, pa.float64(): 1.0}
    needed = {f.name: anything.get(f.type, []) for f in TABLES[table].schema if not f.nullable}
    return needed | given


def audited(lake: Lake, verdicts, labels=None):
    """The audit of two judges; `verdicts` are (the deciding judge's, the shadow's) results."""
    rows = []
    for number, (deciding, shadow) in enumerate(verdicts):
        rows += [battle(number, *deciding), battle(number, *shadow, "s", "shadow")]
    write_atomically(pa.Table.from_pylist(rows).to_reader(), lake.path("battles", ROUND))
    lake.write("judgments", [row_of("judgments", judge=judge) for judge in ("j", "s")], ROUND)
    answers = [(f"p{n}", name) for n in range(len(verdicts)) for name in ("ann", "bob")]
    lake.write(
        "responses",
        [row_of("responses", prompt_id=p, contestant=name, text=name) for p, name in answers],
        ROUND,
    )
    return {row["judge"]: row for row in audit_judges(lake, ROUND, {}, labels).to_pylist()}


@pytest.mark.parametrize(
    ("verdicts", "agreement", "kappa"),
    [
        # one and the other, all alike: nothing is left to chance
        ([(RESULTS[0], RESULTS[0]), (RESULTS[1], RESULTS[1])], 1.0, 1.0),
        ([(RESULTS[0], RESULTS[1]), (RESULTS[1], RESULTS[0])], 0.0, -1.0),
        # of four: 3/4 agree; by chance 1/2 * 1/2 + 1/2 * 1/4 + 0 * 1/4 = 3/8
        (
            [(RESULTS[0], RESULTS[0])] * 2
            + [(RESULTS[1], RESULTS[1]), (RESULTS[1], RESULTS[2])],
            0.75,
            0.6,
        ),
        # a battle that one of them left open is compared by nobody
        ([(RESULTS[0], RESULTS[0]), (RESULTS[1], UNDECIDED[0])], 1.0, None),
    ],
)  # fmt: skip
def test_agreement_and_kappa_are_over_what_both_settled(tmp_path, verdicts, agreement, kappa):
    shadow = audited(Lake(tmp_path), verdicts)["s"]
    assert shadow["agreement"] == agreement
    assert shadow["kappa"] == (None if kappa is None else pytest.approx(kappa))


def test_labels_name_a_contestant_or_its_side(tmp_path):
    lines = ["prompt_id,contestant_a,contestant_b,winner"]
    lines += ["p0,ann,bob,a", "p1,bob,ann,a", "p2,bob,ann,ann", "p3,ann,bob,tie", "p4,bob,ann,b"]
    (tmp_path / "labels.csv").write_text("\n".join(lines), "utf-8")
    said = [RESULTS[0], RESULTS[1], RESULTS[0], RESULTS[2], RESULTS[1]]
    verdicts = zip(said, itertools.repeat(RESULTS[2]), strict=False)
    found = audited(Lake(tmp_path), list(verdicts), tmp_path / "labels.csv")
    assert found["j"]["reference"] == "labels" and found["j"]["battles_compared"] == 5
    assert found["j"]["agreement"] == 0.8, "all but p4"
