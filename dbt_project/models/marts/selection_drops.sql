-- Why a battle made no SFT row or preference pair, and a prompt no RL prompt: rows and drops together are all there were.
{# read where the round's rule is not the pair judge; dbt has to know before it knows the rule #}
{%- if not execute %}{{ source('lake', 'selected_candidates') }}{% endif %}
with sft as (
    {{ sft_candidates() }}
),

preference as (
    {{ preference_candidates() }}
),

left_out as (
    select 'sft' as kind, sft.prompt_id, sft.battle_id, sft.chosen_contestant, sft.rejected_contestant, sft.gap, sft.drop_reason as reason
    from sft
    union all
    select
        'preference', preference.prompt_id, preference.battle_id, preference.chosen_contestant, preference.rejected_contestant,
        preference.gap, preference.drop_reason
    from preference
    union all
    select distinct 'prompt', battles.prompt_id, null, null, null, null::double, 'nobody answered it whole'
    from {{ ref('battles') }} as battles
    where battles.prompt_id not in (select rl_prompts.prompt_id from {{ ref('rl_prompts') }} as rl_prompts)
)

select
    '{{ var("round") }}' as round,
    left_out.kind,
    left_out.prompt_id,
    left_out.battle_id,
    left_out.chosen_contestant,
    left_out.rejected_contestant,
    left_out.gap,
    left_out.reason
from left_out
where left_out.reason is not null
order by left_out.kind, left_out.prompt_id, left_out.battle_id
