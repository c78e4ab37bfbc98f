"""The terminal as a whole: commands are there at once, and each says what it is asked for."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from arena_assets.cli.main import app
from arena_assets.config.profile import Profile, load_profile

HEAVY = {"dagster", "duckdb", "numpy", "pyarrow", "pydantic", "rich.table", "torch", "yaml"}
COMMANDS = {
    *("doctor", "init", "judges", "leaderboard", "plan", "profile"),
    *("rate", "rejudge", "run", "status", "verify"),
}


def test_help_waits_for_no_library():
    script = "import sys, arena_assets.cli.main; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not HEAVY & set(done.stdout.split())


def test_every_command_is_told_in_a_sentence():
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    told = {line.strip("│ ").split("  ")[0] for line in shown.splitlines() if line.startswith("│")}
    assert told >= COMMANDS
    for command in sorted(COMMANDS):
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0, command


@pytest.mark.parametrize(("format", "read"), [("json", json.loads), ("table", yaml.safe_load)])
def test_the_profile_is_printed_as_it_is_understood(format, read):
    done = CliRunner().invoke(app, ["profile", "--format", format])
    assert done.exit_code == 0, done.output
    assert Profile.model_validate(read(done.output)) == load_profile()
