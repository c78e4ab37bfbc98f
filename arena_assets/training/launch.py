"""Starts a job's processes on one node: `python -m arena_assets.training.launch JOB.json`.

`accelerate launch` does the work. Here it is told what the profile says and, where there are
several nodes, which of them this one is: the same command is started on each.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from arena_assets.config.contents import sharding
from arena_assets.config.places import resolve
from arena_assets.training.failures import STOPPED
from arena_assets.training.job import Job
from arena_assets.training.ranks import end_with_the_run

RANKS = ("MACHINE_RANK", "SLURM_NODEID")  # where the number of a node is looked for


class CannotLaunch(ValueError):
    """The processes of a job cannot be started as the profile says."""


def arguments(job: Job, environment: Mapping[str, str]) -> list[str]:
    """What `accelerate launch` is told for this node, without what it shall run.

    Raises CannotLaunch where the environment does not say which node this is, or where one process
    alone would read the reference of DPO or RL, or an adapter could not be taken out of ZeRO-3.
    """
    training = job.training
    file = resolve(training.accelerate)
    _refuse_lazy_references(job, file)
    _refuse_adapters_in_zero3(job, file)
    told = {
        "config_file": file,
        "num_processes": training.processes * training.nodes,
        "num_machines": training.nodes,
        "mixed_precision": "bf16" if training.dtype == "bfloat16" else "no",
        "dynamo_backend": "no",
        "num_cpu_threads_per_process": max(1, (os.cpu_count() or 1) // training.processes),
        "machine_rank": 0,
        "main_process_port": 0,  # any that is free
    }
    if training.nodes > 1:
        rank = next((environment[name] for name in RANKS if environment.get(name)), None)
        if rank is None or not environment.get("MASTER_ADDR"):
            raise CannotLaunch(
                f"training.nodes is {training.nodes}, but the environment does not say "
                + ("where the first node is (MASTER_ADDR)" if rank else "which node this is "
                f"({' or '.join(RANKS)}); let training.launcher start the command on every node")
            )  # fmt: skip
        told |= {"machine_rank": rank, "main_process_ip": environment["MASTER_ADDR"]}
        told |= {"main_process_port": environment.get("MASTER_PORT", "29500")}
    options = [word for name, value in told.items() for word in (f"--{name}", str(value))]
    return [*options, "--same_network"]


def _refuse_lazy_references(job: Job, file: Path) -> None:
    shared = sharding(str(file))
    fsdp = shared.get("fsdp_config") if isinstance(shared, dict) else None
    lazy = fsdp and fsdp.get("fsdp_cpu_ram_efficient_loading", "true").lower() == "true"
    if lazy and job.stage != "sft":
        raise CannotLaunch(
            f"{file}: fsdp_cpu_ram_efficient_loading has to be false for {job.stage}: with it only "
            "the first process reads the reference and reward models, the others take what is there"
        )


def _refuse_adapters_in_zero3(job: Job, file: Path) -> None:
    """DeepSpeed gives the whole of no weight that is frozen, and the first process alone merges."""
    shared = sharding(str(file))
    zero = shared.get("deepspeed_config") if isinstance(shared, dict) else None
    if job.training.lora and zero and zero.get("zero_stage") == "3":
        raise CannotLaunch(
            f"{file}: ZeRO-3 does not go with training.lora: set training.accelerate to "
            "profiles/accelerate/fsdp2.yaml, or to ddp.yaml where the base fits a GPU"
        )


def main() -> None:
    end_with_the_run()
    os.environ.setdefault("LOGLEVEL", "CRITICAL")  # of torch's launcher, whose report is a screen
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    path = sys.argv[1]
    job = Job.read(Path(path))
    try:
        words = arguments(job, os.environ)
        launched = [*words, "--module", "arena_assets.training", path]
        launch_command(launch_command_parser().parse_args(launched))
    except CannotLaunch as error:
        sys.exit(f"{STOPPED}{error}")
    except (ValueError, yaml.YAMLError) as error:  # of accelerate, about its file
        said = " ".join(str(error).split())
        sys.exit(f"{STOPPED}training.accelerate: {job.training.accelerate}: {said}")
    except ChildFailedError:  # which has said why
        sys.exit(1)


if __name__ == "__main__":
    main()
