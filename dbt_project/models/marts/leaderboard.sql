-- The ratings of a round with each contestant's share of points (a win is one, a tie half) on the arena test set.
with sides as (
    select arena_battles.contestant_1 as contestant, arena_battles.winner, arena_battles.score_1 as score
    from {{ ref('arena_battles') }} as arena_battles
    where arena_battles.status in ('decided', 'tie') and arena_battles.role = 'deciding'
    union all
    select arena_battles.contestant_2, arena_battles.winner, arena_battles.score_2
    from {{ ref('arena_battles') }} as arena_battles
    where arena_battles.status in ('decided', 'tie') and arena_battles.role = 'deciding'
),

points as (
    select
        sides.contestant,
        avg(case when sides.winner is null then 0.5 when sides.winner = sides.contestant then 1 else 0 end) as points,
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
    ratings.battles,
    ratings.wins,
    ratings.losses,
    ratings.ties
from {{ source('lake', 'ratings') }} as ratings
left join points on points.contestant = ratings.contestant
order by ratings.rating desc, ratings.contestant
