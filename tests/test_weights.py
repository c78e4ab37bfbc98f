"""What is fetched of a repository, and where weights and checkpoints lie after a move."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub.utils import filter_repo_objects

from arena_assets.config.models import ModelSettings
from arena_assets.flywheel.arena import Arena, open_arena
from arena_assets.flywheel.weights import models
from arena_assets.models import weights
from arena_assets.models.weights import MissingWeights, base_weights, hub_patterns, present_weights
from arena_assets.training.checkpoints import CheckpointStore, CorruptCheckpoint, Manifest, now

NEEDED = [
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "chat_template.jinja"),
    *("model-00001-of-00002.safetensors", "model.safetensors.index.json", "tokenizer.model"),
    *("merges.txt", "vocab.txt", "qwen.tiktoken", "spiece.model", "source.spm", "vocab.bpe"),
    *("bpe.codes", "additional_chat_templates/tool_use.jinja"),
]
CODE = ["modeling_own.py", "configuration_own.py", "tokenization_own.py"]
NEVER = [
    *("pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "consolidated.00.pth", "model.pt"),
    *("training_args.bin", "optimizer.pt", "tokenizer.pkl", "tokenizer.pickle", "model.ckpt"),
    *("tf_model.h5", "flax_model.msgpack", "model.onnx", "model.gguf", "tokenizer.bin"),
    *("README.md", "model.joblib", "weights.npz", "run.sh", "model.pt2"),
]


@pytest.mark.parametrize("trusted", [False, True])
def test_a_tokenizer_of_any_kind_is_fetched_and_pickles_never(trusted):
    there = [*NEEDED, *CODE, *NEVER]
    fetched = set(filter_repo_objects(there, allow_patterns=hub_patterns(trusted)))
    assert fetched == {*NEEDED, *(CODE if trusted else [])}


def test_a_repository_that_cannot_be_had_is_told_in_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingWeights, match=r"models\.m\.hub: no/such was not fetched: "):
        base_weights(ModelSettings(hub="no/such"), tmp_path, "m")
    with pytest.raises(MissingWeights, match=r"models\.m\.hub: a/b/c was not fetched: "):
        base_weights(ModelSettings(hub="a/b/c"), tmp_path, "m")


def test_weights_of_another_version_of_a_package_are_converted_anew(tmp_path, monkeypatch):
    """And the table models is out of date until they are: see `origins`."""
    model, installed = ModelSettings(package="llm-some"), ["1.0"]
    monkeypatch.setattr(weights.metadata, "version", lambda package: installed[0])
    monkeypatch.setattr(weights, "weights_here", lambda *_: tmp_path / f"{installed[0]}.gguf")

    def convert(gguf, folder, version):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_text(gguf.name, "utf-8")
        (folder / weights._PACKAGED).write_text(version, "utf-8")

    monkeypatch.setattr(weights, "_convert_gguf", convert)
    for version, times in (("1.0", 2), ("2.0", 2), ("1.0", 1)):
        installed[0] = version
        for _ in range(times):
            folder = base_weights(model, tmp_path / "cache", "m")
            assert (folder / "model.safetensors").read_text("utf-8") == f"{version}.gguf"
        assert weights.package_version(model) == version
    assert weights.package_version(ModelSettings(path="m")) is None


def test_weights_are_looked_for_where_the_workspace_is_now(tmp_path, monkeypatch):
    assert present_weights(ModelSettings(package="p"), tmp_path, "m", "/old/m") == tmp_path / "m"
    assert present_weights(ModelSettings(path="/w/7b"), tmp_path, "m", "/old/7b") == Path("/w/7b")
    assert present_weights(ModelSettings(hub="a/b"), tmp_path, "m", "/hub/ab") == Path("/hub/ab")
    monkeypatch.chdir(tmp_path)
    resource = Arena(open_arena().profile_path, str(tmp_path / "lake"))
    own = resource.profile.models["tiny"].path
    row = {"name": "tiny", "origin": own, "path": "/where/it/was", "digest": "d"}
    resource.lake.write("models", [row])
    assert models(resource)["tiny"].path == Path(own)


def manifest(**changes) -> dict:
    texts = ("round", "stage", "digest", "parent", "parent_digest", "training_set_digest")
    values = dict.fromkeys((*texts, "fingerprint", "dtype", "run_id"), "x")
    values |= {"config": {}, "versions": {}, "metrics": {}, "created_at": now().isoformat()}
    return values | changes


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (json.dumps(manifest(parentt="x")), "parentt: unknown key (did you mean parent? valid"),
        (json.dumps({k: v for k, v in manifest().items() if k != "stage"}), "stage: Field requi"),
        (json.dumps(manifest(created_at="soon")), "created_at: Input should be a valid datetime"),
        (json.dumps(manifest())[:40], "manifest: Invalid JSON"),
        ("", "manifest: Invalid JSON"),
        (b"\xff\xfe\x00", "manifest: Invalid JSON"),
        ("[]", "manifest: Input should be an object"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_told_in_a_sentence(tmp_path, content, told):
    store = CheckpointStore(tmp_path)
    place = store.path("i01.1-sft") / "manifest.json"
    place.parent.mkdir()
    place.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CorruptCheckpoint) as refused:
        store.manifest("i01.1-sft")
    message = str(refused.value)
    assert message.startswith(f"{place}: {told}") and "\n" not in message
    assert "materialize checkpoint i01.1-sft again" in message
    whole = manifest()
    place.write_text(json.dumps(whole), "utf-8")
    assert store.manifest("i01.1-sft") == Manifest.model_validate(whole)
