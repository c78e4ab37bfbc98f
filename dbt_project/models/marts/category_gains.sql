-- What the base model and every checkpoint score by category of the test prompts that report, and what was gained.
with scores as (
    select arena_battles.prompt_id, arena_battles.contestant_1 as contestant, arena_battles.score_1 as score
    from {{ ref('arena_battles') }} as arena_battles
    where arena_battles.role = 'deciding' and arena_battles.score_1 is not null
    union all
    select arena_battles.prompt_id, arena_battles.contestant_2, arena_battles.score_2
    from {{ ref('arena_battles') }} as arena_battles
    where arena_battles.role = 'deciding' and arena_battles.score_2 is not null
),

answers as (
    select scores.contestant, scores.prompt_id, avg(scores.score) as score
    from scores
    where scores.contestant = 'base' or scores.contestant in ('{{ var("rounds_so_far") | join("', '") }}')
    group by scores.contestant, scores.prompt_id
),

by_category as (
    select
        testset.category,
        testset.held_out,
        answers.contestant,
        count(*) as prompts,
        avg(answers.score) as mean_score
    from answers
    join {{ source('lake', 'arena_testset') }} as testset on testset.prompt_id = answers.prompt_id
    where testset.purpose != 'select'
    group by testset.category, testset.held_out, answers.contestant
)

select
    '{{ var("round") }}' as round,
    by_category.category,
    by_category.held_out,
    by_category.contestant,
    by_category.prompts,
    by_category.mean_score,
    by_category.mean_score - base.mean_score as gain_over_base
from by_category
left join by_category as base
    on base.category = by_category.category and base.held_out is not distinct from by_category.held_out and base.contestant = 'base'
order by by_category.category, by_category.held_out, by_category.contestant != 'base', by_category.contestant
