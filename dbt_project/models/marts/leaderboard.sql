-- The ratings of a round with each contestant's share of points on the arena test set.
with sides as (
    select
        arena_battles.contestant_1 as contestant,
        arena_battles.score_1 as score,
        {{ points('arena_battles', 'contestant_1') }} as points
    from {{ ref('arena_battles') }} as arena_battles
    where arena_battles.status in ('decided', 'tie') and arena_battles.role = 'deciding'
    union all
    select
        arena_battles.contestant_2,
        arena_battles.score_2,
        {{ points('arena_battles', 'contestant_2') }}
    from {{ ref('arena_battles') }} as arena_battles
    where arena_battles.status in ('decided', 'tie') and arena_battles.role = 'deciding'
),

points as (
    select
        sides.contestant,
        avg(sides.points) as points,
        avg(sides.score) as mean_score
    from sides
    group by sides.contestant
)

select
    ratings.round,
    ratings.rank,
    ratings.contestant,
    ratings.rating,
    ratings.lower,
    ratings.upper,
    points.points,
    points.mean_score,
    -- what else the ratings have, in their order: a new column of theirs comes along
    ratings.* exclude (round, rank, contestant, rating, lower, upper) -- noqa: AM04, RF02
from {{ source('lake', 'ratings') }} as ratings
left join points on points.contestant = ratings.contestant
order by ratings.rating desc, ratings.contestant
