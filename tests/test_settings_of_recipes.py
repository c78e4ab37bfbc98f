"""Settings of a recipe: paths that lie beside their file, functions as they are now, mistakes."""

from __future__ import annotations

import sys

import pyarrow as pa
import pytest
import yaml

from arena_assets.config.places import resolve
from arena_assets.config.plugins import load_function
from arena_assets.config.profile import load_profile
from arena_assets.config.prompts import Testset as Settings
from arena_assets.config.settings_files import ProfileError
from arena_assets.curation.held_out import draw_held_out

SFT, DPO = "i01.1-sft", "i01.2-dpo"


@pytest.fixture
def read(tmp_path, tiny_profile):
    """The tests' profile with other settings in some sections, in a folder of its own."""

    def read_(**sections):
        profile = yaml.safe_load(tiny_profile.read_text("utf-8"))
        for name, changes in sections.items():
            for key, value in changes.items():
                inside = isinstance(value, dict) and isinstance(profile[name].get(key), dict)
                profile[name][key] = profile[name][key] | value if inside else value
        (tmp_path / "arena.yaml").write_text(yaml.safe_dump(profile), "utf-8")
        (tmp_path / "own.yaml").write_text("distributed_type: MULTI_GPU\n", "utf-8")
        return load_profile(tmp_path / "arena.yaml")

    return read_


def test_a_path_lies_beside_its_file_in_a_round_with_training_of_its_own_too(read, tmp_path):
    changed = {SFT: {"training": {"sft": {"epochs": 3}}}}
    profile = read(training={"accelerate": "own.yaml"}, rounds=changed)
    for key in (SFT, DPO):
        assert resolve(profile.of_round(key).training.accelerate) == tmp_path / "own.yaml"


def test_so_does_one_that_a_rounds_training_names(read, tmp_path):
    profile = read(rounds={SFT: {"training": {"accelerate": "own.yaml"}}})
    assert resolve(profile.of_round(SFT).training.accelerate) == tmp_path / "own.yaml"
    with pytest.raises(ProfileError, match=rf"rounds.{SFT}.training: gone.yaml: no such file"):
        read(rounds={SFT: {"training": {"accelerate": "gone.yaml"}}})


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"rounds": {SFT: {"data": "that"}}}, f"rounds.{SFT}.data: accumulate, this, or {{last: 2"),
        ({"rounds": {SFT: {"data": {"newest": 2}}}}, f"rounds.{SFT}.data: accumulate, this, or {{"),
        ({"rounds": {SFT: {"data": {"last": 0}}}}, f"rounds.{SFT}.data.last: Input should be gr"),
        (
            {"prompts": {"testset": {"held_out_constraints": "no_commas"}}},
            "prompts.testset.held_out_constraints: a number of types from 0 on, or a list of types",
        ),
        ({"prompts": {"testset": {"held_out_constraints": True}}}, "or a list of types; got True"),
    ],
)
def test_a_mistake_is_told_in_one_sentence_with_its_place(read, sections, told):
    with pytest.raises(ProfileError) as error:
        read(**sections)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_a_function_is_that_of_its_file_as_it_is_now(tmp_path, monkeypatch):
    """Dagster's process goes on after an edit, and what is noted is the digest of the new file."""
    file = tmp_path / "edited_rules_of_test.py"
    monkeypatch.syspath_prepend(str(tmp_path))
    file.write_text("def choose(candidates, rows, seed):\n    return ['one']\n", "utf-8")
    assert load_function("edited_rules_of_test:choose")(None, 1, 1) == ["one"]
    file.write_text("def choose(candidates, rows, seed):\n    return ['two', 'more']\n", "utf-8")
    assert load_function("edited_rules_of_test:choose")(None, 1, 1) == ["two", "more"]
    file.write_text("def choose(candidates, rows, seed:\n", "utf-8")
    for _ in range(2):  # a module that cannot be read is not the one before
        with pytest.raises(SyntaxError):
            load_function("edited_rules_of_test:choose")
    sys.modules.pop("edited_rules_of_test")


def test_more_things_than_prompts_cannot_be_held_out():
    """The last ones would have no test prompt, and then be in the slices after all."""
    names = ["constraint a", "constraint b", "source c"]
    rows = [{"prompt_id": f"p{n}", "held_out": names[n % 3]} for n in range(9)]
    asked = Settings(held_out_constraints=("a", "b"), held_out_sources=("c",), held_out_prompts=2)
    with pytest.raises(ValueError, match=r"2 prompts cannot have 3 things .* \(constraint a, "):
        draw_held_out(pa.Table.from_pylist(rows), asked, 1)
    three = asked.model_copy(update={"held_out_prompts": 3})
    drawn = draw_held_out(pa.Table.from_pylist(rows), three, 1)["held_out"].to_pylist()
    assert sorted(drawn) == names
