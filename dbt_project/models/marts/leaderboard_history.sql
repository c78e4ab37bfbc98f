-- The leaderboards of this round and of all rounds before it.
with boards as (
    {{ earlier_rounds('leaderboard', ref('leaderboard'), var('rounds_so_far')) }}
)

select
    boards.round as rated_after,
    boards.rank,
    boards.contestant,
    boards.rating,
    boards.lower,
    boards.upper,
    boards.points,
    boards.mean_score,
    boards.battles
from boards
order by boards.round, boards.rating desc, boards.contestant
