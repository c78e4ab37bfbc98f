-- One row per prompt on which the target lost to the best whole answer by at least K: learn the winner's answer.
{# read where the round's rule is not the pair judge; dbt has to know before it knows the rule #}
{%- if not execute %}{{ source('lake', 'selected_candidates') }}{% endif %}
{{ rows_of('sft', sft_candidates()) }}
