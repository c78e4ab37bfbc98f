"""One round under several recipes and seeds: nothing is made twice, and all are rated together."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from conftest import WORK, arena_command
from test_assets import checkpoint_of

from arena_assets.config.ablations import load_ablation, variant_profile, write_profile
from arena_assets.config.places import PROJECT
from arena_assets.config.profile import load_profile
from arena_assets.config.settings_files import ProfileError
from arena_assets.flywheel.ablations import results, share_rounds, trainings
from arena_assets.flywheel.arena import Arena
from arena_assets.lake.identity import canonical
from arena_assets.lake.lake import Lake, write_atomically

SFT, DPO = "i01.1-sft", "i01.2-dpo"
VARIANTS: dict[str, Any] = {"random": {"selection": "random"}, "pair-judge": {}}


def ablation_file(folder: Path, **changes: Any) -> Path:
    file = folder / "which-battles.yaml"
    settings = {"round": SFT, "seeds": [1, 2], "variants": VARIANTS} | changes
    file.write_text(yaml.safe_dump(settings, sort_keys=False), "utf-8")
    return file


def test_the_ablation_that_is_shipped_can_be_read():
    ablation = load_ablation(PROJECT / "profiles/ablations/pocket-selection.yaml")
    assert ablation.profile_place == PROJECT / "profiles/pocket-3.yaml"
    assert ablation.seeds == (1, 2, 3) and list(ablation.variants) == ["random", "pair-judge"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"round": "i09.1-sft"}, "round: 'i09.1-sft' is not in the profile (i01.1-sft, "),
        ({"seeds": [1, 1]}, "seeds: every seed once, got 1, 1"),
        ({"variants": {"a": {}}}, "variants: Dictionary should have at least 2 items"),
        ({"variants": VARIANTS | {"b": {"slice": "D2"}}}, "variants.b.slice: no setting of a"),
        (
            {"variants": VARIANTS | {"b": {"selection": "best"}}},
            "variants.b: rounds.i01.1-sft.selection.rule: 'best' is no rule of selection (valid: "
            "pair-judge, random, kmeans, instruction-length, all, or a function as module:name)",
        ),
        (
            {"variants": VARIANTS | {"b": {"training": {"sft": {"epoch": 1}}}}},
            "variants.b: rounds.i01.1-sft.training: sft.epoch: unknown key (did you mean epochs?",
        ),
        ({"variant": {}}, "variant: unknown key (did you mean variants?"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path, changes, told):
    with pytest.raises(ProfileError) as error:
        load_ablation(ablation_file(tmp_path, **changes))
    assert told in str(error.value) and str(error.value).startswith(str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_variant_changes_its_round_alone_and_means_the_same_files(tmp_path, tiny_profile):
    variants = VARIANTS | {
        "k": {"minimum_gap": 1.0, "training": {"sft": {"epochs": 2}}},
        "few": {"battles": {"mode": "target_against_opponents"}},
    }
    ablation = load_ablation(ablation_file(tmp_path, variants=variants))
    profile = load_profile(tiny_profile)
    found = {}
    for name in variants:
        place = tmp_path / name / "profile.yaml"
        write_profile(variant_profile(profile, ablation, name, 2), place)
        found[name] = load_profile(place)
    k, random = found["k"], found["random"]
    assert (k.rounds[SFT].minimum_gap, k.of_round(SFT).training.sft.epochs) == (1.0, 2)
    assert random.rounds[SFT].selection.rule == "random"
    assert found["few"].battles.mode == "target_against_opponents"
    assert {p.of_round(SFT).training_seed for p in found.values()} == {2}
    assert {p.of_round(DPO).training_seed for p in found.values()} == {profile.seed}
    for changed in found.values():
        same = {"rounds": profile.rounds, "battles": profile.battles}
        assert canonical(changed.model_copy(update=same)) == canonical(profile)


def test_rounds_before_are_shared_and_a_replaced_file_stays_what_it_was(tmp_path, tiny_profile):
    own, other = Arena(str(tiny_profile), tmp_path / "lake"), Lake(tmp_path / "other")
    digest = checkpoint_of(own, SFT, b"weights")
    rows = pa.table({"round": ["before"]})
    write_atomically(rows.to_reader(), own.lake.path("battles", SFT))
    own.record("battles", SFT, "what it was made from")
    share_rounds(own, other, [SFT])
    shared = Arena(str(tiny_profile), other.root)
    assert shared.checkpoints.verify(SFT).digest == digest
    assert shared.made_from("battles", SFT) == "what it was made from"
    write_atomically(pa.table({"round": ["after"]}).to_reader(), own.lake.path("battles", SFT))
    assert other.read("battles", SFT).to_pylist() == [{"round": "before"}]
    share_rounds(own, other, [SFT])
    assert other.read("battles", SFT).to_pylist() == [{"round": "after"}]


def rated(tmp_path, tiny_profile, wins: dict[str, set[int]]) -> list[dict[str, Any]]:
    """What comes of checkpoints that beat base on these of 12 prompts and lose on the others."""
    own = Arena(str(tiny_profile), tmp_path / "lake")
    own = Arena(_anchored(tmp_path, tiny_profile), own.lake.root)
    trained = trainings(load_ablation(ablation_file(tmp_path)), own, "x")
    lake = Lake(tmp_path / "arena")
    names = ["base", *(one.name for one in trained)]
    battles = []
    for prompt in range(12):
        for n, one in enumerate(names):
            for two in names[n + 1 :]:
                score = [prompt in wins.get(name.partition("@")[2], set()) for name in (one, two)]
                row = {"prompt_id": f"p{prompt}", "contestant_1": one, "contestant_2": two}
                row |= {"status": "tie" if score[0] == score[1] else "decided", "role": "deciding"}
                won = None if score[0] == score[1] else one if score[0] else two
                battles.append(row | {"winner": won})
    write_atomically(pa.Table.from_pylist(battles).to_reader(), lake.path("arena_battles", SFT))
    testset = [
        {"prompt_id": f"p{n}", "part": "diverse", "cluster": n // 2, "category": "c"}
        | {"difficulty": None, "turns": 1, "version": "v", "held_out": None}
        | {"family": f"f{n // 2}", "purpose": "report"}
        for n in range(12)
    ]
    lake.write("arena_testset", testset)
    for one in trained:
        place = one.area / f"{one.variant}.s{one.seed}"
        write_profile(own.profile, place / "profile.yaml")
        rows = pa.table({"row_id": ["r"] * (4 if one.variant == "random" else 6)})
        write_atomically(rows.to_reader(), one.arena.lake.path("training_set", SFT))
    return results(trained, own, lake)


def _anchored(tmp_path: Path, tiny_profile: Path) -> str:
    profile = yaml.safe_load(tiny_profile.read_text("utf-8"))
    profile["ratings"] = {"anchor": "base"}
    file = tmp_path / "anchored.yaml"
    file.write_text(yaml.safe_dump(profile), "utf-8")
    return str(file)


def test_variants_are_compared_on_the_same_prompts_over_seeds(tmp_path, tiny_profile):
    wins = {"random.s1": {0, 1, 2}, "random.s2": {0, 1, 2, 3}}
    wins |= {"pair-judge.s1": set(range(9)), "pair-judge.s2": set(range(10))}
    rows = rated(tmp_path, tiny_profile, wins)
    assert [(r["variant"], r["seed"], r["rows"]) for r in rows] == [
        ("random", 1, 4), ("random", 2, 4), ("random", None, 4),
        ("pair-judge", 1, 6), ("pair-judge", 2, 6), ("pair-judge", None, 6),
    ]  # fmt: skip
    last = rows[-1]
    assert last["against"] == "random" and rows[2].get("against") is None
    # on 6 of 12 prompts one wins: against the other itself, base and the other seeds
    assert 0 < last["difference_lower"] < last["difference"] < last["difference_upper"]
    assert last["p_value"] < 0.05 and (last["prompts"], last["families"]) == (12, 6)
    assert last["rating"] == pytest.approx((rows[3]["rating"] + rows[4]["rating"]) / 2)
    Lake(tmp_path / "out").write("ablations", rows, "x")  # as the table is


def test_variants_that_do_the_same_differ_by_nothing(tmp_path, tiny_profile):
    same = {0, 2, 4, 6, 8, 10}
    wins = {f"{variant}.s{seed}": same for variant in VARIANTS for seed in (1, 2)}
    last = rated(tmp_path, tiny_profile, wins)[-1]
    assert (last["difference"], last["p_value"]) == (0.0, 1.0)


@pytest.mark.drill
def test_an_ablation_trains_what_is_missing_and_generates_nothing_twice(tmp_path, tiny_model):
    """The tests' arena, from nothing: two variants, two seeds; again, it finds everything."""
    file = ablation_file(tmp_path)
    done = arena_command("ablate", str(file), "--format", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(done.stdout[done.stdout.index("[") :])
    assert [(r["variant"], r["seed"]) for r in rows] == [
        (variant, seed) for variant in VARIANTS for seed in (1, 2, None)
    ]  # fmt: skip
    area = WORK / "lake/ablations/which-battles"
    learned = {
        variant: {row["prompt_id"] for row in Lake(area / f"{variant}.s1").read(
            "training_set", SFT, ["prompt_id"]).to_pylist()}
        for variant in VARIANTS
    }  # fmt: skip
    assert len(learned["random"]) == len(learned["pair-judge"]), "as many rows"
    assert learned["random"] != learned["pair-judge"]
    stored = {path.name for path in (WORK / "lake/store").rglob("*.parquet")}
    digests = {
        json.loads((area / f"{v}.s{s}/checkpoints/{SFT}/manifest.json").read_text())["digest"]
        for v in VARIANTS
        for s in (1, 2)
    }
    assert len(digests) == 4, "another seed is another checkpoint"
    again = arena_command("ablate", str(file), "--format", "csv")
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stderr.count("done, nothing changed") == 4
    assert {path.name for path in (WORK / "lake/store").rglob("*.parquet")} == stored
    table = list(csv.DictReader(io.StringIO(again.stdout)))
    assert [row["rating"] for row in table] == [str(row["rating"]) for row in rows]
    assert not (WORK / "lake/checkpoints" / SFT).exists(), "the arena's own rounds are as they were"
