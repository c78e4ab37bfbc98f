"""The held-out arena test set: Diverse prompts spread over clusters, and Hard ones."""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa

from arena_assets.config import Testset
from arena_assets.curation.curate import conversation_words
from arena_assets.tables import ARENA_TESTSET

_DIMENSIONS = 64


def build_testset(prompts: pa.Table, settings: Testset, seed: int) -> pa.Table:
    """Diverse: a few random prompts a cluster. Hard: of the rest the most difficult.

    Raises ValueError where there are fewer prompts than asked for.
    """
    rows = [
        row
        for row in prompts.sort_by("prompt_id").to_pylist()
        if not settings.constrained_only or row["constraints"] != "[]"
    ]
    wanted = settings.clusters * settings.diverse_per_cluster + settings.hard
    if len(rows) < wanted:
        raise ValueError(
            f"prompts.testset asks for {wanted} prompts ({settings.clusters} clusters x "
            f"{settings.diverse_per_cluster} and {settings.hard} hard), but only "
            f"{len(rows)} qualify"
        )
    clusters = _clusters(
        [" ".join(conversation_words(r["messages"])) for r in rows], settings, seed
    )
    for row, cluster in zip(rows, clusters, strict=True):
        row["cluster"] = int(cluster)
        row["order"] = seeded_order(row["prompt_id"], seed)
    rows.sort(key=lambda row: row["order"])
    diverse: list[dict[str, Any]] = []
    for cluster in range(settings.clusters):
        members = [row for row in rows if row["cluster"] == cluster]
        diverse += members[: settings.diverse_per_cluster]
    drawn = {row["prompt_id"] for row in diverse}
    rest = [row for row in rows if row["prompt_id"] not in drawn]
    # sorting is stable: among equally difficult prompts the seeded order decides
    rest.sort(
        key=lambda row: -1.0 if row["difficulty"] is None else row["difficulty"], reverse=True
    )
    chosen = [(row, "diverse") for row in diverse]
    chosen += [(row, "hard") for row in rest[: settings.hard]]
    table = [
        {name: row.get(name) for name in ARENA_TESTSET.schema.names} | {"part": part}
        for row, part in chosen
    ]
    return pa.Table.from_pylist(table, schema=ARENA_TESTSET.schema).sort_by("prompt_id")


def seeded_order(prompt_id: str, seed: int) -> str:
    """A random position that prompts added later do not change."""
    return hashlib.sha256(f"{seed}|{prompt_id}".encode()).hexdigest()


def _clusters(texts: list[str], settings: Testset, seed: int) -> Any:
    """The cluster of each text: K-means over TF-IDF reduced by a truncated SVD."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    weighted = TfidfVectorizer(sublinear_tf=True).fit_transform(texts)
    if weighted.shape[1] > _DIMENSIONS:
        reduce = make_pipeline(TruncatedSVD(_DIMENSIONS, random_state=seed), Normalizer(copy=False))
        weighted = reduce.fit_transform(weighted)
    return KMeans(settings.clusters, n_init=1, random_state=seed).fit_predict(weighted)
