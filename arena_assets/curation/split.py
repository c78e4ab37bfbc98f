"""The purpose of each test prompt: some select who is promoted, others report what was gained.

Who picks the best of several by the prompts that also report its gain reports luck with it. The
split goes by whole families (see `families`): a prompt that differs from another one by its topic
alone is the same question.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from arena_assets.config.prompts import Testset
from arena_assets.curation.families import families

SELECT, REPORT, HELD_OUT, WHOLE = "select", "report", "held_out", "all"
REPORTS: Final = (REPORT, WHOLE)  # the purposes whose ratings are shown; there is one of them
SELECTS: Final = (SELECT, WHOLE)  # those by which is promoted
FEWEST: Final = 20  # prompts of a part: with fewer an interval spans hundreds of points


def with_purposes(testset: pa.Table, settings: Testset, seed: int) -> pa.Table:
    """Rows of a version of the test set with the columns family and purpose.

    The same seed gives the same split. A set too small for two parts of FEWEST prompts is not
    split: its prompts have the purpose "all", and select and report both.
    """
    found = families(testset, settings.families)
    held = testset["held_out"].to_pylist()
    own = [n for n, name in enumerate(held) if name is None]
    reporting = reporting_families(
        [found[n] for n in own],
        [testset["category"][n].as_py() for n in own],
        settings.report_share,
        seed,
    )
    purposes = [
        HELD_OUT if name is not None
        else WHOLE if reporting is None
        else REPORT if family in reporting
        else SELECT
        for name, family in zip(held, found, strict=True)
    ]  # fmt: skip
    return testset.append_column("family", pa.array(found, pa.string())).append_column(
        "purpose", pa.array(purposes, pa.string())
    )


def reporting_families(
    family: Sequence[str], category: Sequence[str], share: float, seed: int
) -> set[str] | None:
    """The families that report, about `share` of the prompts; None where a part would be too small.

    Families are passed by category, in a random order of the seed, and go where the share is short:
    so both parts have about the same categories.
    """
    sizes = Counter(family)
    kinds: dict[str, Counter[str]] = {}
    for name, kind in zip(family, category, strict=True):
        kinds.setdefault(name, Counter())[kind] += 1
    most = {name: max(sorted(counted), key=counted.__getitem__) for name, counted in kinds.items()}
    order = sorted(sizes, key=lambda name: (_order(seed, most[name]), _order(seed, name)))
    chosen, due = set(), 0.0
    for name in order:
        due += share * sizes[name]
        if due >= sizes[name] / 2:
            chosen.add(name)
            due -= sizes[name]
    reported = sum(sizes[name] for name in chosen)
    return None if min(reported, len(family) - reported) < FEWEST else chosen


def _order(seed: int, name: str) -> str:
    return hashlib.md5(f"{seed}|{name}".encode(), usedforsecurity=False).hexdigest()
