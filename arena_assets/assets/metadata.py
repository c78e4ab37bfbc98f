"""What every table shows in the UI: where it lies, its rows, its columns and a preview."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from arena_assets.flywheel.arena import Arena
from arena_assets.hostile_text import markdown_rows
from arena_assets.lake.lake import ALL, Lake
from arena_assets.lake.tables import TABLES
from arena_assets.plots import markdown_image

_PREVIEW_ROWS = 5


def publish(arena: Arena, table: str, partition: str = ALL, **more: Any) -> dg.MaterializeResult:
    """What an asset says of the partition that it wrote; its data version is the file's digest.

    `more` is metadata of the asset's own.
    """
    return dg.MaterializeResult(
        asset_key=table,
        metadata=table_metadata(arena.lake, table, partition, **more),
        data_version=dg.DataVersion(arena.lake.digest(table, partition)),
    )


def table_metadata(
    lake: Lake,
    table: str,
    partition: str = ALL,
    held: Mapping[str, str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Dagster's standard keys for a partition, and its first rows as Markdown.

    `held` says what the columns hold, of a table that Python does not write.
    """
    place = lake.present(table, partition)
    with pq.ParquetFile(place) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
        first = next(file.iter_batches(_PREVIEW_ROWS), None)
    preview = pa.Table.from_batches([first] if first else [], schema)
    return {
        "dagster/row_count": rows,
        "dagster/column_schema": _columns(schema, TABLES[table].columns if held is None else held),
        "dagster/table_name": table,
        "dagster/uri": place.as_uri(),
        "preview": dg.MetadataValue.md(markdown_table(preview)),
        **more,
    }


def _columns(schema: pa.Schema, held: Mapping[str, str]) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                field.name,
                str(field.type),
                held.get(field.name) or None,
                dg.TableColumnConstraints(nullable=field.nullable),
            )
            for field in schema
        ]
    )


def plot_metadata(lake: Lake, key: str, plots: Mapping[str, bytes]) -> dict[str, dg.MetadataValue]:
    """Plots for the UI by name, and the same as files in <lake>/plots/<round>."""
    folder = lake.root / "plots" / key
    folder.mkdir(parents=True, exist_ok=True)
    for name, png in plots.items():
        scratch = folder / f".{name}.partial"
        scratch.write_bytes(png)
        scratch.replace(folder / f"{name}.png")
    return {name: dg.MetadataValue.md(markdown_image(png)) for name, png in plots.items()}


def markdown_table(table: pa.Table) -> str:
    """A small table as Markdown; long values are cut, and all of them shown as they are."""
    return markdown_rows(table.column_names, table.to_pylist())
