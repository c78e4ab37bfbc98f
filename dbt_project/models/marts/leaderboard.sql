-- The ratings of a round on the prompts that report, with each contestant's share of points on them.
with reporting as (
    select testset.prompt_id
    from {{ source('lake', 'arena_testset') }} as testset
    where testset.purpose in ('report', 'all')
),

battles as (
    select
        arena_battles.contestant_1,
        arena_battles.contestant_2,
        arena_battles.status,
        arena_battles.winner,
        arena_battles.score_1,
        arena_battles.score_2
    from {{ ref('arena_battles') }} as arena_battles
    join reporting on reporting.prompt_id = arena_battles.prompt_id
    where arena_battles.status in ('decided', 'tie') and arena_battles.role = 'deciding'
),

sides as (
    select
        battles.contestant_1 as contestant,
        battles.score_1 as score,
        {{ points('battles', 'contestant_1') }} as points
    from battles
    union all
    select
        battles.contestant_2,
        battles.score_2,
        {{ points('battles', 'contestant_2') }}
    from battles
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
    ratings.* exclude (round, rank, contestant, rating, lower, upper), -- noqa: AM04, RF02
    selecting.rating as selecting_rating,
    held_out.rating as held_out_rating,
    held_out.lower as held_out_lower,
    held_out.upper as held_out_upper,
    held_out.gain as held_out_gain
from {{ source('lake', 'ratings') }} as ratings
left join points on points.contestant = ratings.contestant
left join {{ source('lake', 'ratings') }} as selecting on selecting.contestant = ratings.contestant and selecting.purpose = 'select'
left join {{ source('lake', 'ratings') }} as held_out on held_out.contestant = ratings.contestant and held_out.purpose = 'held_out'
where ratings.purpose in ('report', 'all')
order by ratings.rating desc, ratings.contestant
