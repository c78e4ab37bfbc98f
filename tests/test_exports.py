"""An export is a folder that transformers loads, with a card; another arena takes it in again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import TINY_PROFILE
from huggingface_hub import ModelCard
from registry_lake import fill, put_answers, put_ratings, small_arena
from test_assets import FIRST, SECOND
from test_checkpoints import digest_of, manifest
from test_crash_safety import flip

from arena_assets.flywheel import exporting
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.exporting import export
from arena_assets.flywheel.model_card import model_card
from arena_assets.flywheel.registry import RegistryError, resolve
from arena_assets.flywheel.taking_in import take_in_models
from arena_assets.lake.lake import NotWritable
from arena_assets.training.checkpoints import CorruptCheckpoint


@pytest.fixture
def arena(tmp_path):
    arena = small_arena(tmp_path)
    fill(arena)
    return arena


def of_tiny_model(arena, tiny_model, key=FIRST):
    """Make a round's checkpoint the tests' real weights; gives its digest."""
    scratch = arena.checkpoints.scratch(key)
    shutil.copytree(tiny_model, scratch)
    (scratch / "training.bin").write_bytes(b"a pickle")
    (scratch / "metrics.jsonl").write_text("", "utf-8")
    arena.checkpoints.commit(scratch, manifest(scratch, key, parent_digest="base-digest"))
    return arena.checkpoints.manifest(key).digest


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_transformers_loads_what_was_exported(arena, tiny_model, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    of_tiny_model(arena, tiny_model)
    folder = export(arena, resolve(arena, FIRST), tmp_path / "out")
    names = set(files_of(folder))
    assert names >= {
        *("README.md", "manifest.json", "config.json", "generation_config.json"),
        *("model.safetensors", "tokenizer.json", "chat_template.jinja"),
    }
    assert not names & {"training.bin", "metrics.jsonl"} and not [n for n in names if n[0] == "."]
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    own = AutoModelForCausalLM.from_pretrained(tiny_model)
    for name, weights in own.state_dict().items():
        assert weights.equal(model.state_dict()[name]), name
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, return_tensors="pt"
    )
    assert model.generate(**asked, max_new_tokens=3).shape[1] > asked["input_ids"].shape[1]


def test_an_export_is_a_model_of_another_arena_with_the_same_digest(arena, tmp_path):
    folder = export(arena, resolve(arena, FIRST), tmp_path / "out")
    profile = tmp_path / "other.yaml"
    models = {"models": {"mine": {"path": str(folder)}}}
    target = {"target": TINY_PROFILE["target"] | {"model": "mine"}}
    of_mine = {**TINY_PROFILE, **models, **target, "shadow_judges": []}
    of_mine["opponents"] = TINY_PROFILE["opponents"][:1]
    of_mine["ratings"] = {"anchor": "reference"}
    profile.write_text(yaml.safe_dump(of_mine), "utf-8")
    other = Arena(profile, tmp_path / "other-lake")
    other.lake.write("models", take_in_models(other, print))
    base = resolve(other, "base")
    assert (base.state, base.digest) == ("intact", resolve(arena, FIRST).digest)
    # and out again
    again = export(other, base, tmp_path / "again")
    assert digest_of(again) == base.digest and not (again / "manifest.json").exists()


@pytest.mark.parametrize("name", ["base", FIRST])
def test_the_base_model_and_checkpoints_are_copied_byte_for_byte(arena, tmp_path, name):
    entry = resolve(arena, name)
    if name == "base":
        arena.lake.write("models", take_in_models(arena, print))
        entry = resolve(arena, name)
    out = files_of(export(arena, entry, tmp_path / "out"))
    for file in ("config.json", *(["model.safetensors"] if name != "base" else [])):
        assert out[file] == (entry.path / file).read_bytes()


def test_the_base_model_is_exported_with_the_template_that_the_profile_gives_it(arena, tmp_path):
    template = tmp_path / "template.jinja"
    template.write_text("{{ messages }}", "utf-8")
    profile = yaml.safe_load(arena.profile_path.read_text("utf-8"))
    profile["models"]["tiny"]["chat_template"] = str(template)
    arena.profile_path.write_text(yaml.safe_dump(profile), "utf-8")
    templated = Arena(arena.profile_path, arena.lake.root)
    templated.lake.write("models", take_in_models(templated, print))
    folder = export(templated, resolve(templated, "base"), tmp_path / "out")
    assert (folder / "chat_template.jinja").read_text("utf-8") == "{{ messages }}"


# -- whole or not there ----------------------------------------------------------------------------


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(arena, tmp_path):
    taken, file = tmp_path / "taken", tmp_path / "file"
    taken.mkdir()
    (taken / "mine.txt").write_text("mine", "utf-8")
    file.write_text("mine", "utf-8")
    entry = resolve(arena, FIRST)
    with pytest.raises(RegistryError, match=f"{taken} is not empty: name a folder"):
        export(arena, entry, taken)
    with pytest.raises(RegistryError, match=f"{file} is a file"):
        export(arena, entry, file)
    with pytest.raises(RegistryError, match="lies in the lake"):
        export(arena, entry, arena.lake.root / "checkpoints" / "mine")
    assert files_of(taken) == {"mine.txt": b"mine"} and file.read_text("utf-8") == "mine"


def test_an_empty_folder_and_one_below_folders_to_come_are_taken(arena, tmp_path):
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "a/b/c"):
        assert export(arena, resolve(arena, FIRST), place) == place
        assert (place / "README.md").exists()


def test_weights_that_changed_are_not_exported(arena, tmp_path):
    entry = resolve(arena, FIRST)
    weights = arena.checkpoints.path(FIRST).resolve() / "model.safetensors"
    kept = weights.stat()
    flip(weights)
    os.utime(weights, ns=(kept.st_atime_ns, kept.st_mtime_ns))  # a look at size and time is blind
    with pytest.raises(CorruptCheckpoint, match="its files have digest"):
        export(arena, entry, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_a_copy_that_went_wrong_leaves_nothing(arena, tmp_path, monkeypatch):
    def torn(source, copy):
        copy.write_bytes(source.read_bytes()[:-1])

    monkeypatch.setattr(exporting.shutil, "copyfile", torn)
    with pytest.raises(CorruptCheckpoint, match=r"its copy has SHA-256 \w{12}, recorded was"):
        export(arena, resolve(arena, FIRST), tmp_path / "out")
    assert not list(tmp_path.glob("*out*")) and not list(tmp_path.glob(".out*"))


def test_a_full_disk_leaves_nothing_and_is_told(arena, tmp_path, monkeypatch):
    def full(source, copy):
        raise OSError(28, "No space left on device", str(copy))

    monkeypatch.setattr(exporting.shutil, "copyfile", full)
    with pytest.raises(NotWritable, match="the disk is full"):
        export(arena, resolve(arena, FIRST), tmp_path / "out")
    assert not list(tmp_path.glob(".out*"))


def test_what_is_missing_and_masters_that_are_not_kept_are_refused(arena, tmp_path):
    with pytest.raises(RegistryError, match=f"{FIRST} keeps no masters.*leave --masters out"):
        export(arena, resolve(arena, FIRST), tmp_path / "out", masters=True)
    shutil.rmtree(arena.checkpoints.path(SECOND).resolve())
    with pytest.raises(RegistryError, match=f"{SECOND} cannot be exported: .*not there"):
        export(arena, resolve(arena, SECOND), tmp_path / "out")


def test_masters_take_the_place_of_the_weights_that_fight(arena):
    entry = resolve(arena, FIRST)
    recorded = [
        *("config.json", "model.safetensors.index.json", "model-00001-of-00001.safetensors"),
        *("tokenizer.json", "weights.bin", "reward_model/model.safetensors", "own.py"),
        *("masters/config.json", "masters/model.safetensors"),
    ]
    assert exporting.chosen_files(entry, recorded, masters=True, trusted=False) == {
        "config.json": "masters/config.json",
        "model.safetensors": "masters/model.safetensors",
        "tokenizer.json": "tokenizer.json",
    }
    fighting = exporting.chosen_files(entry, recorded, masters=False, trusted=True)
    assert fighting.keys() == {*recorded[:4], "own.py"}


def test_the_card_of_an_adapter_says_what_it_needs(arena, tmp_path):
    folder = arena.checkpoints.path(FIRST).resolve()
    (folder / "adapter_config.json").write_text("{}", "utf-8")
    assert "A LoRA adapter" in model_card(arena, resolve(arena, FIRST))
    assert "A LoRA adapter" not in model_card(arena, resolve(arena, SECOND))


# -- the card --------------------------------------------------------------------------------------


def card_of(arena, name, folder):
    return ModelCard.load(export(arena, resolve(arena, name), folder) / "README.md")


def test_the_card_says_what_a_stranger_has_to_know(arena, tmp_path):
    card = card_of(arena, SECOND, tmp_path / "out")
    first, second = resolve(arena, FIRST), resolve(arena, SECOND)
    for words in (
        second.digest, first.digest, "base-digest",  # what it is, and from which it was trained
        second.manifest.training_set_digest, "as learned", "seed",  # data
        "beta: 0.1", "1050.00 | 1041.00 | 1059.00",  # settings and rating with interval
        "trl", "Licence: not known here", "Intended use and limits", "convert_hf_to_gguf",
    ):  # fmt: skip
        assert words in card.text, words
    data = card.data
    assert (data.library_name, data.pipeline_tag, data.license) == (
        "transformers", "text-generation", None,
    )  # fmt: skip
    assert data.tags == ["arena-learning", "dpo", "trl"] and data.model_name == f"tiny-{SECOND}"
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value) == ("elo", 1050.0)
    assert "95 % interval 1041 to 1059" in result.metric_name
    assert str(tmp_path) not in card.content, "a path of this machine says nothing to others"


def test_the_card_takes_the_licence_that_the_base_model_says(arena, tmp_path):
    (tmp_path / "base" / "README.md").write_text("---\nlicense: mit\n---\n# x\n", "utf-8")
    card = card_of(arena, FIRST, tmp_path / "out")
    assert card.data.license == "mit" and "Licence: mit, as the base model says" in card.text
    (tmp_path / "base" / "README.md").write_text("---\n: [\n---\nbroken", "utf-8")
    assert card_of(arena, FIRST, tmp_path / "again").data.license is None


def test_names_with_markup_are_text_in_the_card(arena, tmp_path):
    evil = "<img src=x>|](http://a.b)"
    put_ratings(arena, SECOND, **{"base": 905.0, SECOND: 1050.0, evil: 1.0})
    card = card_of(arena, SECOND, tmp_path / "out").text
    assert evil not in card and "&#60;img src=x&#62;&#124;" in card


def test_a_checkpoint_that_was_never_rated_says_so(arena, tmp_path):
    put_answers(arena, "arena_responses", SECOND, base="base-digest")
    card = card_of(arena, SECOND, tmp_path / "out")
    assert "It was not rated." in card.text and not card.data.eval_results
