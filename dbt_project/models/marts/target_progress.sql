-- The base model and every checkpoint so far, in time order, as this round's leaderboard rates them.
with steps as (
    select
        leaderboard.contestant,
        leaderboard.rating,
        leaderboard.lower,
        leaderboard.upper,
        leaderboard.mean_score,
        -- "base" comes before every round key in time, though not in the alphabet
        row_number() over (order by leaderboard.contestant != 'base', leaderboard.contestant) - 1 as step
    from {{ ref('leaderboard') }} as leaderboard
    where leaderboard.contestant = 'base'
        or leaderboard.contestant in ('{{ var("rounds_so_far") | join("', '") }}')
)

select
    '{{ var("round") }}' as round,
    steps.step,
    steps.contestant,
    steps.rating,
    steps.lower,
    steps.upper,
    steps.mean_score,
    steps.rating - first_value(steps.rating) over (order by steps.step) as gain_over_base,
    steps.rating - lag(steps.rating) over (order by steps.step) as gain_over_previous
from steps
order by steps.step
