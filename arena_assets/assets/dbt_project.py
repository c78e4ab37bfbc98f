"""The dbt project, parsed: what Dagster knows of its models, made when it is missing.

An installed project may be read-only, and dbt writes beside its project unless told otherwise.
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import dagster as dg
from dagster_dbt import DbtProject

from arena_assets.config.places import PROJECT, workspace

if TYPE_CHECKING:
    from dbt.cli.main import dbtRunnerResult
    from dbt.contracts.graph.manifest import Manifest

_FOLDER = PROJECT / "dbt_project"


def parsed_project() -> DbtProject:
    """The project with its manifest. Parsing takes seconds, once for each state of its files."""
    digest = _digest()
    target = _targets() / digest
    project = DbtProject(_FOLDER, target_path=target, profiles_dir=_FOLDER)
    if not project.manifest_path.exists():
        # beside its place, so that nobody reads half a manifest; several processes may be at it
        scratch = target.with_name(f".partial-{digest}-{uuid.uuid4().hex[:8]}")
        parse(scratch)
        try:
            scratch.rename(target)
        except OSError:  # another process was faster
            shutil.rmtree(scratch)
    return project


def parse(target: Path, known: Path | None = None) -> Manifest:
    """The models as dbt runs them, also written to `target`; `known` is an earlier partial parse.

    Raises dg.Failure with what dbt says of a project that it cannot read.
    """
    earlier = ["--partial-parse-file-path", str(known)] if known else []
    result, _ = run_dbt(["--quiet", "parse", *earlier], target)
    if not result.success:
        raise dg.Failure(f"dbt cannot read its project: {result.exception}")
    return cast("Manifest", result.result)


def run_dbt(
    arguments: list[str], target: Path, manifest: Manifest | None = None
) -> tuple[dbtRunnerResult, list[dict[str, Any]]]:
    """What came of a command of dbt in this process, and what it said, as its JSON log tells it."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.adapters.factory import adapter_management
    from dbt.cli.main import dbtRunner
    from dbt_common.events.functions import msg_to_dict

    said: list[dict[str, Any]] = []

    def hear(message: Any) -> None:
        if message.info.level != "debug":
            said.append(msg_to_dict(message))

    arguments = ["--log-level-file", "none", "--no-use-colors", *arguments]
    arguments += ["--project-dir", str(_FOLDER), "--profiles-dir", str(_FOLDER)]
    arguments += ["--target-path", str(target), "--log-path", str(target)]
    with adapter_management():
        result = dbtRunner(manifest, [hear]).invoke(arguments)
    DuckDBConnectionManager.close_all_connections()  # else until the process ends
    if result.exception and not isinstance(result.exception, Exception):
        raise result.exception  # the run was cancelled
    return result, said


def _targets() -> Path:
    """In a clone dbt's own place, else in the workspace."""
    clone = (PROJECT / "pyproject.toml").exists()
    return _FOLDER / "target" if clone else workspace() / ".dagster" / "dbt"


def _digest() -> str:
    """Of all that a manifest is made from."""
    whole = hashlib.sha256(metadata.version("dbt-duckdb").encode())
    whole.update(metadata.version("dbt-core").encode())
    files = [*_FOLDER.glob("*.yml"), *_FOLDER.glob("models/**/*"), *_FOLDER.glob("macros/**/*")]
    for file in sorted(path for path in files if path.is_file()):
        whole.update(f"{file.relative_to(_FOLDER)}\0".encode() + file.read_bytes())
    return whole.hexdigest()[:16]
