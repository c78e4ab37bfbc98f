-- One row per prompt that the round fought over and somebody answered whole: the policy answers it, the reward model scores.
with fought as (
    select distinct battles.prompt_id
    from {{ ref('battles') }} as battles
),

answered as (
    select distinct responses.prompt_id
    from {{ source('lake', 'responses') }} as responses
    where {{ unfit('responses') }} is null -- noqa: RF03
)

select
    md5(concat_ws('|', 'prompt', '{{ var("round") }}', prompts.prompt_id)) as row_id,
    '{{ var("round") }}' as round,
    'prompt' as kind,
    prompts.prompt_id,
    prompts.category,
    prompts.difficulty,
    prompts.messages,
    null::varchar as chosen,
    null::varchar as rejected,
    null::varchar[] as chosen_turns,
    null::varchar[] as rejected_turns,
    null::varchar as battle_id,
    null::varchar as chosen_contestant,
    null::varchar as rejected_contestant,
    null::varchar as chosen_response,
    null::varchar as rejected_response,
    null::double as gap,
    prompts.constraints,
    prompts.reference
from {{ source('lake', 'prompts_curated') }} as prompts
join fought on fought.prompt_id = prompts.prompt_id
join answered on answered.prompt_id = prompts.prompt_id
order by prompts.prompt_id
