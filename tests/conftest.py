"""What all tests share: a small arena of their own, so that no test touches the project's lake.

The code location is loaded with ARENA_PROFILE as it is then, so the profile is chosen here, before.
Its models are tiny, with random weights and a tokenizer trained on the seed prompts: real ones for
vLLM and TRL, made in seconds by the `tiny_model` fixture.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
import yaml
from pace import is_slow
from xdist.scheduler import LoadFileScheduling

from arena_assets.config.models import Endpoint
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.made_from import OF_ROUND, Making
from arena_assets.lake.lake import write_atomically

PROJECT = Path(__file__).resolve().parents[1]
WORK = Path(tempfile.mkdtemp(prefix="arena-tests-"))
TINY_MODEL = WORK / "tiny-llama"

TINY_PROFILE = {
    "name": "tiny",
    "seed": 3,
    "models": {"tiny": {"path": str(TINY_MODEL)}},
    "target": {"model": "tiny", "sampling": {"max_tokens": 12}},
    "opponents": [
        {"name": "reference", "recorded": "data/seed/responses.jsonl"},
        {
            "name": "best-of-2",
            "model": "tiny",
            "best_of": 2,
            "sampling": {"temperature": 1.0, "max_tokens": 12},
        },
    ],
    "judge": {"kind": "verifier"},
    "shadow_judges": [
        {
            "battles": 4,
            "judge": {
                "kind": "llm",
                "name": "tiny-judge",
                "model": "tiny",
                "attempts": 1,
                "self_judging": "allow",
                "sampling": {"max_tokens": 48},
            },
        }
    ],
    "prompts": {
        "sources": [{"name": "seed", "path": str(WORK / "prompts.jsonl")}],
        "decontamination": {"overlap": 0.8, "similarity": 0.99},
        "slices": {"names": ["D1", "D2", "D3"], "rows": 16},
        "testset": {
            "clusters": 8,
            "diverse_per_cluster": 2,
            "hard": 4,
            "constrained_only": True,
        },
    },
    "rounds": {
        "i01.1-sft": {"slice": "D1", "minimum_gap": 3.0},
        "i01.2-dpo": {"slice": "D2", "minimum_gap": 2.0},
        "i01.3-rl": {"slice": "D3", "minimum_gap": 2.0},
    },
    "training": {
        "dtype": "float32",
        "sft": {"epochs": 1, "learning_rate": 1e-3, "batch": 8, "device_batch": 8},
        "dpo": {"epochs": 1, "learning_rate": 1e-4, "batch": 8, "device_batch": 8, "beta": 0.3},
        "reward_model": {"epochs": 1, "learning_rate": 1e-4, "batch": 8, "device_batch": 8},
        "rl": {
            "epochs": 1,
            "learning_rate": 1e-4,
            "batch": 8,
            "device_batch": 8,
            "kl_coefficient": 0.04,
            "completions": 4,
            "max_completion": 8,
            "max_steps": 2,
        },
    },
    "generation": {"engine": {"enforce_eager": True, "dtype": "float32", "max_model_len": 1024}},
    "ratings": {"anchor": "best-of-2", "bootstrap": 50},
    "quality": {"minimum_training_rows": 4},
}


def _write_tiny_arena() -> None:
    (WORK / "tiny.yaml").write_text(yaml.safe_dump(TINY_PROFILE), encoding="utf-8")
    seeds = (PROJECT / "data/seed/prompts.jsonl").read_text(encoding="utf-8").splitlines()
    every_ninth = [line for number, line in enumerate(seeds) if number % 9 == 0]
    (WORK / "prompts.jsonl").write_text("\n".join(every_ninth) + "\n", encoding="utf-8")
    home = WORK / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text("utf-8"), "utf-8")
    os.environ.update(
        ARENA_PROFILE=str(WORK / "tiny.yaml"),
        ARENA_LAKE=str(WORK / "lake"),
        ARENA_DATA_DOCS=str(WORK / "quality"),
        DAGSTER_HOME=str(home),
        DO_NOT_TRACK="1",
        VLLM_CPU_KVCACHE_SPACE="1",
    )


# Who starts the tests in the background of a shell without job control has them, and all that they
# start, ignore SIGINT; Dagster then has SIGTERM ignored too.
signal.signal(signal.SIGINT, signal.default_int_handler)
_write_tiny_arena()


def pytest_sessionfinish() -> None:
    shutil.rmtree(WORK, ignore_errors=True)


# Tests of these files share what takes long to make, so one process runs them; it starts first.
_TOGETHER = {
    "turned arena": ("test_wheel.py", "test_ui.py", "test_checks.py"),
    "served model": ("test_openai.py", "test_edited_models.py"),
}
_GROUPS = {file: group for group, files in _TOGETHER.items() for file in files}


@pytest.hookimpl(tryfirst=True)  # before -m chooses by the mark
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    for item in items:
        if is_slow(item):
            item.add_marker("slow")
    order = list(_TOGETHER)
    items.sort(
        key=lambda item: (
            order.index(_GROUPS[item.path.name]) if item.path.name in _GROUPS else len(order)
        )
    )


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """File by file; xdist's own groups are not seen by pytest 9.2, which keeps a test's name."""

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = Path(nodeid.split("::", 1)[0]).name
            return _GROUPS.get(file, file)

    return Scheduling(config, log)


@pytest.fixture(scope="session")
def tiny_profile() -> Path:
    """The profile that the code location was loaded with."""
    return WORK / "tiny.yaml"


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """Weights of a Llama with two layers and random numbers, its tokenizer and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

    lines = (PROJECT / "data/seed/prompts.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [message["content"] for line in lines for message in json.loads(line)["messages"]]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|start|>", "<|end|>", "<|pad|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=1024, special_tokens=special, initial_alphabet=alphabet),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>"
    )
    fast.chat_template = (
        "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
    )
    set_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(TINY_MODEL)
    fast.save_pretrained(TINY_MODEL)
    return TINY_MODEL


@pytest.fixture(scope="session")
def served_model(tiny_model) -> Iterator[Endpoint]:
    """The tiny model behind vLLM's server, in processes of its own until the tests end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # not the `vllm` command: in the CPU build it looks for a package of that name and stops
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(tiny_model), "--served-model-name", "tiny"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["--enforce-eager", "--dtype", "float32", "--max-model-len", "2048"]
    # the sampling is ours: a server would fill gaps with the model's generation_config.json
    command += ["--generation-config", "vllm"]
    # a random model fills its limit with blanks where JSON allows them
    structured = {"backend": "xgrammar", "disable_any_whitespace": True}
    command += ["--structured-outputs-config", json.dumps(structured)]
    environment = os.environ | {
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, sorted(os.sched_getaffinity(0)))),
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        # the engine runs its worker itself: one process less that imports torch and vLLM
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }
    log = WORK / "served_model.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            command,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_healthy(server, f"http://127.0.0.1:{port}/health", log, seconds=240)
        yield Endpoint(urls=(f"http://127.0.0.1:{port}/v1",), model="tiny", timeout=120, retries=1)
    finally:
        _end_group(server)


def _wait_until_healthy(
    server: subprocess.Popen[bytes], url: str, log: Path, seconds: float
) -> None:
    deadline = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:  # nobody listens yet
            time.sleep(0.2)
    state = "is still not up" if server.poll() is None else f"ended with {server.returncode}"
    pytest.fail(f"the server {state}; its log ends:\n{log.read_text('utf-8')[-6000:]}")


def _end_group(server: subprocess.Popen[bytes]) -> None:
    """End the server and its workers, which outlive it where it is killed alone."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, how)
            server.wait(timeout=15)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


PROMOTED_FROM = [table for table in OF_ROUND if table != "promotions"]


def record_round(arena: Arena, key: str) -> None:
    """Note that all a promotion rests on was made from the present inputs; what lacks is empty."""
    arena = Arena(arena.profile_path, arena.lake.root)
    record_testset(arena)
    for table in PROMOTED_FROM:
        if table != "checkpoint" and not arena.lake.exists(table, key):
            write_atomically(pa.table({"round": [key]}).to_reader(), arena.lake.path(table, key))
        if arena.digest(table, key):
            Making(arena, [table], key).ended(table)


def record_testset(arena: Arena) -> None:
    """A test set as the profile asks for it; where there was none of any kind, it is empty."""
    if not arena.lake.exists("arena_testset"):
        arena.lake.write("testset_versions", [], "v001")
        arena.lake.write("arena_testset", [])
    version = arena.lake.partitions("testset_versions")[-1]
    Making(arena, ["testset_versions"]).ended("testset_versions", version)
    Making(arena, ["arena_testset"]).ended("arena_testset")


def asset_named(name: str) -> dg.AssetsDefinition:
    """An asset of the tests' arena as Dagster has it, by the name of its function."""
    from arena_assets.definitions import defs

    (found,) = [asset for asset in defs.assets if asset.op.name == name]
    return found


def arena_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`arena ...` in a process of its own, on the tests' profile."""
    command = [sys.executable, "-m", "arena_assets.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)


@pytest.fixture(scope="session")
def turned_twice(tiny_model) -> subprocess.CompletedProcess[str]:
    """What `arena run` said when it turned the first two rounds of the tests' arena."""
    done = arena_command("run", "--until", "i01.2-dpo")
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="session")
def turned(turned_twice) -> subprocess.CompletedProcess[str]:
    """What `arena run` said when it went on to the last round."""
    done = arena_command("run")
    assert done.returncode == 0, done.stdout + done.stderr
    return done
