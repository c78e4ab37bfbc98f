{#
  The share of a battle's point that a contestant of it gets: 1 for a win, 0.5 for a tie, 0 for a loss; null where the
  battle decides nothing. Told here once for all of dbt; ratings/battles.py reads a battle's winner by the same rule, and
  a test compares the two on every kind of battle.
#}
{% macro points(battle, contestant) -%}
case
    when {{ battle }}.status = 'tie' then 0.5
    when {{ battle }}.status = 'decided' then ({{ battle }}.winner = {{ battle }}.{{ contestant }})::int
end
{%- endmacro %}
