"""Two models side by side: settings, data, versions, metrics, ratings, and who is better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final

import pyarrow as pa

from arena_assets.curation.split import REPORTS
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.details import training_set_is_learned
from arena_assets.flywheel.rated import paired_differences
from arena_assets.flywheel.registry import Entry
from arena_assets.lake.lake import MissingPartition
from arena_assets.ratings.paired import paired
from arena_assets.training.checkpoints import LEARNED

_SAID: Final = ", ".join(f"to_json({column})" for column in LEARNED)
# rows are told by what they say: one that has kept its id may say something else now
_SIDE: Final = f"""
    select row_id, md5(to_json([{_SAID}])) as said
    from (select * from %s union all by name select * from columns_of_all)
"""
_ROWS: Final = f"""
    with a as ({_SIDE % "rows_of_a"}), b as ({_SIDE % "rows_of_b"})
    select
        count(*) filter (where a.said = b.said) as same,
        count(*) filter (where a.said != b.said) as changed,
        count(*) filter (where b.row_id is null) as only_a,
        count(*) filter (where a.row_id is null) as only_b
    from a full join b using (row_id)
"""


def compare(arena: Arena, a: Entry, b: Entry) -> dict[str, Any]:
    """What differs between two models; JSON can hold it, and what is equal is left out."""
    return {
        **{
            side: {"name": entry.name, "digest": entry.digest, "state": entry.state}
            for side, entry in (("a", a), ("b", b))
        },
        "settings": differences(_settings(a), _settings(b)),
        "versions": differences(_of_manifest(a, "versions"), _of_manifest(b, "versions")),
        "metrics": differences(_of_manifest(a, "metrics"), _of_manifest(b, "metrics")),
        "rows": learned_rows(arena, a, b),
        "ratings": {
            side: entry.rating and asdict(entry.rating) for side, entry in (("a", a), ("b", b))
        },
        "paired": paired_points(arena, a, b),
    }


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What two nested mappings do not share, by dotted name; None where one says nothing.

    >>> differences({"x": {"y": 1, "z": 2}}, {"x": {"y": 3, "z": 2}})
    [{'what': 'x.y', 'a': 1, 'b': 3}]
    """
    one, two = dict(flat(a)), dict(flat(b))
    return [
        {"what": name, "a": one.get(name), "b": two.get(name)}
        for name in sorted(one.keys() | two.keys())
        if one.get(name) != two.get(name)
    ]


def paired_points(arena: Arena, a: Entry, b: Entry) -> dict[str, Any] | None:
    """What a got more than b of the points on the same prompts that report.

    In the last arena with both, from -1 to 1, with a 95 % interval clustered by families of prompts
    and a p value (see ratings.paired). None where they never met as they are now.
    """
    rounds = {rating.after for rating in a.ratings} & {rating.after for rating in b.ratings}
    if a.name == b.name or not rounds:
        return None
    key = max(rounds)
    try:
        found = paired_differences(arena.lake, key, REPORTS, a.name, b.name)
    except MissingPartition:  # the ratings are there, their battles are not any more
        return None
    if not found.num_rows:
        return None
    test = paired(found["difference"].to_pylist(), found["family"].to_pylist())
    return {"after": key, **asdict(test)}


def learned_rows(arena: Arena, a: Entry, b: Entry) -> dict[str, int] | None:
    """How many rows both learned, how many only one of them did, how many say something else now.

    None where a training set is not there any more as it was learned: then nobody knows.
    """
    if not all(e.manifest is None or training_set_is_learned(arena, e) for e in (a, b)):
        return None
    none = pa.table({name: pa.nulls(0) for name in ("row_id", *LEARNED)})
    tables: dict[str, Any] = {
        side: ("training_set", e.name) if e.manifest else none
        for side, e in (("rows_of_a", a), ("rows_of_b", b))
    }
    (found,) = arena.lake.query(_ROWS, columns_of_all=none, **tables).to_pylist()
    return found


def _settings(entry: Entry) -> dict[str, Any]:
    if entry.manifest is None:
        return {}
    said = {"stage": entry.manifest.stage, "parent": entry.manifest.parent}
    return {**said, "number_type": entry.manifest.dtype, **entry.manifest.config}


def _of_manifest(entry: Entry, part: str) -> dict[str, Any]:
    return getattr(entry.manifest, part) if entry.manifest else {}


def flat(nested: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings by dotted name."""
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
