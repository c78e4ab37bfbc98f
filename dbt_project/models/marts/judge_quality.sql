-- How each judge of the round behaved, and how far it agrees with the judge that decides.
with judged as (
    select judgments.*
    from {{ source('lake', 'judgments') }} as judgments
),

games as (
    select
        judged.judge,
        any_value(judged.role) as role,
        count(*) as games,
        avg((judged.status = 'failed')::int) as failed_rate,
        avg((judged.status = 'abstained')::int) as abstained_rate,
        avg(case when judged.score_a > judged.score_b then 1 when judged.score_a = judged.score_b then 0.5 when judged.score_a < judged.score_b then 0 end)
            as first_position_preference
    from judged
    group by judged.judge
),

battles as (
    select battles.judge, avg((battles.status = 'inconsistent')::int) filter (where battles.games_ok = 2) as flip_rate
    from {{ ref('battles') }} as battles
    group by battles.judge
),

agreement as (
    select
        other.judge,
        count(*) as compared,
        avg((other.winner is not distinct from deciding.winner)::int) as agreement
    from {{ ref('battles') }} as other
    join {{ ref('battles') }} as deciding
        on deciding.prompt_id = other.prompt_id
        and deciding.contestant_1 = other.contestant_1
        and deciding.contestant_2 = other.contestant_2
        and deciding.role = 'deciding'
    where deciding.status in ('decided', 'tie') and other.status in ('decided', 'tie')
    group by other.judge
)

select
    '{{ var("round") }}' as round,
    games.judge,
    games.role,
    games.games,
    games.failed_rate,
    games.abstained_rate,
    games.first_position_preference,
    battles.flip_rate,
    coalesce(agreement.compared, 0) as battles_compared,
    agreement.agreement
from games
left join battles on battles.judge = games.judge
left join agreement on agreement.judge = games.judge
order by games.judge
