{#
  Battles from games: one row per pair of contestants and prompt, contestants in alphabetical order.

  status: decided or tie (both games agree), inconsistent (the winner changed with the order), failed (a game has no
  usable verdict), abstained (the judge has nothing to go by). The score of a contestant is the mean of the two games.
#}
{% macro battles_from(games) %}
with verdicts as (
    select
        games.round,
        games.prompt_id,
        games.judge,
        games.role,
        games.status,
        least(games.contestant_a, games.contestant_b) as contestant_1,
        greatest(games.contestant_a, games.contestant_b) as contestant_2,
        case when games.contestant_a < games.contestant_b then games.response_a else games.response_b end as response_1,
        case when games.contestant_a < games.contestant_b then games.response_b else games.response_a end as response_2,
        case when games.contestant_a < games.contestant_b then games.score_a else games.score_b end as score_1,
        case when games.contestant_a < games.contestant_b then games.score_b else games.score_a end as score_2
    from {{ games }} as games
),

paired as (
    select
        verdicts.round,
        verdicts.prompt_id,
        verdicts.contestant_1,
        verdicts.contestant_2,
        verdicts.response_1,
        verdicts.response_2,
        verdicts.judge,
        verdicts.role,
        count(*) as games,
        count(*) filter (where verdicts.status = 'ok') as games_ok,
        count(*) filter (where verdicts.status = 'failed') as games_failed,
        avg(verdicts.score_1) as score_1,
        avg(verdicts.score_2) as score_2,
        count(*) filter (where verdicts.score_1 > verdicts.score_2) as games_won_1,
        count(*) filter (where verdicts.score_2 > verdicts.score_1) as games_won_2
    from verdicts
    group by all
)

select
    md5(concat_ws('|', paired.round, paired.prompt_id, paired.contestant_1, paired.contestant_2, paired.judge)) as battle_id,
    paired.round,
    paired.prompt_id,
    paired.contestant_1,
    paired.contestant_2,
    paired.response_1,
    paired.response_2,
    paired.judge,
    paired.role,
    case
        when paired.games_failed > 0 then 'failed'
        when paired.games_ok < 2 then 'abstained'
        when paired.games_won_1 > 0 and paired.games_won_2 > 0 then 'inconsistent'
        when paired.score_1 = paired.score_2 then 'tie'
        else 'decided'
    end as status,
    paired.games,
    paired.games_ok,
    case when paired.games_ok = 2 then paired.score_1 end as score_1,
    case when paired.games_ok = 2 then paired.score_2 end as score_2,
    case when paired.games_ok = 2 then abs(paired.score_1 - paired.score_2) end as gap,
    case
        when paired.games_ok < 2 or (paired.games_won_1 > 0 and paired.games_won_2 > 0) then null
        when paired.score_1 > paired.score_2 then paired.contestant_1
        when paired.score_2 > paired.score_1 then paired.contestant_2
    end as winner
from paired
order by paired.prompt_id, paired.contestant_1, paired.contestant_2, paired.judge
{% endmacro %}
