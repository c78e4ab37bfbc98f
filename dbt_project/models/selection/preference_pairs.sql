-- One row per prompt: the decided battle with the largest gap of at least K; the winner may be the target itself.
with pairs as (
    select
        battles.battle_id,
        battles.prompt_id,
        battles.gap,
        winning.contestant as chosen_contestant,
        winning.response_id as chosen_response,
        winning.text as chosen,
        winning.turns as chosen_turns,
        losing.contestant as rejected_contestant,
        losing.response_id as rejected_response,
        losing.text as rejected,
        losing.turns as rejected_turns,
        (winning.role = 'target' or losing.role = 'target') as with_target
    from {{ ref('battles') }} as battles
    join {{ source('lake', 'responses') }} as winning
        on winning.prompt_id = battles.prompt_id
        and winning.contestant = battles.winner
    join {{ source('lake', 'responses') }} as losing
        on losing.prompt_id = battles.prompt_id
        and losing.contestant in (battles.contestant_1, battles.contestant_2)
        and losing.contestant != battles.winner
    where battles.status = 'decided'
        and battles.role = 'deciding'
        and battles.gap >= {{ var('minimum_gap') }}
),

clearest as (
    select pairs.*
    from pairs
    -- the target's own battles teach it most about itself, so they come first where there is one
    qualify row_number() over (
        partition by pairs.prompt_id
        order by pairs.with_target desc, pairs.gap desc, pairs.chosen_contestant, pairs.rejected_contestant
    ) = 1
)

select
    md5(concat_ws('|', 'preference', '{{ var("round") }}', clearest.battle_id)) as row_id,
    '{{ var("round") }}' as round,
    'preference' as kind,
    clearest.prompt_id,
    prompts.category,
    prompts.difficulty,
    prompts.messages,
    clearest.chosen,
    clearest.rejected,
    clearest.chosen_turns,
    clearest.rejected_turns,
    clearest.battle_id,
    clearest.chosen_contestant,
    clearest.rejected_contestant,
    clearest.chosen_response,
    clearest.rejected_response,
    clearest.gap
from clearest
join {{ source('lake', 'prompts_curated') }} as prompts on prompts.prompt_id = clearest.prompt_id
order by clearest.prompt_id
