"""The wheel, built and installed into an environment of its own, far from the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT

BATTLES = "model_a,model_b,winner\n" + "swift,slow,model_a\n" * 3 + "slow,swift,model_a\n"


class Installed:
    """An environment that holds the wheel and sees the libraries of this one."""

    def __init__(self, python: Path):
        self.python = python
        self.bin = python.parent
        self.package = next(python.parents[1].glob("lib/python*/site-packages")) / "arena_assets"
        kept = ("PYTHONPATH", "DAGSTER_HOME", "VIRTUAL_ENV")
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name not in kept and not name.startswith("ARENA_")
        }

    def run(self, *command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command of the environment (`arena`, `dagster`) in a folder."""
        return subprocess.run(
            [self.bin / command[0], *command[1:]],
            cwd=cwd,
            env=self.environment | environment,
            capture_output=True,
            text=True,
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Installed:
    """The wheel of this repository in a new virtual environment."""
    folder = tmp_path_factory.mktemp("elsewhere")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=PROJECT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    home = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    python = home / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    install += ["--no-deps", "--no-index", "--no-warn-script-location", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    packages = next(home.glob("lib/python*/site-packages"))
    # the libraries only: .pth files of a folder that stands in one are not read, so that the
    # repository, which is installed there to be edited, is not found
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    script = Path(sys.executable).with_name("dagster").read_text("utf-8").partition("\n")[2]
    (home / "bin" / "dagster").write_text(f"#!{python}\n{script}")
    (home / "bin" / "dagster").chmod(0o755)
    return Installed(python)


@pytest.fixture
def workspace(installed, tmp_path) -> Path:
    """What `arena init` wrote."""
    done = installed.run("arena", "init", "mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path / "mine"


def test_the_installed_package_is_the_wheels_own(installed, tmp_path):
    (installed.bin.parents[1] / "workspace.yaml").touch()  # it may be installed inside of one
    code = "from arena_assets.config import places as p; "
    code += "print(p.__file__, p.PROJECT, p.workspace(), sep='\\n')"
    found = installed.run("python", "-c", code, cwd=tmp_path).stdout.splitlines()
    own = installed.package
    assert found == [str(own / "config" / "places.py"), str(own / "shipped"), str(tmp_path)]


def test_rate_needs_nothing_but_its_file(installed, tmp_path):
    (tmp_path / "battles.csv").write_text(BATTLES, "utf-8")
    rate = ("rate", "battles.csv")
    for asked in (("--help",), ("rate", "--help"), ("--version",), ("init", "--help"), rate):
        done = installed.run("arena", *asked, cwd=tmp_path, ARENA_PROFILE="gone.yaml")
        assert done.returncode == 0, done.stderr
    assert "swift" in done.stdout
    assert installed.run("arena", *rate, cwd=tmp_path).stdout == done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["battles.csv"], "nothing else is made"


def test_the_shipped_profiles_are_understood_in_any_folder(installed, tmp_path):
    for arguments in ((), ("--profile", "profiles/paper-7b.yaml")):
        done = installed.run("arena", *arguments, "profile", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    states = installed.run("arena", "status", cwd=tmp_path)
    assert states.returncode == 0 and states.stdout.count("missing") == 3
    assert not list(tmp_path.iterdir())


def test_init_writes_a_workspace_whose_next_commands_work(installed, workspace):
    planned = installed.run("arena", "plan", cwd=workspace)
    assert planned.returncode == 0, planned.stderr
    named = installed.run("arena", "profile", cwd=workspace)
    assert yaml.safe_load(named.stdout)["name"] == "my-arena"
    again = installed.run("arena", "init", str(workspace), cwd=workspace)
    assert again.returncode == 1 and "nothing was written" in again.stderr
    assert str(workspace / "arena.yaml") in again.stderr


def test_a_moved_workspace_works_and_says_which_line_is_of_old(installed, workspace):
    moved = workspace.with_name("moved")
    workspace.rename(moved)
    done = installed.run("arena", "profile", cwd=moved)
    assert done.returncode == 0
    assert f"{moved}/.env: DAGSTER_HOME: {workspace}/.dagster is not there" in done.stderr
    assert not workspace.exists()


def test_dagster_loads_the_definitions_of_a_workspace(installed, workspace):
    """From workspace.yaml as `dagster dev` does; nothing is written into the installed package."""
    before = set(files_of(installed.package))
    done = installed.run("dagster", "definitions", "validate", cwd=workspace)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DAGSTER_HOME" in done.stdout + done.stderr, "the workspace's .env was read"
    (manifest,) = (workspace / ".dagster" / "dbt").glob("*/manifest.json")
    parsed = manifest.stat().st_mtime_ns
    module = "from arena_assets.definitions import defs; print(defs.resolve_asset_graph())"
    done = installed.run("python", "-c", module, cwd=workspace)
    assert done.returncode == 0, done.stderr
    assert manifest.stat().st_mtime_ns == parsed, "parsed once"
    assert set(files_of(installed.package)) == before


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if "__pycache__" not in path.parts]


@pytest.mark.drill
def test_the_wheel_turns_a_round_in_a_workspace(installed, workspace, tiny_model):
    """What `arena init` wrote, with a tiny model in it, up to a rated checkpoint."""
    profile = yaml.safe_load((workspace / "arena.yaml").read_text("utf-8"))
    shutil.copytree(tiny_model, workspace / "weights")
    profile["models"] = {"small": {"path": "weights"}}
    profile["target"]["sampling"]["max_tokens"] = 12
    for opponent in profile["opponents"]:
        opponent.get("sampling", {})["max_tokens"] = 12
    profile["prompts"]["slices"]["rows"] = 16
    profile["prompts"]["testset"] |= {"clusters": 8, "hard": 4}
    profile["training"]["sft"] |= {"epochs": 1, "batch": 8, "max_length": 1024}
    profile["generation"]["engine"] |= {"dtype": "float32", "max_model_len": 1024}
    profile["quality"]["minimum_training_rows"] = 4
    (workspace / "arena.yaml").write_text(yaml.safe_dump(profile), "utf-8")
    before = set(files_of(installed.package))
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1"}
    done = installed.run("arena", "run", "--until", "i01.1-sft", cwd=workspace, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "leaderboard after i01.1-sft" in done.stdout
    lake = workspace / "data" / "lake" / "my-arena"
    assert (lake / "checkpoints" / "i01.1-sft" / "model.safetensors").exists()
    assert set(files_of(installed.package)) == before

    # moved elsewhere, the workspace goes on: nothing is made again, and no place of old is named
    moved = workspace.with_name("moved")
    workspace.rename(moved)
    again = installed.run("arena", "run", "--until", "i01.1-sft", cwd=moved, **settings)
    assert "i01.1-sft: done, nothing changed" in again.stdout, again.stdout + again.stderr
    shutil.rmtree(moved / "data" / "lake" / "my-arena" / "checkpoints")
    failed = installed.run("arena", "run", "--until", "i01.2-dpo", cwd=moved, **settings)
    assert failed.returncode == 1 and "Traceback" not in failed.stderr
    told, *rest = failed.stderr.splitlines()
    assert told.startswith(f"{moved}/.env: DAGSTER_HOME: {workspace}/.dagster is not there")
    assert str(moved / "data") in failed.stderr and str(workspace) not in "".join(rest)
    assert not workspace.exists()
