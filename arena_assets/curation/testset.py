"""The held-out arena test set: Diverse prompts spread over clusters, and Hard ones.

Diverse: a few random prompts of every K-means cluster of the embeddings. Hard: of some more random
prompts of every cluster the most difficult. Both together are Mix. Beside them stand prompts of
what is held out whole (see `held_out`). A version, once written, is never changed; it holds its
prompts whole, so that it outlives the collection that it came from. What each prompt is for (see
`split`) is no part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arena_assets.config.prompts import Testset
from arena_assets.curation.collection import remaining
from arena_assets.curation.embeddings import clusters, stacked
from arena_assets.curation.held_out import draw_held_out, held_out_by
from arena_assets.curation.split import with_purposes
from arena_assets.lake.identity import identity
from arena_assets.lake.lake import ALL, Lake
from arena_assets.lake.tables import ARENA_TESTSET, PROMPTS, TESTSET_VERSIONS

Rate = Callable[[pa.Table], dict[str, float]]
_TURNS = "len(list_filter(messages, lambda m: m.role = 'user'))::bigint"
ORDER = "md5($seed || '|' || prompt_id)"  # random, and the same when prompts are added


def candidates(lake: Lake, sources: Sequence[str]) -> tuple[pa.Table, np.ndarray]:
    """What remains after all steps, ordered by prompt_id, and its embeddings, a row each."""
    columns = PROMPTS.schema.names
    with remaining(lake, sources) as connection:
        connection.register(
            "embedded", connection.read_parquet(str(lake.present("prompt_embeddings")))
        )
        found = connection.sql(
            f"""
            select {", ".join(f"remaining.{name}" for name in columns)}, embedding
            from remaining join embedded using (prompt_id) order by remaining.prompt_id
            """
        ).to_arrow_table()
    return found.select(columns), stacked(found)


def build_testset(
    prompts: pa.Table, vectors: np.ndarray, settings: Testset, seed: int, rate: Rate | None
) -> pa.Table:
    """Rows of testset_versions without their version, ordered by prompt_id.

    `prompts` have the columns of PROMPTS, `vectors` a row each. `rate` gives the difficulty of
    prompts that carry none. Raises ValueError where there are fewer prompts than asked for, and
    where a candidate for Hard has no difficulty.
    """
    qualify = np.ones(prompts.num_rows, bool)
    if settings.constrained_only:
        qualify = np.array([value != "[]" for value in prompts["constraints"].to_pylist()], bool)
        prompts, vectors = prompts.filter(pa.array(qualify)), vectors[qualify]
    held = pa.array(held_out_by(prompts, settings, seed), pa.string())
    apart = draw_held_out(
        prompts.append_column("held_out", held).filter(pc.is_valid(held)), settings, seed
    )
    prompts, vectors = prompts.filter(pc.is_null(held)), vectors[pc.is_null(held).to_numpy(False)]
    wanted = settings.clusters * settings.diverse_per_cluster + settings.hard
    if prompts.num_rows < wanted:
        raise ValueError(
            f"prompts.testset asks for {wanted} prompts ({settings.clusters} clusters x "
            f"{settings.diverse_per_cluster} and {settings.hard} hard), but only "
            f"{prompts.num_rows} qualify{', without what is held out' if apart.num_rows else ''}"
        )
    found = pa.array(clusters(vectors, settings.clusters, seed), pa.int64())
    clustered = prompts.append_column("cluster", found)
    drawn = _drawn(clustered, apart, settings, seed, rate)
    hard = drawn["part"].to_pylist().count("hard")
    if hard < settings.hard:
        raise ValueError(
            f"prompts.testset.hard asks for {settings.hard} prompts, but the clusters have only "
            f"{hard} candidates; raise hard_candidates_per_cluster "
            f"({settings.hard_candidates_per_cluster})"
        )
    names = [name for name in TESTSET_VERSIONS.schema.names if name != "version"]
    return drawn.select(names).cast(
        pa.schema([TESTSET_VERSIONS.schema.field(name) for name in names])
    )


def _drawn(
    clustered: pa.Table, apart: pa.Table, settings: Testset, seed: int, rate: Rate | None
) -> pa.Table:
    """Diverse and Hard of prompts with their clusters, and beside them what is held out."""
    with duckdb.connect() as connection:
        connection.register("clustered", clustered)
        connection.execute(
            f"""
            create table candidates as
            select *, {_TURNS} as turns,
                   {ORDER} as place,
                   row_number() over (partition by cluster order by {ORDER}) as nth
            from clustered
            qualify nth <= $diverse + $hard
            """,
            {
                "seed": str(seed),
                "diverse": settings.diverse_per_cluster,
                "hard": settings.hard_candidates_per_cluster if settings.hard else 0,
            },
        )
        if settings.hard:
            _fill_difficulty(connection, settings, rate)
        connection.register("apart", apart)
        return connection.sql(
            f"""
            with parted as (
                select *, if(nth <= $diverse, 'diverse', 'hard') as part from candidates
            ), ranked as (
                select *, row_number() over (
                    partition by part order by difficulty desc, place
                ) as hardest
                from parted
            )
            select * exclude (place, nth, hardest) from ranked
            where part = 'diverse' or hardest <= $hard
            union all by name
            select *, {_TURNS} as turns, 'held out' as part,
                   -- what is held out by the same name is a cluster of its own
                   $clusters - 1 + dense_rank() over (order by held_out) as cluster
            from apart
            order by prompt_id
            """,
            params={
                "diverse": settings.diverse_per_cluster,
                "hard": settings.hard,
                "clusters": settings.clusters,
            },
        ).to_arrow_table()


def _fill_difficulty(
    connection: duckdb.DuckDBPyConnection, settings: Testset, rate: Rate | None
) -> None:
    """Rate the candidates for Hard that carry no difficulty."""
    lacking = connection.sql(
        f"""
        select {", ".join(PROMPTS.schema.names)} from candidates
        where difficulty is null and nth > {settings.diverse_per_cluster} order by prompt_id
        """
    ).to_arrow_table()
    if not lacking.num_rows:
        return
    if rate is None:
        raise ValueError(
            f"prompts.testset.hard: {lacking.num_rows} candidates have no difficulty; name a model "
            "in prompts.testset.rater, or set hard: 0"
        )
    rated = rate(lacking)
    if not rated:
        raise ValueError(
            f"prompts.testset.rater: none of {lacking.num_rows} ratings could be parsed; "
            "try another model"
        )
    ratings = pa.table({"prompt_id": list(rated), "rating": list(rated.values())})
    connection.register("ratings", ratings)
    connection.execute(
        """
        update candidates set difficulty = ratings.rating from ratings
        where ratings.prompt_id = candidates.prompt_id
        """
    )
    # a prompt that the model could not rate is no candidate
    connection.execute(
        f"delete from candidates where difficulty is null and nth > {settings.diverse_per_cluster}"
    )


def current_version(lake: Lake) -> str:
    """The name of the version that `arena_testset` is."""
    return lake.read("arena_testset", columns=["version"])["version"][0].as_py()


def freeze(lake: Lake, testset: pa.Table) -> str:
    """Write a test set as the next version; returns its name."""
    number = len(lake.partitions("testset_versions")) + 1
    version = f"v{number:03d}-{identity('test set', rows=testset.to_pylist())[:8]}"
    if lake.exists("testset_versions", version):
        raise FileExistsError(f"test set {version} is there already and never changes")
    named = testset.append_column("version", pa.array([version] * testset.num_rows, pa.string()))
    lake.write("testset_versions", named, version)
    return version


def current_testset(lake: Lake, version: str, settings: Testset, seed: int) -> pa.Table:
    """The rows of arena_testset: a version's prompts with their families and purposes."""
    names = {*PROMPTS.schema.names, *ARENA_TESTSET.schema.names}
    known = [name for name in TESTSET_VERSIONS.schema.names if name in names]
    whole = lake.read("testset_versions", version, known)
    return with_purposes(whole, settings, seed).select(ARENA_TESTSET.schema.names)


def counted_parts(lake: Lake) -> pa.Table:
    """The parts of the current test set and the mix of both, with what is in them."""
    return lake.query(
        """
        select part, count(*) as prompts, count(*) filter (purpose = 'select') as selecting,
               count(*) filter (purpose = 'report') as reporting,
               count(distinct family) as families, count(distinct cluster) as clusters,
               count(distinct category) as categories, avg(difficulty) as difficulty,
               avg((turns > 1)::int) as multi_turn_share, any_value(version) as version
        from (
            select * from testset union all by name
            select * replace ('mix' as part) from testset where held_out is null
        )
        group by part order by part
        """,
        testset=("arena_testset", ALL),
    )


def testset_prompts(lake: Lake) -> pa.Table:
    """The prompts of the current test set, to be answered: prompt_id, messages, constraints."""
    return lake.query(
        """
        select prompts.prompt_id, prompts.messages, prompts.constraints
        from prompts join testset on testset.prompt_id = prompts.prompt_id
        order by prompts.prompt_id
        """,
        prompts=("prompts_curated", ALL),
        testset=("arena_testset", ALL),
    )
