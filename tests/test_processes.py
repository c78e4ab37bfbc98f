"""Several processes train as one would: the same rows a step, the same loss, whole weights.

Two processes on a CPU (gloo) stand for GPUs. Losses are the same within 1e-5: sums of floats in
another order.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import PROJECT, TINY_PROFILE
from hypothesis import given, settings
from hypothesis import strategies as st
from test_training_process import processes, wait_until

from arena_assets.cli import doctor
from arena_assets.config.places import resolve
from arena_assets.config.profile import load_profile
from arena_assets.config.settings_files import ProfileError
from arena_assets.config.training import Training, passes
from arena_assets.lake.tables import MESSAGES
from arena_assets.training.job import Job
from arena_assets.training.launch import CannotLaunch, arguments
from arena_assets.training.process import TrainingFailed, run_job
from arena_assets.training.summaries import read_metrics

SHARDED = "profiles/accelerate/fsdp2.yaml"
STAGE = {"epochs": 2, "batch": 8, "device_batch": 2, "learning_rate": 1e-4, "max_length": 256}
TRAINING = {
    "dtype": "float32",
    "sft": STAGE | {"learning_rate": 1e-3},
    "dpo": STAGE | {"beta": 0.3},
    "reward_model": STAGE,
    "rl": STAGE | {"kl_coefficient": 0.1, "completions": 4, "max_completion": 8, "max_steps": 3},
}

# --- how many rows a step sees


@given(st.integers(1, 600), st.integers(1, 40), st.integers(1, 64))
@settings(max_examples=200, deadline=None)
def test_a_step_sees_the_batch_on_any_number_of_processes_or_is_refused(batch, device, count):
    try:
        assert passes(batch, device, count) * device * count == batch
    except ValueError as refused:
        told = str(refused)
        assert batch % (device * count)
        nearest = re.findall(r"set batch to (\d+)(?: or (\d+))?", told)[0]
        for better in filter(None, nearest):
            assert passes(int(better), device, count)
            assert abs(int(better) - batch) < device * count
        if other := re.search(r"device_batch to (\d+)$", told):
            assert passes(batch, int(other[1]), count)
        else:
            assert batch % count


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"processes": 8, "sft": {"batch": 100, "device_batch": 2}},
            "training.sft: batch 100 is no multiple of device_batch 2 x 8 processes = 16: "
            "set batch to 96 or 112",
        ),
        (
            {"processes": 4, "nodes": 2, "dpo": {"batch": 64, "device_batch": 16}},
            "training.dpo: batch 64 is no multiple of device_batch 16 x 8 processes = 128: "
            "set batch to 128, or device_batch to 8",
        ),
        (
            {"rl": {"batch": 18, "device_batch": 6, "completions": 4}},
            "training.rl: batch 18, which counts completions, is no multiple of completions 4: "
            "set batch to 16 or 20",
        ),
        ({"processes": 0}, "training.processes: Input should be greater than 0"),
        ({"accelerate": "mine.yaml"}, "training.accelerate: mine.yaml: no such file"),
    ],
)
def test_what_processes_cannot_share_is_refused_with_what_would_be_right(tmp_path, change, told):
    profile = yaml.safe_load(yaml.safe_dump(TINY_PROFILE))
    for name, value in change.items():
        given = profile["training"]
        given[name] = given[name] | value if isinstance(value, dict) else value
    (tmp_path / "arena.yaml").write_text(yaml.safe_dump(profile), "utf-8")
    with pytest.raises(ProfileError, match=re.escape(told)):
        load_profile(tmp_path / "arena.yaml")


def test_the_paper_s_step_stays_what_it_is_on_eight_gpus():
    training = load_profile(PROJECT / "profiles/paper-7b.yaml").training
    assert (training.processes, training.sft.batch, training.sft.device_batch) == (8, 128, 2)
    assert passes(training.sft.batch, training.sft.device_batch, training.processes) == 8


@given(
    rows=st.integers(1, 70),
    passes_each=st.integers(1, 3),
    device=st.integers(1, 4),
    count=st.integers(1, 4),
    grouped=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_every_step_has_the_same_rows_on_any_number_of_devices(
    rows, passes_each, device, count, grouped
):
    from accelerate.data_loader import BatchSamplerShard
    from torch.utils.data import BatchSampler

    from arena_assets.training.steps import StepSampler

    batch = passes_each * device * count
    lengths = [n * 7 % 13 for n in range(rows)] if grouped else None
    sampler = StepSampler(rows, batch, 5, lengths, lambda: 1)
    order = list(sampler)
    assert len(order) == len(sampler) and len(order) % batch == 0
    assert set(order) == set(range(rows)), "every row is learned in every epoch"
    assert len(order) - rows < batch
    if rows >= batch:
        steps = [order[n : n + batch] for n in range(0, len(order), batch)]
        assert all(len(set(step)) == batch for step in steps), "and none twice in a step"
    shards = [
        list(BatchSamplerShard(BatchSampler(sampler, device, False), count, rank))
        for rank in range(count)
    ]
    for step in range(len(order) // batch):
        mine = slice(step * passes_each, (step + 1) * passes_each)
        seen = [row for shard in shards for part in shard[mine] for row in part]
        assert sorted(seen) == sorted(order[step * batch : (step + 1) * batch])
    assert rows < 30 or list(StepSampler(rows, batch, 5, lengths, lambda: 2)) != order


@pytest.mark.slow
@pytest.mark.parametrize(("behind", "epoch"), [(0, 0), (0.5, 0), (1.0, 1), (1.33, 1), (2.0, 2)])
def test_who_goes_on_from_a_saved_step_has_the_order_of_that_epoch(behind, epoch):
    from arena_assets.training.steps import StepSampler, WholeSteps

    class Trainer(WholeSteps):
        state = SimpleNamespace(epoch=behind)
        train_dataset = range(10)
        args = SimpleNamespace(
            gradient_accumulation_steps=2,
            world_size=2,
            train_batch_size=1,
            train_sampling_strategy="random",
            seed=7,
        )

    expected = StepSampler(10, 4, 7, None, lambda: epoch)
    assert list(Trainer()._get_train_sampler()) == list(expected)


def test_the_doctor_says_what_processes_lack(tmp_path, tiny_profile, monkeypatch):
    import torch

    profile = yaml.safe_load(tiny_profile.read_text("utf-8"))
    for stage in ("sft", "dpo", "reward_model", "rl"):
        profile["training"][stage]["device_batch"] = 2

    def found(gpus: int, **training: Any) -> list[tuple[str, str]]:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        (tmp_path / "arena.yaml").write_text(
            yaml.safe_dump(profile | {"training": profile["training"] | training}), "utf-8"
        )
        findings = doctor._processes(load_profile(tmp_path / "arena.yaml"))
        return [(finding.state, finding.found) for finding in findings]

    two = "2 on each of 1 nodes"
    assert found(0) == []
    assert found(0, processes=2) == [("slow", f"{two}, no GPU here")]
    assert found(1, processes=2) == [("fails", f"{two}, 1 GPUs here")]
    assert found(2, processes=2) == [("ok", f"{two}, profiles/accelerate/ddp.yaml")]
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: None)
    zero = "profiles/accelerate/zero3.yaml"
    assert found(2, processes=2, accelerate=zero) == [("fails", f"{two}, without DeepSpeed")]


# --- what accelerate is told


def job(folder: Path, stage: str = "sft", **training: Any) -> Job:
    return Job(
        stage=stage,
        model=folder / "model",
        training_set=folder / "rows.parquet",
        output=folder / stage,
        training=Training.model_validate(TRAINING | training),
        seed=3,
    )


def told(*words: str) -> dict[str, str]:
    return dict(zip(words[:-1:2], words[1::2], strict=True))


def test_one_node_needs_nothing_of_its_environment(tmp_path):
    given = told(*arguments(job(tmp_path, processes=4, dtype="bfloat16"), {}))
    assert (given["--num_processes"], given["--num_machines"]) == ("4", "1")
    assert (given["--mixed_precision"], given["--main_process_port"]) == ("bf16", "0")
    assert given["--config_file"] == str(PROJECT / "profiles/accelerate/ddp.yaml")


@pytest.mark.parametrize("rank", ["MACHINE_RANK", "SLURM_NODEID"])
def test_a_node_learns_its_number_from_where_it_is_started(tmp_path, rank):
    several = job(tmp_path, processes=2, nodes=2)
    given = told(*arguments(several, {rank: "1", "MASTER_ADDR": "node0"}))
    assert (given["--num_processes"], given["--num_machines"]) == ("4", "2")
    assert (given["--machine_rank"], given["--main_process_ip"]) == ("1", "node0")
    assert given["--main_process_port"] == "29500"
    with pytest.raises(CannotLaunch, match=r"which node this is \(MACHINE_RANK or SLURM_NODEID\)"):
        arguments(several, {"MASTER_ADDR": "node0"})
    with pytest.raises(CannotLaunch, match=r"where the first node is \(MASTER_ADDR\)"):
        arguments(several, {rank: "0"})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp", "fsdp2", "zero3"])
def test_accelerate_takes_the_files_that_come_with_the_program(tmp_path, name):
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    file = f"profiles/accelerate/{name}.yaml"
    load_config_from_file(str(resolve(file)))  # refuses unknown keys
    words = arguments(job(tmp_path, processes=4, accelerate=file, dtype="bfloat16"), {})
    given = launch_command_parser().parse_args([*words, "--module", "m", "job.json"])
    found, _, _ = _validate_launch_command(given)
    assert (found.multi_gpu, found.use_fsdp, found.use_deepspeed) == (
        *(name == "ddp", name == "fsdp2", name == "zero3"),
    )
    assert (found.num_processes, found.mixed_precision) == (4, "bf16")
    if name == "fsdp2":
        assert (found.fsdp_version, found.fsdp_state_dict_type) == (2, "FULL_STATE_DICT")
        assert found.fsdp_cpu_ram_efficient_loading is False
    if name == "zero3":
        assert (found.zero_stage, found.zero3_init_flag) == (3, True)


def test_a_reference_that_only_one_process_would_read_is_refused(tmp_path):
    lazy = tmp_path / "lazy.yaml"
    text = resolve(SHARDED).read_text("utf-8")
    lazy.write_text(text.replace("loading: false", "loading: true"), "utf-8")
    for stage in ("dpo", "rl"):
        with pytest.raises(CannotLaunch, match=f"has to be false for {stage}"):
            arguments(job(tmp_path, stage, processes=2, accelerate=str(lazy)), {})
    assert arguments(job(tmp_path, "sft", processes=2, accelerate=str(lazy)), {})


# --- two processes


@pytest.fixture
def folder(tmp_path, tiny_model) -> Path:
    """A model and rows of all kinds, of unlike lengths, that do not fill the last step."""
    (tmp_path / "model").symlink_to(tiny_model)
    rows = [
        {
            "row_id": f"{kind}{number}",
            "prompt_id": f"p{number}",
            "kind": kind,
            "messages": [
                {"role": "user", "content": f"Add {number} twice." + " Now!" * (number % 5)}
            ],
            "chosen_turns": [f"It is {2 * number}." + " Sure." * (number % 7)],
            "rejected_turns": ["No" + " no" * (number % 4)],
        }
        for kind in ("sft", "preference", "prompt")
        for number in range(22)
    ]
    turns = pa.list_(pa.string())
    texts = dict.fromkeys(("row_id", "prompt_id", "kind"), pa.string())
    columns = texts | {"messages": MESSAGES}
    schema = pa.schema({**columns, "chosen_turns": turns, "rejected_turns": turns})
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "rows.parquet")
    return tmp_path


def trained(given: Job, name: str) -> tuple[Path, list[str]]:
    """The folder that a job left, and what it said."""
    said: list[str] = []
    given = given.model_copy(update={"output": given.output.with_name(name)})
    run_job(given, said.append)
    return given.output, said


def losses(checkpoint: Path) -> dict[str, list[float]]:
    """The loss of every step, by phase."""
    found: dict[str, list[float]] = {}
    for entry in read_metrics(checkpoint):
        if "loss" in entry:
            found.setdefault(entry["phase"], []).append(entry["loss"])
    return found


def furthest(one: Path, other: Path) -> float:
    """The largest difference of any weight of two checkpoints, which have the same names."""
    from safetensors.torch import load_file

    left, right = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert left.keys() == right.keys()
    return max(float((left[n].float() - right[n].float()).abs().max()) for n in left)


def assert_equal(one: Path, two: Path, steps: dict[str, int]) -> None:
    alone, together = losses(one), losses(two)
    assert {phase: len(found) for phase, found in alone.items()} == steps
    for phase, found in alone.items():
        assert together[phase] == pytest.approx(found, abs=1e-5), phase
    assert furthest(one, two) < 1e-3, "a bfloat16's last digit"
    assert (one / "config.json").read_text() == (two / "config.json").read_text()
    assert (one / "rows.json").read_text() == (two / "rows.json").read_text()


@pytest.mark.slow
def test_two_processes_learn_what_one_does(folder):
    one, _ = trained(job(folder), "one")
    two, said = trained(job(folder, processes=2), "two")
    assert_equal(one, two, {"sft": 6})
    assert [line.split(",")[0] for line in said] == [
        "sft: 22 rows",
        *(f"sft: step {n}/6" for n in range(1, 7)),
    ], "the first process speaks for all, and nobody else"


@pytest.mark.drill
@pytest.mark.parametrize("accelerate", ["profiles/accelerate/ddp.yaml", SHARDED])
@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_two_processes_compare_pairs_and_share_out_weights_as_one_has_them(
    folder, stage, accelerate
):
    from transformers import AutoModelForCausalLM

    one, _ = trained(job(folder, stage), "one")
    two, _ = trained(job(folder, stage, processes=2, accelerate=accelerate), "two")
    assert_equal(one, two, {stage: 6})
    parameters = AutoModelForCausalLM.from_pretrained(two).num_parameters()
    assert parameters == AutoModelForCausalLM.from_pretrained(folder / "model").num_parameters()


# draws that depend on the place of a completion among those of all processes, not on a generator
DICE = """
import os
import torch
calls = 0
def drawn(probabilities, num_samples):
    global calls
    rows = len(probabilities)
    place = int(os.environ.get("RANK", "0")) * rows + torch.arange(rows) + 17 * calls
    calls += 1
    chance = (torch.sin(place * 12.9898) * 43758.5453).frac().abs()
    return (probabilities.cumsum(-1) < chance[:, None]).sum(-1, keepdim=True)
torch.multinomial = drawn
"""


@pytest.mark.drill
@pytest.mark.parametrize("accelerate", ["profiles/accelerate/ddp.yaml", SHARDED])
@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_two_processes_reinforce_as_one_does_where_the_dice_fall_alike(
    folder, monkeypatch, algorithm, accelerate
):
    """Left alone each process draws its own answers: then steps and prompts are the same only."""
    (folder / "sitecustomize.py").write_text(DICE, "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    rl = TRAINING["rl"] | {"algorithm": algorithm}
    one, _ = trained(job(folder, "rl", rl=rl), "one")
    two, _ = trained(job(folder, "rl", rl=rl, processes=2, accelerate=accelerate), "two")
    assert_equal(one, two, {"reward_model": 6, "rl": 3})
    assert furthest(one / "reward_model", two / "reward_model") < 1e-3
    rewards = [[e["reward"] for e in read_metrics(at) if "reward" in e] for at in (one, two)]
    assert rewards[1] == pytest.approx(rewards[0], abs=1e-4)


@pytest.mark.drill
def test_two_nodes_train_as_one_does(folder):
    """A launcher that starts the command on each node, here both on this machine."""
    known = "MASTER_ADDR=127.0.0.1 MASTER_PORT=29641"
    srun = f'for n in 0 1; do SLURM_NODEID=$n {known} "$0" "$@" & done; wait'
    one, _ = trained(job(folder), "one")
    two, _ = trained(job(folder, nodes=2, launcher=("bash", "-c", srun)), "two")
    assert_equal(one, two, {"sft": 6})
    assert not (two / "job.json").exists()


@pytest.mark.drill
def test_what_no_process_can_learn_is_told_once_and_without_a_trace(folder):
    short = TRAINING["sft"] | {"max_length": 3}
    with pytest.raises(TrainingFailed) as failed:
        run_job(job(folder, sft=short, processes=2), lambda line: None)
    assert str(failed.value).count("can be learned") == 1
    assert "Traceback" not in str(failed.value)


@pytest.mark.slow
def test_a_file_that_accelerate_does_not_take_is_told_in_a_sentence(folder):
    (folder / "mine.yaml").write_text("distributed_type: FSDP\nfsdp_confg: {}\n", "utf-8")
    with pytest.raises(TrainingFailed) as failed:
        run_job(job(folder, processes=2, accelerate=str(folder / "mine.yaml")), lambda line: None)
    assert "mine.yaml" in str(failed.value) and "fsdp_confg" in str(failed.value)
    assert "Traceback" not in str(failed.value)


def ranks(of: Path) -> Iterator[str]:
    """The ranks of the processes that live below a run."""
    for process in processes(of):
        try:
            said = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        yield from (line[5:].decode() for line in said if line.startswith(b"RANK="))


@pytest.mark.parametrize(
    "how",
    [
        signal.SIGKILL,
        *(pytest.param(s, marks=pytest.mark.drill) for s in (signal.SIGTERM, signal.SIGINT)),
    ],
)
def test_no_process_of_several_outlives_its_run(tmp_path, how):
    hanging = tmp_path / "modules" / "datasets"  # what training imports and accelerate does not
    temporary = tmp_path / "temporary"
    for new in (hanging, temporary):
        new.mkdir(parents=True)
    (hanging / "__init__.py").write_text("import time\ntime.sleep(600)", "utf-8")
    job(tmp_path, processes=2).write(tmp_path / "given.json")
    code = (
        "from pathlib import Path; from arena_assets.training.process import run_job; "
        "from arena_assets.training.job import Job; "
        f"run_job(Job.read(Path({str(tmp_path / 'given.json')!r})))"
    )
    search = os.pathsep.join([str(PROJECT), str(hanging.parent)])
    run = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": search},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert wait_until(lambda: {*ranks(temporary)} == {"0", "1"}, 120)
        run.send_signal(how)
        run.wait(timeout=20)
        assert wait_until(lambda: not processes(temporary), 20), processes(temporary)
    finally:
        run.kill()


@pytest.mark.slow
def test_more_processes_than_the_profile_says_see_the_same_rows_or_none(tmp_path, monkeypatch):
    """Somebody who starts a job's processes by hand may start another number of them."""
    from arena_assets.training.fitting import shared_arguments

    given = job(tmp_path)
    for count, passes_each in (("1", 4), ("4", 1)):
        monkeypatch.setenv("WORLD_SIZE", count)
        shared = shared_arguments(given, given.training.sft, "sft")
        assert shared["gradient_accumulation_steps"] == passes_each
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="no multiple of device_batch 2 x 3 processes"):
        shared_arguments(given, given.training.sft, "sft")
