"""One run of the asset `checkpoint`, to be killed: training_drill.py PROFILE LAKE [ROUND]."""

from __future__ import annotations

import sys

import dagster as dg

from arena_assets.assets import training
from arena_assets.assets.partitions import rounds_of
from arena_assets.flywheel.arena import Arena

ROUND = "i01.1-sft"


def main(profile: str, lake: str, key: str = ROUND) -> int:
    arena = Arena(profile, lake)
    (checkpoint,) = training.assets(rounds_of(arena.profile))
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [checkpoint],
            partition_key=key,
            resources={"arena": arena},
            instance=instance,
            selection=[checkpoint],
            raise_on_error=False,
        )
    return 0 if result.success else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
