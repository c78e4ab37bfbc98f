"""The terminal of a run: lines for what happened, few for what is under way, no library noise."""

from __future__ import annotations

import io
import subprocess
import sys

from arena_assets.assets.console import Screen


def shown(messages: list[tuple[float, str]]) -> list[str]:
    """What a log file gets of messages at given seconds."""
    stream, now = io.StringIO(), [0.0]
    screen = Screen(stream, bar=False, clock=lambda: now[0])
    for now[0], words in messages:
        screen.say("judgments", words)
    return [line.split(maxsplit=2)[2] for line in stream.getvalue().splitlines()]


def test_a_log_gets_progress_at_most_every_ten_seconds():
    burst = [(n / 16, f"verifier: {n}/158 games") for n in range(158)]
    assert shown([*burst, (10.5, "verifier: 158/158 games, 16.0 games/s")]) == [
        "verifier: 158/158 games, 16.0 games/s"
    ]
    assert shown([(n, f"sft: step {n}/30, loss 1.5") for n in range(30)]) == [
        "sft: step 10/30, loss 1.5",
        "sft: step 20/30, loss 1.5",
    ]


def test_what_happened_is_always_shown():
    words = ["base: 80 generated, 0 found, 742 tokens/s", "i01.1-sft is promoted [bold]x[/bold]"]
    assert shown([(0.0, word) for word in words]) == words


def test_a_terminal_gets_a_bar_and_the_lines_stay_whole():
    stream = io.StringIO()
    screen = Screen(stream, bar=True)
    screen.say("responses", "base: 40/80 answers, 700 tokens/s")
    screen.say("responses", "base: 80 generated, 0 found, 742 tokens/s")
    assert "base: 80 generated, 0 found, 742 tokens/s" in stream.getvalue()
    assert "40/80 answers" not in stream.getvalue()


def test_what_libraries_print_goes_to_the_log_file(tmp_path):
    script = f"""
import ctypes, pathlib, subprocess, sys
from arena_assets.assets.console import noise_to
with noise_to(pathlib.Path({str(tmp_path / "run.log")!r})) as screen:
    print("python noise")
    ctypes.CDLL(None).puts(b"C noise"); ctypes.CDLL(None).fflush(None)
    subprocess.run(["echo", "child noise"])
    screen.line("shown")
print("after")
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("after\n", "shown\n")
    noise = (tmp_path / "run.log").read_text("utf-8")
    assert {"python noise", "C noise", "child noise"} <= set(noise.splitlines())
