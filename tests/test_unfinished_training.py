"""What a training that did not finish leaves behind, and who goes on with it."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from test_checkpoints import manifest

from arena_assets.lake.durable import claim
from arena_assets.training.checkpoints import CheckpointStore
from arena_assets.training.progress import (
    PROGRESS,
    go_back,
    keep_step,
    lock_of,
    note,
    saved_step,
    step_folder,
)

ROUND = "i01.1-sft"


def save(output: Path, step: int, phase: str = "sft") -> Path:
    """A step as transformers would have written it."""
    folder = step_folder(output, phase, step)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "optimizer.pt").write_bytes(b"moments")
    keep_step(output, phase, step, seconds=1.5 * step)
    return folder


def die(store: CheckpointStore) -> None:
    """A process that ends lets go of its locks."""
    for held in store._claims.values():
        held.close()


def test_a_run_takes_over_what_a_dead_one_was_making_of_the_same_things(tmp_path):
    dead = CheckpointStore(tmp_path)
    begun = dead.scratch(ROUND, "rows A, seed 1")
    save(begun, 20)
    other = CheckpointStore(tmp_path)
    its_own = other.scratch(ROUND, "rows A, seed 1")
    assert its_own != begun, "it lives still"
    other.discard(its_own)
    die(dead)
    next_one = CheckpointStore(tmp_path)
    assert next_one.scratch(ROUND, "rows A, seed 1") == begun
    assert saved_step(begun, "sft").step == 20 and saved_step(begun, "sft").seconds == 30


def test_what_was_begun_from_other_things_is_removed(tmp_path):
    dead = CheckpointStore(tmp_path)
    begun = dead.scratch(ROUND, "rows A, seed 1")
    save(begun, 20)
    die(dead)
    fresh = CheckpointStore(tmp_path).scratch(ROUND, "rows A, seed 2")
    assert fresh != begun and not begun.exists()
    assert saved_step(fresh, "sft") is None


def test_a_folder_is_taken_over_only_when_the_processes_that_trained_into_it_have_ended(tmp_path):
    dead = CheckpointStore(tmp_path)
    begun = dead.scratch(ROUND, "A")
    save(begun, 20)
    lingering = claim(lock_of(begun), shared=True)  # a worker outlives its run by a moment
    die(dead)
    taken: list[Path] = []
    heir = threading.Thread(
        target=lambda: taken.append(CheckpointStore(tmp_path).scratch(ROUND, "A"))
    )
    heir.start()
    heir.join(0.3)
    assert not taken
    lingering.close()
    heir.join(10)
    assert taken == [begun]


def test_what_failed_is_kept_only_where_there_is_a_step_to_go_on_from(tmp_path):
    store = CheckpointStore(tmp_path)
    empty = store.scratch(ROUND, "A")
    store.release(empty)
    assert not empty.exists()
    begun = store.scratch(ROUND, "A")
    save(begun, 20)
    half = step_folder(begun, "sft", 30)  # the disk was full before the optimizer was there
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"wei")
    store.release(begun)
    assert [path.name for path in half.parent.iterdir()] == ["checkpoint-20"]
    assert CheckpointStore(tmp_path).scratch(ROUND, "A") == begun


def test_only_the_last_step_stays(tmp_path):
    for step in (10, 20, 30):
        save(tmp_path, step)
    (folder,) = (tmp_path / PROGRESS / "sft").iterdir()
    assert folder.name == "checkpoint-30"


def test_a_step_that_lost_bytes_is_no_step(tmp_path):
    folder = save(tmp_path, 10)
    assert saved_step(tmp_path, "sft").step == 10
    (folder / "optimizer.pt").write_bytes(b"")
    assert saved_step(tmp_path, "sft") is None


def test_what_was_logged_after_the_saved_step_is_forgotten(tmp_path):
    for phase, steps in {"reward_model": 2, "rl": 4}.items():
        for step in range(1, steps + 1):
            note(tmp_path, {"phase": phase, "step": step, "loss": 0.5})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"phase": "rl", "st')  # the kill came while it was written
    go_back(tmp_path, "rl", 3)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["phase"], line["step"]) for line in lines] == [
        *(("reward_model", 1), ("reward_model", 2)),
        *(("rl", 1), ("rl", 2), ("rl", 3)),
    ]


def test_a_checkpoint_holds_nothing_of_the_way_to_it(tmp_path):
    store = CheckpointStore(tmp_path)
    begun = store.scratch(ROUND, "A")
    save(begun, 20)
    (begun / "model.safetensors").write_bytes(b"w")
    place = store.commit(begun, manifest(begun))
    assert {path.name for path in place.rglob("*")} == {
        *("model.safetensors", "manifest.json", ".verified.json")
    }


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_step_with_weights_that_are_no_numbers_is_never_gone_on_from(tmp_path, poison):
    from types import SimpleNamespace

    import torch

    from arena_assets.training.failures import NotFinite
    from arena_assets.training.saving import StepSaver

    model = torch.nn.Linear(2, 2)
    with torch.no_grad():
        model.weight[0, 1] = poison
    step_folder(tmp_path, "dpo", 7).mkdir(parents=True)
    saver = StepSaver(tmp_path, "dpo", 0, None)
    state = SimpleNamespace(global_step=7, is_world_process_zero=True)
    with pytest.raises(NotFinite, match=r"dpo: a weight is nan at step 7"):
        saver.on_save(SimpleNamespace(world_size=1), state, None, model=model)
    assert saved_step(tmp_path, "dpo") is None
