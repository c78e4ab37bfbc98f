"""A training that cannot go on says why in a sentence, and the next run goes on."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_masters import job_of, settings, tensors, write_rows
from test_training_process import job

from arena_assets.training.failures import STOPPED, explain, killed
from arena_assets.training.process import TrainingFailed, run_job
from arena_assets.training.progress import saved_step


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 2 MiB: the weights of the tests' model and their moments take 2.5 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "arena-tests", str(place)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root may mount a file system")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_is_told_and_the_next_run_goes_on(tiny_model, tmp_path, small_disk):
    from arena_assets.training.trainers import train

    rows = write_rows(tmp_path / "rows.parquet")
    given = job_of("sft", tiny_model, rows, small_disk / "out", settings(save_every=0))
    with pytest.raises(Exception, match=r".") as stopped:
        train(given)
    said = explain(stopped.value, given)
    assert said and said.startswith(f"the disk of {small_disk} is full (")
    assert "make room" in said and "goes on" in said
    assert saved_step(given.output, "sft") is None, "half a step is no step"
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    train(given)
    assert tensors(given.output)


def test_a_loss_that_is_no_number_ends_training_at_its_step(tiny_model, tmp_path):
    from arena_assets.training.failures import NotFinite
    from arena_assets.training.summaries import read_metrics
    from arena_assets.training.trainers import train

    rows = write_rows(tmp_path / "rows.parquet", 24)
    training = settings(sft={"learning_rate": 1e37}, save_every=0)
    given = job_of("sft", tiny_model, rows, tmp_path / "out", training)
    with pytest.raises(NotFinite, match=r"sft: the (loss|grad_norm) is (nan|inf) at step [23]"):
        train(given)
    assert not list(given.output.glob("*.safetensors"))
    logged = [entry["loss"] for entry in read_metrics(given.output) if "loss" in entry]
    assert logged and all(0 < loss < 1e30 for loss in logged)


def test_a_sentence_names_the_settings_that_help(tmp_path):
    from arena_assets.training.failures import NotFinite

    said = explain(NotFinite("dpo", 17, "the loss", float("nan")), job(tmp_path, ()))
    assert said is not None and said.startswith("dpo: the loss is nan at step 17")
    assert "training.dpo.learning_rate" in said and "training.dpo.warmup" in said


def errors_of_memory() -> list[BaseException]:
    import torch

    found: list[BaseException] = [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")]
    try:
        torch.empty(2**60)
    except RuntimeError as error:
        found.append(error)
    return found


def test_out_of_memory_is_told_with_the_settings_that_need_less(tmp_path):
    given = job(tmp_path, ())
    errors = errors_of_memory()
    assert len(errors) == 3
    for error in errors:
        said = explain(error, given)
        assert said is not None and "training.sft.device_batch (now 8)" in said
        assert "max_length (now 4096)" in said and "gradient_checkpointing: true" in said
    both = explain(errors[0], given.model_copy(update={"stage": "rl"}))
    assert both is not None and "training.reward_model.device_batch" in both
    assert "training.rl.device_batch" in both


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("[enforce fail] . PytorchStreamWriter failed writing file data/3"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
    ],
)
def test_a_full_disk_is_known_by_whoever_met_it(tmp_path, error):
    wrapped = RuntimeError("while saving")
    wrapped.__cause__ = error
    for one in (error, wrapped):
        assert "is full" in (explain(one, job(tmp_path, ())) or "")


def test_other_errors_are_left_as_they_are(tmp_path):
    assert explain(KeyError("input_ids"), job(tmp_path, ())) is None
    assert explain(OSError(errno.EACCES, "Permission denied"), job(tmp_path, ())) is None
    assert killed(1, ["KeyError: input_ids"], job(tmp_path, ())) is None


@pytest.mark.parametrize(
    "script",
    ["kill -9 $$", "exit 137", "echo '  exitcode  : -9 (pid: 12)'; exit 1"],
    ids=["killed itself", "a shell's child was", "torchrun's worker was"],
)
def test_a_process_that_the_system_killed_is_told_as_out_of_memory(tmp_path, script):
    with pytest.raises(
        TrainingFailed, match=r"killed \(signal 9\).*device_batch \(now 8\)"
    ) as told:
        run_job(job(tmp_path, ("bash", "-c", script)), lambda line: None)
    assert "\n" not in str(told.value)


def test_the_sentence_is_all_that_is_told_whatever_a_launcher_says_after_it(tmp_path):
    noisy = f"echo '{STOPPED}the disk is full'; seq 1 100; exit 1"
    with pytest.raises(TrainingFailed) as told:
        run_job(job(tmp_path, ("bash", "-c", noisy)), lambda line: None)
    assert str(told.value) == "the disk is full"


@pytest.mark.drill
def test_a_process_without_memory_ends_with_a_sentence(tiny_model, tmp_path):
    """The real thing: the address space of the training process is limited."""
    limited = ("bash", "-c", 'ulimit -v 3500000; exec "$0" "$@"')
    rows = write_rows(tmp_path / "rows.parquet", 512)
    big = {"batch": 512, "device_batch": 512}
    training = settings(launcher=limited, sft=big)
    given = job_of("sft", tiny_model, rows, tmp_path / "out", training)
    with pytest.raises(TrainingFailed, match=r"memory.*training.sft.device_batch \(now 512\)"):
        run_job(given, print)
