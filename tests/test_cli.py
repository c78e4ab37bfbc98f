"""The terminal as a whole: commands are there at once, and each says what it is asked for."""

from __future__ import annotations

import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from arena_assets.cli.doctor import examine
from arena_assets.cli.main import app
from arena_assets.config.models import Endpoint
from arena_assets.config.profile import Profile, load_profile
from arena_assets.models.served.openai_engine import OpenAIEngine
from arena_assets.models.weights import MissingWeights, base_weights

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


@pytest.mark.parametrize(
    "model", [{"path": "nowhere"}, {"package": "no-such-package"}, {"package": "pytest"}]
)
def test_the_doctor_says_what_whoever_opens_the_model_would_say(model, tmp_path):
    profile = Profile.model_validate(load_profile().model_dump() | {"models": {"tiny": model}})
    with pytest.raises(MissingWeights) as missing:
        base_weights(profile.models["tiny"], tmp_path, "tiny")
    (finding,) = [f for f in examine(profile, tmp_path, tmp_path) if f.what == "model tiny"]
    assert finding.state == "fails" and f"{finding.found}; {finding.advice}" == str(missing.value)


@pytest.mark.parametrize("key", ["", "a key\nof two lines"])
def test_the_doctor_reads_a_servers_key_as_its_engine_does(key, tmp_path, monkeypatch):
    monkeypatch.setenv("A_KEY", key)
    served = {"urls": ["http://127.0.0.1:9/v1"], "model": "m", "api_key_env": "A_KEY"}
    models = load_profile().model_dump()["models"] | {"served": {"endpoint": served}}
    profile = Profile.model_validate(load_profile().model_dump() | {"models": models})
    with pytest.raises(ValueError, match="A_KEY") as refused:
        OpenAIEngine(Endpoint(**served))
    (finding,) = [f for f in examine(profile, tmp_path, tmp_path) if f.what == "model served"]
    assert finding.state == "fails" and f"{finding.found}; {finding.advice}" == str(refused.value)


def test_a_leaderboard_of_an_older_lake_is_printed(tmp_path, monkeypatch):
    monkeypatch.setenv("ARENA_LAKE", str(tmp_path))
    row = {"rank": 1, "contestant": "ann", "rating": 1000.0, "lower": 990.0, "upper": 1010.0}
    (tmp_path / "leaderboard").mkdir()
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "leaderboard/i01.1-sft.parquet")
    done = CliRunner().invoke(app, ["leaderboard"])
    assert done.exit_code == 0 and "ann" in done.output
