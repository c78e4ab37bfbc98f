{# Every table is one Parquet file a round: <lake>/<table>/<round>.parquet. Tables without rounds lie in all.parquet. #}
{% macro parquet_path(table, partition=none) -%} {{ var('lake') }}/{{ table }}/{{ partition or var('round') }}.parquet {%- endmacro %}

{# Overrides dbt-duckdb's macro of this name. #}
{% macro external_location(relation, config) -%} {{ parquet_path(relation.identifier) }} {%- endmacro %}

{# Ends what would make or test tables where it was not told of which lake and round, before anything is touched. Unit tests,
   `dbt parse` and `dbt docs generate` need no lake. #}
{% macro refuse_without_vars() %}{% if execute and flags.WHICH in ['build', 'run', 'test'] %}
  {% set missing, made = [], [] %}
  {% for name in ['lake', 'round', 'stage', 'minimum_gap', 'selection', 'rounds_so_far', 'trains_on', 'flips', 'quorum'] if var(name) in [none, []] %}
    {% do missing.append(name) %}
  {% endfor %}
  {% for resource in selected_resources if not resource.startswith('unit_test.') %}{% do made.append(resource) %}{% endfor %}
  {% if missing and made %}
    {% do exceptions.raise_compiler_error(
      'These models make the tables of one round of one lake and were not told which (no ' ~ missing | join(', ')
      ~ " in --vars): materialize them in Dagster or with `arena run`, which tell them."
    ) %}
  {% endif %}
{% endif %}{% endmacro %}

{# Sources become views of their files, since models name them as tables. #}
{% macro register_sources() %}{% if execute and var('lake') %}
  {% for source in graph.sources.values() %}
    {% set path = parquet_path(source.identifier, source.config.meta.get('partition')) %}
    {% if run_query("select count(*) from glob('" ~ path ~ "')")[0][0] %}
      {% do run_query("create schema if not exists " ~ source.schema) %}
      {% do run_query("create or replace view " ~ source.schema ~ "." ~ source.identifier ~ " as select * from read_parquet('" ~ path ~ "')") %}
    {% endif %}
  {% endfor %}
  {% do adapter.commit() %}
{% endif %}{% endmacro %}

{# dbt-duckdb pads an empty result with a row of nulls (dbt-duckdb#848); such a row must not reach the file. #}
{% macro write_to_file(relation, location, options) -%}{% call statement('write_to_file') -%}
  copy (select * from {{ relation }} where coalesce({% for c in adapter.get_columns_in_relation(relation) %}{{ c.quoted }}::varchar{{ ', ' if not loop.last }}{% endfor %}) is not null)
  to '{{ location }}' ({{ options }}, use_tmp_file true)
{%- endcall %}{%- endmacro %}

{# This model's files of earlier rounds (those that the round trains on, unless told otherwise); the round being made comes from `current`. #}
{% macro earlier_rounds(table, current, rounds=none) -%}
  {%- set paths = [] -%}
  {%- for round in (rounds or var('trains_on')) if round != var('round') -%}
    {%- do paths.append("'" ~ parquet_path(table, round) ~ "'") -%}
  {%- endfor -%}
  select * from {{ current }}
  {%- if paths %}
  union all by name
  select * from read_parquet([{{ paths | join(', ') }}], union_by_name = true)
  {%- endif %}
{%- endmacro %}
