{#
  Why an answer is nothing to learn from: refused, failed, cut off or empty; null for a whole answer.

  What is known to mean an incomplete answer is out, and every other reason is in: servers invent words for "whole", and
  a recording has none. The words are those of arena_assets/models/finish_reasons.py; a test compares them.
#}
{% macro unfit(answer) -%}
{%- set reason = "regexp_replace(lower(trim(" ~ answer ~ ".finish_reason)), '[ -]', '_', 'g')" -%}
case
    when {{ answer }}.prompt_id is null then 'missing'
    when {{ answer }}.status = 'refused' or {{ reason }} in (
        'refused', 'refusal', 'content_filter', 'content_filtered', 'safety', 'recitation', 'blocklist', 'prohibited_content',
        'guardrail_intervened', 'spii', 'image_safety', 'error_toxic'
    ) then 'refused'
    when {{ answer }}.status != 'ok' or {{ reason }} in (
        'error', 'failed', 'abort', 'aborted', 'cancelled', 'canceled', 'timeout', 'user_cancel', 'error_limit',
        'insufficient_system_resource', 'malformed_function_call'
    ) then 'failed'
    when {{ reason }} in (
        'length', 'max_tokens', 'max_output_tokens', 'max_length', 'model_length', 'model_context_window_exceeded', 'incomplete',
        'repetition', 'limit', 'token_limit', 'max_new_tokens'
    ) then 'cut off'
    -- in a dialogue of several turns every one of them is learned
    when not regexp_matches({{ answer }}.text, '[^\s\pZ\pC]')
        or len(list_filter({{ answer }}.turns, lambda turn: not regexp_matches(turn, '[^\s\pZ\pC]'))) > 0 then 'empty'
end
{%- endmacro %}

{# One row per battle that decides, with what the selections ask of its two answers. #}
{% macro answered_battles() -%}
select
    battles.battle_id,
    battles.prompt_id,
    battles.status,
    battles.gap,
    greatest(battles.score_1, battles.score_2) as winning_score,
    winning.contestant as chosen_contestant,
    winning.response_id as chosen_response,
    losing.contestant as rejected_contestant,
    losing.response_id as rejected_response,
    coalesce(winning.role = 'target', false) as target_won,
    coalesce(losing.role = 'target', false) as target_lost,
    -- of several turns all are learned, so a last one that both end with makes them no less different
    coalesce(winning.turns = losing.turns, false) as alike,
    {{ unfit('winning') }} as chosen_unfit,
    {{ unfit('losing') }} as rejected_unfit
from {{ ref('battles') }} as battles
left join {{ source('lake', 'responses') }} as winning
    on winning.prompt_id = battles.prompt_id
    and winning.contestant = battles.winner
left join {{ source('lake', 'responses') }} as losing
    on losing.prompt_id = battles.prompt_id
    and losing.contestant in (battles.contestant_1, battles.contestant_2)
    and losing.contestant != battles.winner
where battles.role = 'deciding'
{%- endmacro %}

{# Every battle that decides and why it makes no SFT row (drop_reason; null for those that do): what the target lost to the
   best whole answer by at least K makes one. The target's own answer may be cut off: it is not learned. #}
{% macro sft_candidates() -%}
{%- set fault %}
    case
        when answered.status != 'decided' then 'undecided: ' || answered.status
        when answered.target_won then 'the target won'
        when not answered.target_lost then 'without the target'
        when answered.chosen_unfit is not null then 'chosen: ' || answered.chosen_unfit
        when answered.alike then 'both say the same'
    end
{%- endset %}
{#- the highest score wins; among equals the clearer battle, then the name, so that the choice is stable #}
{%- set first = 'faulted.winning_score desc, faulted.gap desc, faulted.chosen_contestant' %}
{%- set late = "case when ranked.gap < " ~ var('minimum_gap') ~ " then 'gap below K' end" %}
{{ one_a_prompt(fault, first, late) }}
{%- endmacro %}

{# Every battle that decides and why it makes no preference pair (drop_reason): the clearest one of a prompt makes one.
   Both answers have to be whole: a text cut off at a token limit is long for no reason of its own, and preferring what ended
   over what did not get to its end teaches length, not quality. #}
{% macro preference_candidates() -%}
{%- set fault %}
    case
        when answered.status != 'decided' then 'undecided: ' || answered.status
        when answered.gap < {{ var('minimum_gap') }} then 'gap below K'
        when answered.chosen_unfit is not null then 'chosen: ' || answered.chosen_unfit
        when answered.rejected_unfit is not null then 'rejected: ' || answered.rejected_unfit
        when answered.alike then 'both say the same'
    end
{%- endset %}
{#- the target's own battles teach it most about itself, so they come first where there is one #}
{%- set first = 'faulted.target_won or faulted.target_lost desc, faulted.gap desc, faulted.chosen_contestant, faulted.rejected_contestant' %}
{{ one_a_prompt(fault, first) }}
{%- endmacro %}

{# Battles with their drop_reason: a fault of their own, or that another battle of the prompt, without one, comes first.
   A rule is a line of the fault: it holds for the rows that are made and for the reasons that are counted. `late` is what
   the battle that was chosen may still lack. #}
{% macro one_a_prompt(fault, first, late='null') -%}
select
    ranked.*,
    coalesce(
        ranked.fault,
        case when ranked.place > 1 then 'another battle of the prompt was chosen' end,
        {{ late }}
    ) as drop_reason
from (
    select
        faulted.*,
        row_number() over (partition by faulted.prompt_id, faulted.fault is null order by {{ first }}) as place
    from (
        select
            answered.*,
            {{ fault }} as fault
        from ({{ answered_battles() }}) as answered
    ) as faulted
) as ranked
{%- endmacro %}

{# The rows of a selection, with the words of both answers. #}
{% macro rows_of(kind, candidates) -%}
with candidates as (
    {{ candidates }}
)

select
    md5(concat_ws('|', '{{ kind }}', '{{ var("round") }}', candidates.battle_id)) as row_id,
    '{{ var("round") }}' as round,
    '{{ kind }}' as kind,
    candidates.prompt_id,
    prompts.category,
    prompts.difficulty,
    prompts.messages,
    winning.text as chosen,
    losing.text as rejected,
    winning.turns as chosen_turns,
    losing.turns as rejected_turns,
    candidates.battle_id,
    candidates.chosen_contestant,
    candidates.rejected_contestant,
    candidates.chosen_response,
    candidates.rejected_response,
    candidates.gap,
    -- for rewards of RL, which know no answer to learn
    null::varchar as constraints,
    null::varchar as reference
from candidates
join {{ source('lake', 'responses') }} as winning
    on winning.prompt_id = candidates.prompt_id and winning.contestant = candidates.chosen_contestant
join {{ source('lake', 'responses') }} as losing
    on losing.prompt_id = candidates.prompt_id and losing.contestant = candidates.rejected_contestant
join {{ source('lake', 'prompts_curated') }} as prompts on prompts.prompt_id = candidates.prompt_id
where candidates.drop_reason is null
order by candidates.prompt_id
{%- endmacro %}
