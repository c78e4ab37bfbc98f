"""Where things lie: what comes with the program, and the folder that a user works in.

The two are kept apart, because what is installed may be read-only and is replaced by an update.
"""

from __future__ import annotations

import os
from pathlib import Path

_PACKED = Path(__file__).resolve().parents[1] / "shipped"  # in a wheel; see pyproject.toml
# profiles/, data/seed, data/lexicons, dbt_project/: the repository's own, or the wheel's copies
PROJECT = _PACKED if _PACKED.is_dir() else _PACKED.parents[1]


class Located(str):
    """A path as a file says it, which also knows the folder of that file."""

    folder: Path

    @classmethod
    def beside(cls, path: str, folder: Path) -> Located:
        located = cls(path)
        located.folder = folder
        return located


def resolve(path: str) -> Path:
    """Where a path lies: the first of its `places` that exists, else the first of them."""
    found = places(path)
    return next((place for place in found if present(place)), found[0])


def present(path: Path) -> bool:
    """Whether something is there; what cannot be looked at, or cannot be a name, is not."""
    try:
        return path.exists()
    except OSError:
        return False


def places(path: str) -> list[Path]:
    """Where a path is looked for, in order.

    A relative one: beside the file that names it (a path of the command line or the environment:
    in the current folder), in the workspace, among the files that come with the program.
    """
    folders = (getattr(path, "folder", Path.cwd()), workspace(), PROJECT)
    given = _home_expanded(path)
    return list(dict.fromkeys(folder / given for folder in folders))


def profile_path() -> Path:
    """The profile in use: ARENA_PROFILE, else arena.yaml in the current folder, else pocket."""
    chosen = os.environ.get("ARENA_PROFILE")
    if chosen:
        here = _home_expanded(chosen).absolute()
        # profiles/paper-7b.yaml comes with the program too
        return PROJECT / chosen if not present(here) and present(PROJECT / chosen) else here
    own = Path("arena.yaml").absolute()
    return own if present(own) else PROJECT / "profiles" / "pocket.yaml"


def workspace() -> Path:
    """Where tables, weights and pages go: the folder of workspace.yaml at or above the profile.

    The current folder where there is none, and for the profiles of an installed wheel.
    """
    above = profile_path().parents
    installed = _PACKED in above
    found = (folder for folder in above if present(folder / "workspace.yaml"))
    return Path.cwd() if installed else next(found, Path.cwd())


def output_folder(variable: str, default: str) -> Path:
    """A folder to write to: what an environment variable says, else `default` in the workspace."""
    chosen = os.environ.get(variable)
    return Path(chosen).absolute() if chosen else workspace() / default


def _home_expanded(path: str) -> Path:
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path's own raises for an unknown user)
