"""Embeddings by any sentence-transformers model, clusters, and where the weights come from.

The default, wordllama, is a table of one vector a token (16 MB, MIT) that its PyPI package ships: a
hundred times faster than a small transformer on a CPU. Packages are located, never imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from arena_assets.config.places import resolve
from arena_assets.config.prompts import Encoder
from arena_assets.curation.text import TEXT
from arena_assets.lake.tables import PROMPT_EMBEDDINGS

BATCH = 10_000  # rows that are in memory at once

_WORDLLAMA = ("weights/l2_supercat_256.safetensors", "tokenizers/l2_supercat_tokenizer_config.json")
_KMEANS_SAMPLE = 256  # prompts a cluster that its centre is computed from


def load_encoder(settings: Encoder) -> Any:
    """The sentence-transformers model; ValueError where a package holds none."""
    from sentence_transformers import SentenceTransformer

    if settings.hub:
        return SentenceTransformer(
            settings.hub,
            revision=settings.revision,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
    if settings.path:
        return _local(resolve(settings.path))
    assert settings.package  # one of the three is given: see Encoder
    spec = find_spec(settings.package.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise ValueError(
            f"prompts.encoder.package: {settings.package!r} is not installed; pip install it"
        )
    folder = Path(spec.origin).parent
    if (folder / _WORDLLAMA[0]).exists():
        return _token_table(folder / _WORDLLAMA[0], folder / _WORDLLAMA[1])
    for modules in sorted(folder.rglob("modules.json")):
        return _local(modules.parent)
    raise ValueError(
        f"prompts.encoder.package: {settings.package!r} ships no sentence-transformers model "
        "(a folder with modules.json)"
    )


def encode(encoder: Any, texts: Sequence[str], batch: int) -> np.ndarray:
    """(texts, dimensions) float32, each row of length 1 (a text without known words: zeros)."""
    return encoder.encode(
        list(texts), batch_size=batch, normalize_embeddings=True, show_progress_bar=False
    ).astype(np.float32)


def embedded(connection: duckdb.DuckDBPyConnection, settings: Encoder) -> Iterator[pa.RecordBatch]:
    """Rows of prompt_embeddings for the prompts that remain, by prompt_id."""
    encoder = load_encoder(settings)
    texts = connection.sql(f"select prompt_id, {TEXT} as text from remaining order by prompt_id")
    for batch in texts.to_arrow_reader(BATCH):
        vectors = encode(encoder, batch.column("text").to_pylist(), settings.batch)
        offsets = pa.array(np.arange(len(vectors) + 1) * vectors.shape[1], pa.int32())
        lists = pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel()))
        yield pa.RecordBatch.from_arrays(
            [batch.column("prompt_id"), lists], schema=PROMPT_EMBEDDINGS.schema
        )


def stacked(rows: pa.RecordBatch | pa.Table) -> np.ndarray:
    """(rows, dimensions) float32 of the column embedding."""
    column = rows.column("embedding")
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def clusters(vectors: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The K-means cluster of each vector; centres come from a random sample of a large set."""
    from sklearn.cluster import KMeans

    sample = vectors
    if len(vectors) > count * _KMEANS_SAMPLE:
        draw = np.random.default_rng(seed)
        sample = vectors[draw.choice(len(vectors), count * _KMEANS_SAMPLE, replace=False)]
    return KMeans(count, n_init=1, random_state=seed).fit(sample).predict(vectors)


def _local(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(
        str(folder), local_files_only=True, model_kwargs={"use_safetensors": True}
    )


def _token_table(weights: Path, tokenizer: Path) -> Any:
    from safetensors.numpy import load_file
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    (vectors,) = load_file(weights).values()
    table = StaticEmbedding(
        Tokenizer.from_file(str(tokenizer)), embedding_weights=vectors.astype(np.float32)
    )
    return SentenceTransformer(modules=[table], device="cpu")
