{#
  Battles from games: one row per pair of contestants and prompt, contestants in alphabetical order.

  status: decided or tie (both games agree), inconsistent (the winner changed with the order), failed (a game has no
  usable verdict), abstained (the judge has nothing to go by). The score of a contestant is the mean of the two games.
  With the variable flips: mean, the mean decides where the winner changed with the order.

  A jury is one more judge, the one that decides: its score in a game is the weighted mean of its members' scores, if
  members with at least the quorum of the weight gave one. Members that abstain have no vote; all of them: the jury
  abstains.
#}
{% macro battles_from(games) %}
{%- set flipped = 'paired.games_won_1 > 0 and paired.games_won_2 > 0' if var('flips') == 'inconsistent' else 'false' %}
with voters as (
    select games.*, case when games.status != 'abstained' then games.weight end as vote
    from {{ games }} as games
    where games.role = 'juror'
),

jury_games as (
    select
        voters.round,
        voters.prompt_id,
        voters.jury as judge,
        'deciding' as role,
        case
            when sum(voters.vote) is null then 'abstained'
            when coalesce(sum(voters.vote) filter (where voters.status = 'ok'), 0) < {{ var('quorum') }} * sum(voters.vote)
                then 'failed'
            else 'ok'
        end as status,
        voters.contestant_a,
        voters.contestant_b,
        any_value(voters.response_a) as response_a,
        any_value(voters.response_b) as response_b,
        sum(voters.score_a * voters.weight) / sum(voters.weight) filter (where voters.status = 'ok') as score_a,
        sum(voters.score_b * voters.weight) / sum(voters.weight) filter (where voters.status = 'ok') as score_b
    from voters
    group by voters.round, voters.prompt_id, voters.jury, voters.contestant_a, voters.contestant_b
),

all_games as (
    select
        games.round,
        games.prompt_id,
        games.judge,
        games.role,
        games.status,
        games.contestant_a,
        games.contestant_b,
        games.response_a,
        games.response_b,
        games.score_a,
        games.score_b
    from {{ games }} as games
    union all by name
    select
        jury_games.* replace (
            case when jury_games.status = 'ok' then jury_games.score_a end as score_a,
            case when jury_games.status = 'ok' then jury_games.score_b end as score_b
        )
    from jury_games
),

verdicts as (
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
    from all_games as games
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
        when {{ flipped }} then 'inconsistent'
        when paired.score_1 = paired.score_2 then 'tie'
        else 'decided'
    end as status,
    paired.games,
    paired.games_ok,
    paired.games_won_1,
    paired.games_won_2,
    case when paired.games_ok = 2 then paired.score_1 end as score_1,
    case when paired.games_ok = 2 then paired.score_2 end as score_2,
    case when paired.games_ok = 2 then abs(paired.score_1 - paired.score_2) end as gap,
    case
        when paired.games_ok < 2 or ({{ flipped }}) then null
        when paired.score_1 > paired.score_2 then paired.contestant_1
        when paired.score_2 > paired.score_1 then paired.contestant_2
    end as winner
from paired
order by paired.prompt_id, paired.contestant_1, paired.contestant_2, paired.judge
{% endmacro %}
