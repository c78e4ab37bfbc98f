"""What `arena init` writes: a workspace with a profile to change, and what Dagster needs there."""

from __future__ import annotations

from pathlib import Path

from arena_assets.config.places import PROJECT

_TEMPLATES = Path(__file__).parent


class FolderInUse(ValueError):
    """A folder that nothing may be written into; the message says what is in the way."""


def write_workspace(folder: Path) -> list[Path]:
    """Write a workspace's files and return their paths.

    Raises FolderInUse, before anything is written, where one of them is there already.
    """
    folder = folder.absolute()
    home = folder / ".dagster"
    environment = (_TEMPLATES / "environment").read_text("utf-8")
    quoted = str(home).replace("\\", "\\\\").replace("'", "\\'")
    files = {
        folder / "arena.yaml": (_TEMPLATES / "arena.yaml").read_text("utf-8"),
        folder / "workspace.yaml": (PROJECT / "workspace.yaml").read_text("utf-8"),
        # Dagster takes absolute paths only
        folder / ".env": environment.replace("DAGSTER_HOME=", f"DAGSTER_HOME='{quoted}'"),
        folder / ".gitignore": (_TEMPLATES / "gitignore").read_text("utf-8"),
        home / "dagster.yaml": (PROJECT / "dagster.yaml").read_text("utf-8"),
    }
    if in_the_way := [str(path) for path in files if path.exists()]:
        raise FolderInUse(
            f"{', '.join(in_the_way)}: already there; nothing was written, choose another folder"
        )
    try:
        home.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text, "utf-8")
    except OSError as error:
        raise FolderInUse(f"{folder}: cannot be written to: {error.strerror}") from None
    return list(files)
