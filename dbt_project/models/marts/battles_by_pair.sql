-- How every pair of contestants fared against each other on the test prompts that report.
select
    '{{ var("round") }}' as round,
    arena_battles.contestant_1,
    arena_battles.contestant_2,
    count(*) as battles,
    count(*) filter (where arena_battles.status = 'decided') as decided,
    count(*) filter (where arena_battles.status = 'tie') as ties,
    count(*) filter (where arena_battles.status = 'inconsistent') as inconsistent,
    count(*) filter (where arena_battles.status in ('failed', 'abstained')) as without_verdict,
    count(*) filter (where arena_battles.winner = arena_battles.contestant_1) as wins_1,
    count(*) filter (where arena_battles.winner = arena_battles.contestant_2) as wins_2,
    avg({{ points('arena_battles', 'contestant_1') }}) as win_rate_1,
    avg(arena_battles.gap) as mean_gap
from {{ ref('arena_battles') }} as arena_battles
join {{ source('lake', 'arena_testset') }} as testset on testset.prompt_id = arena_battles.prompt_id
where arena_battles.role = 'deciding' and testset.purpose in ('report', 'all')
group by arena_battles.contestant_1, arena_battles.contestant_2
order by arena_battles.contestant_1, arena_battles.contestant_2
