"""`arena rate` and what is behind it, on made and on real data."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr
from typer.testing import CliRunner

from arena_assets.cli.main import app
from arena_assets.config.places import PROJECT
from arena_assets.ratings.battles import BadBattles, read_battles
from arena_assets.ratings.bradley_terry import ELO, Anchor, Intervals, rate
from arena_assets.ratings.comparisons import UnratableBattles
from arena_assets.ratings.consistency import BadReference, consistency, read_names, read_reference
from arena_assets.ratings.control import MissingResponses, rate_controlled, style_features
from arena_assets.ratings.elo import rate_online
from arena_assets.ratings.sampling import choose_pairs, gains

REAL = PROJECT.parent / "shared" / "data"
NAMES = PROJECT / "profiles" / "names" / "alpaca_eval-lmarena.csv"
real_data = pytest.mark.skipif(
    not REAL.exists(), reason="the real data in ../shared/data is not on this machine"
)


def arena_rate(*arguments):
    return CliRunner().invoke(app, ["rate", *map(str, arguments)])


def write(tmp_path, rows, name="battles.jsonl"):
    path = tmp_path / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name.endswith(".csv"):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# -- loaders -----------------------------------------------------------------------------------

LMARENA = [
    {"question_id": "q1", "model_a": "a", "model_b": "b", "winner": "model_a"},
    {"question_id": "q1", "model_a": "b", "model_b": "a", "winner": "model_a"},
    {"question_id": "q2", "model_a": "a", "model_b": "b", "winner": "tie (bothbad)"},
    {"question_id": "q3", "model_a": "a", "model_b": "b", "winner": None},
]


@pytest.mark.parametrize("name", ["b.jsonl", "b.parquet", "b.csv"])
def test_battles_of_any_file_come_into_one_form(tmp_path, name):
    found = read_battles(write(tmp_path, LMARENA, name), "lmarena")
    rows = found.table.to_pylist()
    assert [(r["prompt_id"], r["contestant_1"], r["score"]) for r in rows] == [
        ("q1", "a", 1.0),
        ("q1", "b", 1.0),
        ("q2", "a", 0.5),
    ]
    assert found.undecided == 1 and {row["weight"] for row in rows} == {1.0}


def test_graded_preferences_weights_and_categories_are_kept(tmp_path):
    rows = [
        {"model_a": "a", "model_b": "b", "preference": 0.8, "weight": 2.0, "category": "math"},
        {"model_a": "a", "model_b": "b", "preference": 0.2, "weight": 1.0, "category": "code"},
    ]
    found = read_battles(write(tmp_path, rows))
    assert found.table["score"].to_pylist() == [0.8, 0.2]
    assert found.table["prompt_id"].to_pylist() == ["row 1", "row 2"], "each on its own"
    assert found.of_category("math").table["weight"].to_pylist() == [2.0]
    with pytest.raises(BadBattles, match=r"no battles of category 'art' \(there: code, math\)"):
        found.of_category("art")


def test_alpaca_eval_annotations(tmp_path):
    rows = [
        {"instruction": "x", "generator_1": "base", "generator_2": "m", "preference": 1.0},
        {"instruction": "y", "generator_1": "base", "generator_2": "m", "preference": 1.75},
        {"instruction": "z", "generator_1": "base", "generator_2": "m", "preference": None},
    ]
    found = read_battles(write(tmp_path, rows), "alpaca_eval")
    assert found.table["score"].to_pylist() == [1.0, 0.25] and found.undecided == 1


def test_arena_hard_judgments_have_two_games_and_clear_wins_count_three_times(tmp_path):
    games = [{"score": "B>>A", "judgment": "..."}, {"score": "A>B", "judgment": "..."}]
    failed = [{"score": None, "judgment": "..."}, {"score": "A=B", "judgment": "..."}]
    rows = [
        {"question_id": "q1", "model": "m", "judge": "j", "games": games},
        {"question_id": "q2", "model": "m", "judge": "j", "games": failed},
    ]
    found = read_battles(write(tmp_path, rows), "arena_hard")
    assert [
        (r["contestant_1"], r["contestant_2"], r["score"], r["weight"])
        for r in found.table.sort_by(
            [("prompt_id", "ascending"), ("weight", "descending")]
        ).to_pylist()
    ] == [
        ("gpt-4-0314", "m", 0.0, 3.0),
        ("m", "gpt-4-0314", 1.0, 1.0),
        ("m", "gpt-4-0314", 0.5, 1.0),
    ]
    assert found.undecided == 1


def test_our_own_battles_are_read_from_the_lake(tmp_path):
    base = {"prompt_id": "p", "contestant_1": "a", "contestant_2": "b", "role": "deciding"}
    rows = [
        base | {"status": "decided", "winner": "b"},
        base | {"status": "tie", "winner": None},
        base | {"status": "inconsistent", "winner": None},
        base | {"status": "failed", "winner": None},
        base | {"status": "decided", "winner": "a", "role": "shadow"},
    ]
    found = read_battles(write(tmp_path, rows, "r.parquet"), "lake")
    assert found.table["score"].to_pylist() == [0.0, 0.5] and found.undecided == 2


GOOD = {"model_a": "a", "model_b": "b", "winner": "tie"}


@pytest.mark.parametrize(
    ("loader", "row", "message"),
    [
        (
            "battles",
            GOOD | {"winner": "modelA"},
            r"row 3: unknown verdict 'modelA' \(valid: model_a",
        ),
        ("battles", GOOD | {"winner": ""}, r"row 3: unknown verdict ''"),
        ("battles", GOOD | {"model_b": None}, "row 3: a contestant is missing"),
        ("battles", GOOD | {"model_b": " "}, "row 3: a contestant is missing"),
        ("battles", GOOD | {"model_b": "a"}, "row 3: 'a' meets itself"),
        ("battles", GOOD | {"weight": -1.0}, "row 3: weight -1.0 is no positive number"),
        ("lmarena", GOOD | {"winner": "left"}, "row 3: unknown verdict 'left'"),
    ],
)
def test_an_unclear_row_is_refused_with_its_number(tmp_path, loader, row, message):
    rows = [GOOD | {"weight": 1.0}, GOOD | {"weight": 1.0}, {"weight": 1.0} | row]
    with pytest.raises(BadBattles, match=message):
        read_battles(write(tmp_path, rows, "b.parquet"), loader)


@pytest.mark.parametrize("value", [float("nan"), 1.5, -0.1])
def test_a_preference_that_is_no_share_is_refused(value):
    rows = [{"model_a": "a", "model_b": "b", "preference": number} for number in (0.5, value)]
    with pytest.raises(
        BadBattles, match=r"row 2: unknown verdict .* \(valid: a number from 0 to 1;"
    ):
        read_battles(pa.Table.from_pylist(rows))


def test_files_and_columns_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(BadBattles, match="no such file"):
        read_battles(tmp_path / "gone.parquet")
    with pytest.raises(BadBattles, match=r"not one of \.parquet, \.csv"):
        read_battles(write(tmp_path, LMARENA, "b.txt"))
    with pytest.raises(
        BadBattles, match=r"columns left, right missing .*reads left, right and winner"
    ):
        read_battles(write(tmp_path, LMARENA), "llmfao")


# -- control -----------------------------------------------------------------------------------


def looks(prompts=1500, seed=2):
    """Battles whose judge likes long answers; `plain` and `long` are equally good."""
    draw = np.random.default_rng(seed)
    names = ["good", "plain", "long", "weak"]
    skill = {"good": 0.6, "plain": 0.0, "long": 0.0, "weak": -0.6}
    battles, responses = [], []
    for prompt in range(prompts):
        sizes = {n: int(draw.integers(20, 60) * (3 if n == "long" else 1)) for n in names}
        responses += [
            {"prompt_id": f"p{prompt}", "contestant": n, "text": "x" * size}
            for n, size in sizes.items()
        ]
        one, two = draw.choice(names, 2, replace=False)
        ratio = (sizes[one] - sizes[two]) / (sizes[one] + sizes[two])
        chance = 1 / (1 + np.exp(-(skill[one] - skill[two] + 2.0 * ratio)))
        winner = "model_a" if draw.random() < chance else "model_b"
        battles.append(
            {"prompt_id": f"p{prompt}", "model_a": one, "model_b": two, "winner": winner}
        )
    return battles, responses


@pytest.mark.parametrize("interval", ["bootstrap", "sandwich"])
def test_length_control_takes_the_judges_taste_out(tmp_path, interval):
    battles, responses = looks()
    table = read_battles(pa.Table.from_pylist(battles)).table
    path = write(tmp_path, responses, "responses.parquet")
    anchor = Anchor("plain", 1000)
    plain = {r["contestant"]: r for r in rate(table, anchor).to_pylist()}
    features = style_features(table, path, "length")
    rated, (effect,) = rate_controlled(table, features, "length", anchor, Intervals(interval))
    controlled = {row["contestant"]: row for row in rated.to_pylist()}
    assert plain["long"]["rating"] > 1100, "the taste makes the long-winded one look better"
    assert controlled["long"]["lower"] < 1000 < controlled["long"]["upper"]
    assert effect.feature == "length" and effect.lower > 0
    truth = {"good": 0.6, "plain": 0.0, "weak": -0.6}
    for name, skill in truth.items():
        assert controlled[name]["rating"] == pytest.approx(1000 + ELO * skill, abs=50)


def test_without_an_effect_control_changes_little():
    battles, _ = looks(400)
    table = read_battles(pa.Table.from_pylist(battles)).table
    anchor = Anchor("plain", 1000)
    rated, (effect,) = rate_controlled(table, np.zeros((len(table), 1)), "length", anchor)
    assert effect.points == 0
    for one, two in zip(rated.to_pylist(), rate(table, anchor).to_pylist(), strict=True):
        assert one["rating"] == pytest.approx(two["rating"], abs=0.01)
        assert one["lower"] == pytest.approx(two["lower"], abs=0.01)


def test_markdown_is_counted(tmp_path):
    texts = {"a": "# Title\n\n- one\n- two\n1. three\n**bold** and __bold__", "b": "plain"}
    path = write(
        tmp_path, [{"prompt_id": "p", "contestant": c, "text": t} for c, t in texts.items()]
    )
    rows = [{"prompt_id": "p", "model_a": "a", "model_b": "b", "winner": "tie"}] * 2
    rows[1] = rows[1] | {"model_a": "b", "model_b": "a"}
    features = style_features(read_battles(pa.Table.from_pylist(rows)).table, path, "style")
    assert (
        features.shape == (2, 4) and (features[0] > 0).all() and (features[0] == -features[1]).all()
    )


def test_a_battle_without_its_answer_is_refused(tmp_path):
    battles, responses = looks(20)
    table = read_battles(pa.Table.from_pylist(battles)).table
    lacking = battles[0]["model_a"]
    path = write(tmp_path, [r for r in responses if r["contestant"] != lacking])
    with pytest.raises(MissingResponses, match=f"no answer of '{lacking}' to prompt"):
        style_features(table, path, "length")


# -- consistency -------------------------------------------------------------------------------


def board(**ratings):
    return [
        {"contestant": name, "rating": r, "lower": r - w, "upper": r + w}
        for name, (r, w) in ratings.items()
    ]


def test_the_three_metrics_by_hand():
    ours = board(a=(1200, 10), b=(1100, 10), c=(1000, 150), d=(900, 10))
    theirs = {
        row["contestant"]: row
        for row in board(a=(50, 1), b=(40, 1), c=(20, 1), d=(30, 1), e=(1, 1))
    }
    found = consistency(ours, theirs)
    assert found.models == ("a", "b", "c", "d")
    assert found.spearman == pytest.approx(0.8)
    # a-b, a-c, a-d, b-d are apart and agree; b-c and c-d overlap with us
    assert found.agreement == pytest.approx(4 / 6)
    assert found.differentiation == pytest.approx(4 / 6)
    assert found.mean == pytest.approx((0.8 + 4 / 6 + 4 / 6) / 3)
    reversed_ = {
        name: row | {"rating": -row["rating"], "lower": -row["upper"], "upper": -row["lower"]}
        for name, row in theirs.items()
    }
    assert consistency(ours, reversed_).agreement == pytest.approx(-4 / 6)
    equal = {name: row | {"lower": 0, "upper": 100} for name, row in theirs.items()}
    assert consistency(ours, equal).agreement is None and consistency(ours, equal).mean is None


def test_names_are_mapped_and_mistakes_in_the_map_are_named(tmp_path):
    path = tmp_path / "names.csv"
    path.write_text("ours,reference\na,A\nb,B\nc,C\n")
    theirs = {row["contestant"]: row for row in board(A=(3, 1), B=(2, 1), C=(1, 1))}
    ours = board(a=(3, 1), b=(2, 1), c=(1, 1), z=(0, 1))
    assert consistency(ours, theirs, read_names(path)).spearman == pytest.approx(1)
    with pytest.raises(BadReference, match="only 0 models are in both"):
        consistency(ours, theirs)
    with pytest.raises(BadReference, match="sends 'b' to 'X', which has no reference"):
        consistency(ours, theirs, {"a": "A", "b": "X"})
    path.write_text("ours,reference\na,A\na,B\n")
    with pytest.raises(BadReference, match="line 3: 'a' is already mapped"):
        read_names(path)
    path.write_text("ours,reference\na\n")
    with pytest.raises(BadReference, match="line 2: expected two names"):
        read_names(path)


def test_a_reference_is_read_by_its_columns(tmp_path):
    rows = [
        {"model": "A", "rating": 2, "lower": 1, "upper": 3, "category": "full", "style": "none"},
        {"model": "A", "rating": 5, "lower": 4, "upper": 6, "category": "math", "style": "none"},
    ]
    path = write(tmp_path, rows, "reference.csv")
    assert read_reference(path)["A"]["rating"] == 2, "LMArena's overall board"
    assert read_reference(path, {"category": "math"})["A"]["rating"] == 5
    with pytest.raises(BadReference, match=r"'A' is listed more than once.*category"):
        read_reference(path, {"style": "none"})
    with pytest.raises(BadReference, match="no rows where"):
        read_reference(path, {"category": "art"})
    path.write_text("model,rating,lower,upper\nA,1,,2\n")
    with pytest.raises(BadReference, match="'A' has no complete rating"):
        read_reference(path)
    path.write_text("model,score\nA,1\n")
    with pytest.raises(BadReference, match="columns rating, lower, upper missing"):
        read_reference(path)


# -- sampling ----------------------------------------------------------------------------------


def test_close_pairs_gain_more_than_settled_ones_and_new_contestants_most():
    totals = np.array([[0, 50, 99], [50, 0, 99], [1, 1, 0.0]])
    gain = gains(totals)
    assert np.allclose(gain, gain.T) and (np.diag(gain) == 0).all()
    assert gain[0, 1] > gain[0, 2]
    newcomer = np.zeros((4, 4))
    newcomer[:3, :3] = totals
    assert gains(newcomer)[3, 0] > gains(newcomer)[0, 1]


def test_no_pair_gets_more_battles_than_are_left():
    left = np.triu(np.array([[0, 3, 100], [0, 0, 2], [0, 0, 0]]), 1)
    totals = np.array([[0, 5, 9], [5, 0, 9], [1, 1, 0.0]])
    generator = np.random.default_rng(0)
    chosen = choose_pairs(totals, left, 50, generator)
    assert chosen.sum() == 50 and (chosen <= left).all()
    assert choose_pairs(totals, left, 500, generator).sum() == 105, "all that are left"


# -- the command -------------------------------------------------------------------------------


def test_the_command_prints_table_json_and_csv(tmp_path):
    path = write(tmp_path, [*LMARENA, GOOD | {"model_b": "c", "question_id": "q4"}])
    table = arena_rate(path, "--anchor", "b=1100", "--plots", tmp_path / "plots")
    assert table.exit_code == 0 and "4 battles on 3 prompts, 1 undecided left out" in table.output
    names = {file.name for file in (tmp_path / "plots").iterdir()}
    assert names == {"battles-ratings.png", "battles-win-rates.png"}
    result = json.loads(arena_rate(path, "--anchor", "b=1100", "--format", "json").stdout)
    assert {row["contestant"]: row["rating"] for row in result["ratings"]}["b"] == 1100
    assert result["undecided"] == 1 and result["interval"] == "sandwich"
    assert {"contestant", "opponent", "win_rate", "expected"} <= result["pairs"][0].keys()
    rows = list(csv.DictReader(io.StringIO(arena_rate(path, "--format", "csv").stdout)))
    assert {row["contestant"] for row in rows} == {"a", "b", "c"}
    elo = json.loads(arena_rate(path, "--method", "elo", "--format", "json").stdout)
    assert elo["interval"] == "none" and elo["ratings"][0]["lower"] == elo["ratings"][0]["rating"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--control", "length"], "--control needs --responses"),
        (["--anchor", "a"], "write NAME=RATING"),
        (["--anchor", "z=1"], "the anchor 'z' has no battles"),
        (["--category", "art"], "no battles of category 'art'"),
        (["--loader", "llmfao"], "columns left, right missing"),
        (["--reference", "gone.csv"], "gone.csv: no such file"),
        (["--control", "length", "--responses", "gone.csv"], "gone.csv: no such file"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(tmp_path, options, message):
    done = arena_rate(write(tmp_path, LMARENA), *options)
    assert done.exit_code == 1 and message in done.stderr and "Traceback" not in done.stderr


def test_elo_follows_the_order_of_battles():
    rows = [
        {"model_a": "a", "model_b": "b", "winner": w} for w in ["model_a"] * 9 + ["model_b"] * 9
    ]
    table = read_battles(pa.Table.from_pylist(rows)).table
    rated = {r["contestant"]: r["rating"] for r in rate_online(table, Anchor("a", 0)).to_pylist()}
    assert rated["b"] > rated["a"], "the latest results weigh most"
    with pytest.raises(UnratableBattles, match="anchor 'z'"):
        rate_online(table, Anchor("z", 0))


# -- real data ---------------------------------------------------------------------------------


@real_data
def test_alpaca_eval_agrees_with_lmarena_and_more_so_with_length_control():
    folder = REAL / "alpaca_eval"
    options = ["--loader", "alpaca_eval", "--anchor", "gpt4_1106_preview=1250", "--format", "json"]
    options += ["--reference", REAL / "lmarena" / "leaderboard_2025-12.csv", "--names", NAMES]
    plain = json.loads(arena_rate(folder / "judgments.parquet", *options).stdout)
    options += ["--responses", folder / "responses.parquet", "--control", "length"]
    controlled = json.loads(arena_rate(folder / "judgments.parquet", *options).stdout)
    assert plain["battles"] == 45_070 and len(plain["consistency"]["models"]) == 11
    print({name: run["consistency"] for name, run in (("plain", plain), ("length", controlled))})
    assert plain["consistency"]["spearman"] == pytest.approx(0.909, abs=0.001)
    assert controlled["consistency"]["spearman"] >= 0.93
    assert controlled["effects"][0]["lower"] > 0, "GPT-4-turbo prefers longer answers"


@real_data
def test_llmfao_agrees_with_the_golden_scores_and_with_evalica():
    import evalica

    with (REAL / "llmfao" / "llmfao-golden.csv").open() as file:
        golden = {
            row["item"]: float(row["score"])
            for row in csv.DictReader(file)
            if row["algorithm"] == "bradley_terry"
        }
    battles = read_battles(REAL / "llmfao" / "llmfao.csv", "llmfao")
    rows = rate(battles.table, Anchor("GPT 4", 1000)).to_pylist()
    ours = {row["contestant"]: row["rating"] for row in rows}
    assert ours.keys() == golden.keys()
    order = spearmanr([ours[name] for name in golden], list(golden.values())).statistic
    print(f"Spearman with the golden order: {order:.4f}")
    assert order >= 0.999
    winners = {1.0: evalica.Winner.X, 0.5: evalica.Winner.Draw, 0.0: evalica.Winner.Y}
    frame = battles.table.to_pandas()
    scores = evalica.bradley_terry(
        frame.contestant_1, frame.contestant_2, [winners[score] for score in frame.score]
    ).scores
    for name, rating in ours.items():
        expected = 1000 + ELO * (np.log(scores[name]) - np.log(scores["GPT 4"]))
        assert rating == pytest.approx(expected, abs=2), name


def test_the_name_map_names_models_of_both():
    assert Path(NAMES).exists() and len(read_names(NAMES)) == 11
