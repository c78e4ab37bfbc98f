-- One row per prompt and kind of row that a rule of selection may choose, and how many rows the pair judge would make.
with candidates as (
    select 'sft' as kind, sft.* from ({{ sft_of_rule() }}) as sft
    union all by name
    select 'preference' as kind, preference.* from ({{ preference_of_rule() }}) as preference
),

judged as (
    select 'sft' as kind, count(*) filter (where sft.drop_reason is null) as wanted
    from ({{ sft_of_judge() }}) as sft
    union all
    select 'preference', count(*) filter (where preference.drop_reason is null)
    from ({{ preference_of_judge() }}) as preference
)

select
    '{{ var("round") }}' as round,
    candidates.kind,
    candidates.prompt_id,
    candidates.battle_id,
    prompts.category,
    prompts.difficulty,
    prompts.messages,
    candidates.chosen_contestant,
    candidates.rejected_contestant,
    winning.text as chosen,
    losing.text as rejected,
    candidates.gap,
    judged.wanted as rows_of_pair_judge
from candidates
join judged on judged.kind = candidates.kind
join {{ source('lake', 'responses') }} as winning
    on winning.prompt_id = candidates.prompt_id and winning.contestant = candidates.chosen_contestant
join {{ source('lake', 'responses') }} as losing
    on losing.prompt_id = candidates.prompt_id and losing.contestant = candidates.rejected_contestant
join {{ source('lake', 'prompts_curated') }} as prompts on prompts.prompt_id = candidates.prompt_id
where candidates.drop_reason is null
order by candidates.kind, candidates.prompt_id
