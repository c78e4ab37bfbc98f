-- One row per prompt: the decided battle of two whole answers with the largest gap of at least K; the winner may be the target.
{# read where the round's rule is not the pair judge; dbt has to know before it knows the rule #}
{%- if not execute %}{{ source('lake', 'selected_candidates') }}{% endif %}
{{ rows_of('preference', preference_candidates()) }}
