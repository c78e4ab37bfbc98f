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

{# One row per battle that decides, with what the selections ask of its two answers: the winner's and the other one. #}
{% macro answered_battles(battles=ref('battles')) -%}
select
    battles.battle_id,
    battles.prompt_id,
    battles.status,
    battles.gap,
    case when battles.winner = battles.contestant_1 then battles.score_1 else battles.score_2 end as winning_score,
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
from {{ battles }} as battles
left join {{ source('lake', 'responses') }} as winning
    on winning.prompt_id = battles.prompt_id
    and winning.contestant = battles.winner
left join {{ source('lake', 'responses') }} as losing
    on losing.prompt_id = battles.prompt_id
    and losing.contestant in (battles.contestant_1, battles.contestant_2)
    and losing.contestant != battles.winner
where battles.role = 'deciding'
{%- endmacro %}

{# The battles of the target against an opponent, with the opponent as their winner whoever won: whose answer could be learned. #}
{% macro taught_battles() -%}
(
    select fought.* replace (
        case
            when one.role = 'target' and two.role != 'target' then fought.contestant_2
            when two.role = 'target' and one.role != 'target' then fought.contestant_1
        end as winner
    )
    from {{ ref('battles') }} as fought
    left join {{ source('lake', 'responses') }} as one
        on one.prompt_id = fought.prompt_id and one.contestant = fought.contestant_1
    left join {{ source('lake', 'responses') }} as two
        on two.prompt_id = fought.prompt_id and two.contestant = fought.contestant_2
)
{%- endmacro %}

{# Every battle that decides and why it makes no SFT row, by the rule of the round: the pair judge, or what chose the candidates. #}
{% macro sft_candidates() -%}
{{ sft_of_judge() if var('selection') in (none, 'pair-judge') else sft_of_rule(not_chosen('sft')) }}
{%- endmacro %}

{# Every battle that decides and why it makes no preference pair, by the rule of the round. #}
{% macro preference_candidates() -%}
{{ preference_of_judge() if var('selection') in (none, 'pair-judge') else preference_of_rule(not_chosen('preference')) }}
{%- endmacro %}

{# What a candidate lacks that the round's rule did not choose. #}
{% macro not_chosen(kind) -%}
case
    when ranked.battle_id not in (
        select selected.battle_id from {{ source('lake', 'selected_candidates') }} as selected where selected.kind = '{{ kind }}'
    ) then 'not chosen: {{ var("selection") }}'
end
{%- endmacro %}

{# Every battle that decides and why it makes no SFT row (drop_reason; null for those that do): what the target lost to the
   best whole answer by at least K makes one. The target's own answer may be cut off: it is not learned. #}
{% macro sft_of_judge() -%}
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

{# The same for a rule that chooses prompts whoever won: a prompt's candidate is the best whole answer of an opponent. #}
{% macro sft_of_rule(late='null') -%}
{%- set fault %}
    case
        when not answered.target_lost then 'without the target'
        when answered.chosen_unfit is not null then 'chosen: ' || answered.chosen_unfit
        when answered.alike then 'both say the same'
    end
{%- endset %}
{{ one_a_prompt(fault, 'faulted.winning_score desc nulls last, faulted.chosen_contestant', late, taught_battles()) }}
{%- endmacro %}

{# Every battle that decides and why it makes no preference pair (drop_reason): the clearest one of a prompt makes one.
   Both answers have to be whole: a text cut off at a token limit is long for no reason of its own, and preferring what ended
   over what did not get to its end teaches length, not quality. #}
{% macro preference_of_judge() -%}
{{ clearest_pair("when answered.gap < " ~ var('minimum_gap') ~ " then 'gap below K'") }}
{%- endmacro %}

{# The same for a rule that chooses prompts: a prompt's candidate is its clearest pair, however small the gap. #}
{% macro preference_of_rule(late='null') -%} {{ clearest_pair('', late) }} {%- endmacro %}

{% macro clearest_pair(gap, late='null') -%}
{%- set fault %}
    case
        when answered.status != 'decided' then 'undecided: ' || answered.status
        {{ gap }}
        when answered.chosen_unfit is not null then 'chosen: ' || answered.chosen_unfit
        when answered.rejected_unfit is not null then 'rejected: ' || answered.rejected_unfit
        when answered.alike then 'both say the same'
    end
{%- endset %}
{#- the target's own battles teach it most about itself, so they come first where there is one #}
{%- set first = 'faulted.target_won or faulted.target_lost desc, faulted.gap desc, faulted.chosen_contestant, faulted.rejected_contestant' %}
{{ one_a_prompt(fault, first, late) }}
{%- endmacro %}

{# Battles with their drop_reason: a fault of their own, or that another battle of the prompt, without one, comes first.
   A rule is a line of the fault: it holds for the rows that are made and for the reasons that are counted. `late` is what
   the battle that was chosen may still lack. #}
{% macro one_a_prompt(fault, first, late='null', battles=ref('battles')) -%}
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
        from ({{ answered_battles(battles) }}) as answered
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
