"""The dbt project, parsed: what Dagster knows of its models, made when it is missing.

An installed project may be read-only, and dbt writes beside its project unless told otherwise.
"""

import hashlib
import os
import shutil
import sys
import uuid
from importlib import metadata
from pathlib import Path

from dagster_dbt import DbtProject

from arena_assets.config.places import PROJECT, workspace

# dagster-dbt looks for `dbt` on the path; it stands beside this Python, activated or not
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

_FOLDER = PROJECT / "dbt_project"


def parsed_project() -> DbtProject:
    """The project with its manifest. Parsing takes seconds, once for each state of its files."""
    digest = _digest()
    target = _targets() / digest
    project = DbtProject(_FOLDER, target_path=target, profiles_dir=_FOLDER)
    if not project.manifest_path.exists():
        # beside its place, so that nobody reads half a manifest; several processes may be at it
        scratch = target.with_name(f".partial-{digest}-{uuid.uuid4().hex[:8]}")
        unparsed = DbtProject(_FOLDER, target_path=scratch, profiles_dir=_FOLDER)
        unparsed.preparer.prepare(unparsed)
        try:
            scratch.rename(target)
        except OSError:  # another process was faster
            shutil.rmtree(scratch)
    return project


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
