"""Rows of a Parquet file, in batches of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from arena_assets.reading.records import BATCH, Record

_BYTES = 64 * 1024 * 1024  # of a batch, as the file counts them


class _Unread:
    """The value of a column that is there and was not asked for."""

    def __repr__(self) -> str:
        return "not read"


UNREAD = _Unread()


def parquet_rows(
    opened: pa.NativeFile, path: str, wanted: Callable[[str], bool]
) -> Iterator[Record]:
    """The rows; columns that are not wanted are UNREAD.

    A value that Python cannot hold is its row's problem. Raises ValueError for a column that is
    there twice, and Arrow's exceptions for a file that is broken.
    """
    with pq.ParquetFile(opened) as file:
        names = file.schema_arrow.names
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{path}: the column {name!r} is there twice; rename one")
        columns = [name for name in names if wanted(name)]
        others = dict.fromkeys((name for name in names if name not in columns), UNREAD)
        number = 0
        for batch in file.iter_batches(_batch_rows(file.metadata), columns=columns):
            for row in _python_rows(batch):
                number += 1
                if isinstance(row, dict):
                    yield Record(number, row | others)
                else:
                    yield Record(number, {}, row, "")


def _batch_rows(metadata: pq.FileMetaData) -> int:
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    size = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=1)
    return min(BATCH, max(1, _BYTES // max(size, 1)))


def _python_rows(batch: pa.RecordBatch) -> list[dict[str, Any] | str]:
    """Each row as a dictionary, or the reason why Python cannot hold it."""
    try:
        return batch.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        if batch.num_rows == 1:
            return [_reason(batch)]
        middle = batch.num_rows // 2
        return _python_rows(batch.slice(0, middle)) + _python_rows(batch.slice(middle))


def _reason(row: pa.RecordBatch) -> str:
    for name in row.schema.names:
        try:
            row.column(name).to_pylist()
        except UnicodeDecodeError:
            return f"{name}: not UTF-8"
        except (ValueError, OverflowError, pa.ArrowException) as error:
            return f"{name}: {error}"
    return "cannot be read"
