"""The wheel end to end: the project's own assets with real vLLM and TRL on a tiny random Llama."""

from __future__ import annotations

import subprocess
import sys

import pytest

ROUNDS = ["i01.1-sft", "i01.2-dpo", "i01.3-rl"]


def arena_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`arena ...` in a process of its own, on the tests' profile."""
    command = [sys.executable, "-m", "arena_assets.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def turned(tiny_model):
    """The arena after a whole turn of the wheel."""
    done = arena_command("run")
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_run_turns_every_round_and_prints_the_leaderboard(turned):
    print(turned.stderr)
    assert "turned i01.1-sft, i01.2-dpo, i01.3-rl" in turned.stdout
    assert "leaderboard after i01.3-rl" in turned.stdout
    assert "tokens/s" in turned.stderr and "sft: step 2/2" in turned.stderr
