-- What the round trains on: its own rows and those of the earlier rounds of the same stage.
{%- set tables = {'sft': ['sft_rows'], 'dpo': ['preference_pairs'], 'rl': ['preference_pairs', 'rl_prompts']} %}
-- depends_on: {{ ref('sft_rows') }}, {{ ref('preference_pairs') }}, {{ ref('rl_prompts') }}
with accumulated as (
    {%- for table in tables.get(var('stage'), []) %}
    {{ earlier_rounds(table, ref(table)) }}
    {{ 'union all by name' if not loop.last }}
    {%- endfor %}
)

select
    accumulated.row_id,
    '{{ var("round") }}' as round,
    accumulated.round as source_round,
    accumulated.kind,
    accumulated.prompt_id,
    accumulated.category,
    accumulated.difficulty,
    accumulated.messages,
    accumulated.chosen,
    accumulated.rejected,
    accumulated.chosen_turns,
    accumulated.rejected_turns,
    accumulated.battle_id,
    accumulated.chosen_contestant,
    accumulated.rejected_contestant,
    accumulated.chosen_response,
    accumulated.rejected_response,
    accumulated.gap,
    accumulated.constraints,
    accumulated.reference
from accumulated
order by accumulated.kind, accumulated.round, accumulated.row_id
