"""The same arena under other seeds of training: a lake each, with prompts and stores in common.

One training says little: the same settings gave +176 and, with another seed of rounding, +157 with
another winner. ARENA_TRAINING_SEED=2 (`arena run --training-seed 2`) turns the wheel in
<lake>-seed-2. Test set, slices and everything else that is drawn stay those of the profile's seed;
what was paid for is shared, so that opponents answer and are judged once for all seeds.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from arena_assets.config.recipe import RoundSettings
from arena_assets.lake.lake import Lake

VARIABLE: Final = "ARENA_TRAINING_SEED"
_MARK: Final = "-seed-"


class BadSeed(ValueError):
    """A seed that is no number, or cannot be another; the message names the variable."""


def chosen_seed() -> int | None:
    """The seed of training that the environment asks for; None where it asks for none."""
    said = os.environ.get(VARIABLE)
    if not said:
        return None
    if not said.isdecimal():
        raise BadSeed(f"{VARIABLE}: {said!r} is no whole number from 0 on")
    return int(said)


def refuse_fixed_seeds(rounds: Mapping[str, RoundSettings]) -> None:
    """BadSeed where a round has a seed of its own: it would be trained alike under every seed."""
    for key, settings in rounds.items():
        if settings.training.get("seed") is not None:
            raise BadSeed(
                f"{VARIABLE}: rounds.{key}.training.seed fixes the seed of that round, so that no "
                "other one can be tried; leave it out of the profile"
            )


def lake_of_seed(root: Path, seed: int) -> Path:
    """The lake of a seed, beside the arena's own."""
    return root.with_name(f"{root.name}{_MARK}{seed}")


def lakes_of_seeds(root: Path) -> list[Path]:
    """The arena's own lake and those of other seeds, as far as they are there."""
    others = root.parent.glob(f"{root.name}{_MARK}*")
    numbered = [path for path in others if path.name.rsplit(_MARK, 1)[1].isdecimal()]
    numbered.sort(key=lambda path: int(path.name.rsplit(_MARK, 1)[1]))
    return [path for path in (root, *numbered) if path.is_dir()]


def share(own: Lake, other: Lake, tables: set[str]) -> None:
    """Give another seed's lake the stores of the arena's own, and its prepared tables.

    Files of tables are replaced and never edited, so a hard link is a copy that takes no room.
    What is there already stays.
    """
    store = other.root / "store"
    if not store.exists():
        (own.root / "store").mkdir(parents=True, exist_ok=True)
        other.root.mkdir(parents=True, exist_ok=True)
        store.symlink_to(Path(os.path.relpath(own.root / "store", other.root)))
    for table in sorted(tables):
        there, here = own.root / table, other.root / table
        if there.is_dir() and not here.exists():
            shutil.copytree(there, here, copy_function=linked)


def linked(source: str, target: str) -> None:
    """A file under a second name, or a copy of it where that cannot be."""
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        shutil.copy2(source, target)
