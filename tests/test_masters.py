"""Float32 masters lie beside the bfloat16 copy of a checkpoint; training goes on from them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import TINY_PROFILE
from test_checkpoints import digest_of

from arena_assets.config.training import Training
from arena_assets.lake.tables import MESSAGES
from arena_assets.training.job import Job

# as profiles/paper-7b.yaml has them
RATES = {"sft": 5e-6, "dpo": 5e-7, "reward_model": 1e-6, "rl": 1e-7}
_TEXTS = ("row_id", "kind", "prompt_id", "chosen", "rejected")


def write_rows(path: Path, count: int = 16) -> Path:
    """A training set of sums with rows for each stage."""
    rows = []
    for number in range(count):
        known = {
            "prompt_id": f"p{number}",
            "messages": [{"role": "user", "content": f"What is {number} and {number}?"}],
            "chosen": f"It is {2 * number}.",
            "chosen_turns": [f"It is {2 * number}."],
        }
        rows.append(known | {"row_id": f"s{number}", "kind": "sft"})
        rejected = {"rejected": "No idea", "rejected_turns": ["No idea"]}
        rows.append(known | rejected | {"row_id": f"d{number}", "kind": "preference"})
        rows.append(known | {"row_id": f"p{number}", "kind": "prompt"})
    turns = pa.list_(pa.string())
    schema = pa.schema(
        [(name, pa.string()) for name in _TEXTS]
        + [("messages", MESSAGES), ("chosen_turns", turns), ("rejected_turns", turns)]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path


def settings(**changes) -> Training:
    """The tests' training, with changes to the whole (dtype="bfloat16") or a stage (sft={...})."""
    given = dict(TINY_PROFILE["training"])
    for name, value in changes.items():
        given[name] = given[name] | value if isinstance(value, dict) else value
    return Training.model_validate(given)


def job_of(stage: str, model: Path, rows: Path, output: Path, training: Training) -> Job:
    return Job(
        stage=stage, model=model, training_set=rows, output=output, training=training, seed=1
    )


def tensors(folder: Path) -> dict:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_a_file_in_a_sub_folder_counts_for_a_models_digest(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"w")
    flat = digest_of(tmp_path)
    deep = tmp_path / "masters" / "parts"
    deep.mkdir(parents=True)
    (deep / "model.safetensors").write_bytes(b"one")
    one = digest_of(tmp_path)
    assert one != flat
    (deep / "model.safetensors").write_bytes(b"two")
    two = digest_of(tmp_path)
    assert two not in (one, flat)
    (deep / "manifest.json").write_text("{}")  # only the checkpoint's own is no part of it
    assert digest_of(tmp_path) != two


def test_notes_of_a_download_are_no_part_of_a_models_digest(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"w")
    flat = digest_of(tmp_path)
    (tmp_path / ".cache" / "huggingface").mkdir(parents=True)
    (tmp_path / ".cache" / "huggingface" / "model.safetensors.lock").write_text("")
    assert digest_of(tmp_path) == flat


def test_the_copy_is_the_masters_rounded(tmp_path):
    import torch
    from safetensors.torch import save_file

    from arena_assets.training.masters import copy_in_bfloat16

    masters, folder = tmp_path / "m", tmp_path / "copy"
    masters.mkdir()
    folder.mkdir()
    kept = {"a": torch.tensor([1.0, 1.001, 1.005]), "ids": torch.tensor([7])}
    save_file(kept, masters / "model.safetensors", {"format": "pt"})
    config = {"dtype": "float32", "text_config": {"dtype": "float32"}, "vocab_size": 3}
    (masters / "config.json").write_text(json.dumps(config))
    copy_in_bfloat16(masters, folder)
    found = tensors(folder)
    assert found["a"].dtype == torch.bfloat16 and found["a"].tolist() == [1.0, 1.0, 1.0078125]
    assert found["ids"].tolist() == [7]
    said = json.loads((folder / "config.json").read_text())
    assert said == {
        "dtype": "bfloat16",
        "text_config": {"dtype": "bfloat16"},
        "vocab_size": 3,
    }


def test_shares_that_moved_are_told_by_type(tmp_path):
    import torch
    from safetensors.torch import save_file

    from arena_assets.training.masters import moved

    for name, values in {
        "parent": [1.0, 1.0, 1.0, 1.0],
        "child": [1.0, 1.0001, 1.0001, 1.5],
    }.items():
        (tmp_path / name).mkdir()
        save_file({"w": torch.tensor(values)}, tmp_path / name / "model.safetensors")
    assert moved(tmp_path / "parent", tmp_path / "child") == {"float32": 0.75, "bfloat16": 0.25}
    save_file({"other": torch.ones(2)}, tmp_path / "child" / "model.safetensors")
    assert moved(tmp_path / "parent", tmp_path / "child") == {}


@pytest.fixture(scope="module")
def stages(tiny_model, tmp_path_factory) -> dict[str, Path]:
    """Three stages one after the other at the paper's learning rates, each from the one before."""
    from arena_assets.training.trainers import train

    folder = tmp_path_factory.mktemp("stages")
    rows = write_rows(folder / "rows.parquet")
    rates = {name: {"learning_rate": rate} for name, rate in RATES.items()}
    training, parent, made = settings(dtype="bfloat16", **rates), tiny_model, {}
    for stage in ("sft", "dpo", "rl"):
        made[stage] = folder / stage
        train(job_of(stage, parent, rows, made[stage], training))
        parent = made[stage]
    return made


def test_masters_keep_what_each_stage_learned_and_bfloat16_does_not(stages):
    from arena_assets.training.summaries import read_metrics, summary

    shares = {}
    for folder in stages.values():
        shares |= summary(read_metrics(folder))
    told = {
        phase: (shares[f"{phase}_moved_float32"], shares[f"{phase}_moved_bfloat16"])
        for phase in RATES
    }
    for phase, (kept, rounded) in told.items():
        print(f"{phase}: {kept:.1%} of the weights moved in float32, {rounded:.1%} in bfloat16")
    # what tokens are not in any row does not move at all
    assert all(kept > 0.5 for kept, _ in told.values())
    assert told["sft"][1] < 0.2
    assert told["dpo"][1] < 0.05
    assert told["reward_model"][1] < 0.05
    assert told["rl"][1] < 0.01


def test_a_stage_goes_on_from_the_masters_of_the_one_before(stages):
    import torch

    from arena_assets.training.loading import policy

    masters = tensors(stages["sft"] / "masters")
    job = job_of("dpo", stages["sft"], Path("rows"), Path("out"), settings())
    opened = policy(job).state_dict()
    assert all(torch.equal(opened[name], weights) for name, weights in masters.items())
    copy = tensors(stages["sft"])
    assert {weights.dtype for weights in copy.values()} == {torch.bfloat16}
    assert any(not torch.equal(masters[name], copy[name].float()) for name in masters)


@pytest.mark.parametrize(
    ("dtype", "keep", "types", "files"),
    [
        ("bfloat16", False, "bfloat16", 1),
        ("float32", True, "float32", 1),
        ("float32", False, "bfloat16", 1),
    ],
)
def test_weights_are_stored_once_where_one_type_is_all(
    tiny_model, tmp_path, dtype, keep, types, files
):
    from arena_assets.training.fitting import save
    from arena_assets.training.loading import policy

    training = settings(dtype=dtype, keep_masters=keep)
    model = policy(job := job_of("sft", tiny_model, Path("rows"), tmp_path, training))
    save(model, model.state_dict(), tmp_path, job, fights=True)
    assert len(list(tmp_path.rglob("*.safetensors"))) == files
    assert {str(found.dtype) for found in tensors(tmp_path).values()} == {f"torch.{types}"}
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == types
