-- One row per prompt on which the target lost to the best answer by at least K: learn the winner's answer.
with target_battles as (
    select
        battles.battle_id,
        battles.prompt_id,
        battles.gap,
        battles.winner,
        winning.response_id as chosen_response,
        winning.text as chosen,
        winning.turns as chosen_turns,
        target.contestant as rejected_contestant,
        target.response_id as rejected_response,
        target.text as rejected,
        target.turns as rejected_turns,
        case when battles.winner = battles.contestant_1 then battles.score_1 else battles.score_2 end as winning_score
    from {{ ref('battles') }} as battles
    join {{ source('lake', 'responses') }} as target
        on target.prompt_id = battles.prompt_id
        and target.role = 'target'
        and target.contestant in (battles.contestant_1, battles.contestant_2)
    join {{ source('lake', 'responses') }} as winning
        on winning.prompt_id = battles.prompt_id
        and winning.contestant = battles.winner
    where battles.status = 'decided'
        and battles.role = 'deciding'
        and battles.winner != target.contestant
),

best as (
    select target_battles.*
    from target_battles
    -- the highest score wins; among equals the clearer battle, then the name, so that the choice is stable
    qualify row_number() over (
        partition by target_battles.prompt_id
        order by target_battles.winning_score desc, target_battles.gap desc, target_battles.winner
    ) = 1
)

select
    md5(concat_ws('|', 'sft', '{{ var("round") }}', best.battle_id)) as row_id,
    '{{ var("round") }}' as round,
    'sft' as kind,
    best.prompt_id,
    prompts.category,
    prompts.difficulty,
    prompts.messages,
    best.chosen,
    best.rejected,
    best.chosen_turns,
    best.rejected_turns,
    best.battle_id,
    best.winner as chosen_contestant,
    best.rejected_contestant,
    best.chosen_response,
    best.rejected_response,
    best.gap
from best
join {{ source('lake', 'prompts_curated') }} as prompts on prompts.prompt_id = best.prompt_id
where best.gap >= {{ var('minimum_gap') }}
order by best.prompt_id
