"""The judges of a round and what each counts for: one that decides or a jury, and shadows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pydantic import ValidationError

from arena_assets.config.judges import Judge as JudgeSettings
from arena_assets.config.judges import Jury, LLMJudge, ShadowJudge
from arena_assets.config.places import resolve
from arena_assets.config.profile import Profile
from arena_assets.config.settings_files import ProfileError, explain, read_settings
from arena_assets.judging.active import judge_actively
from arena_assets.judging.games import Games, Judge, Seat, create_answers, draw_battles, open_store
from arena_assets.judging.judges import LanguageModelJudge, Verifier
from arena_assets.judging.verdicts import Verdict
from arena_assets.lake.lake import Lake
from arena_assets.lake.tables import JUDGMENTS
from arena_assets.models.engine import Engine
from arena_assets.models.model import Model


@dataclass(frozen=True)
class Member:
    """A judge, its seat, and how many battles it sees (None: all)."""

    judge: Judge
    seat: Seat
    battles: int | None = None


def open_judge(
    settings: JudgeSettings, known: dict[str, Model], engine: Callable[[Model], Engine]
) -> Judge:
    """A single judge of the profile."""
    if not isinstance(settings, LLMJudge):
        return Verifier(settings.name)
    model = known[settings.model]
    return LanguageModelJudge(settings, model, lambda: engine(model))


def deciding_members(
    settings: JudgeSettings, known: dict[str, Model], engine: Callable[[Model], Engine]
) -> list[Member]:
    """The judge that decides, or the members of the jury that does."""
    if not isinstance(settings, Jury):
        return [Member(open_judge(settings, known, engine), Seat("deciding"))]
    return [
        Member(open_judge(juror.judge, known, engine), Seat("juror", settings.name, juror.weight))
        for juror in settings.members
    ]


def shadow_members(
    shadows: Sequence[ShadowJudge], known: dict[str, Model], engine: Callable[[Model], Engine]
) -> list[Member]:
    """Judges that decide nothing and see a sample of the battles."""
    return [
        Member(open_judge(shadow.judge, known, engine), Seat("shadow"), shadow.battles)
        for shadow in shadows
    ]


def read_shadow_judge(path: str, profile: Profile) -> ShadowJudge:
    """A shadow judge from a YAML file; ProfileError names the file and what is wrong in it."""
    place = resolve(path)
    shadow = read_settings(place, ShadowJudge, "judge")
    try:  # names and models as of the profile
        Profile.model_validate(
            profile.model_dump() | {"shadow_judges": [*profile.shadow_judges, shadow]}
        )
    except ValidationError as error:
        told = "; ".join(explain(problem, Profile, "profile") for problem in error.errors())
        raise ProfileError(f"{place}: {told}") from None
    return shadow


def judge_round(
    lake: Lake,
    table: str,
    responses: str,
    partition: str,
    members: Sequence[Member],
    profile: Profile,
    log: Callable[[str], None],
    active: bool = False,
) -> dict[str, int]:
    """Write a partition of a judgments table: what every member said of its games.

    Returns how many games each judge saw anew.

    With `active` and sampling in the profile, the deciding judges see only the battles that narrow
    the ratings' intervals most; a jury's members all see those that the first one chose.
    """
    judged: dict[str, int] = {}
    failures: dict[str, dict[str, Verdict]] = {}
    views = {"responses": (responses, partition), "prompts": ("prompts_curated", "all")}
    with lake.connect(**views) as connection:
        create_answers(connection)

        def games_of(judge: Judge, battles: pa.Table) -> Games:
            of_judge = failures.setdefault(judge.name, {})
            batch = profile.generation.batch
            return Games(connection, battles, judge, open_store(lake, judge), batch, of_judge)

        drawn: dict[str, pa.Table] = {}
        chosen: pa.Table | None = None
        for member in members:
            judge = member.judge
            battles = draw_battles(connection, member.battles, profile.seed)
            sampling = profile.ratings.sampling if active else None
            if sampling and chosen is None:
                chosen, judged[judge.name] = judge_actively(
                    lambda some, judge=judge: games_of(judge, some),
                    battles,
                    sampling,
                    profile.seed,
                    log,
                )
                battles = chosen
            else:
                battles = battles if chosen is None else chosen
                judged[judge.name] = games_of(judge, battles).judge_missing(log)
            drawn[judge.name] = battles
            log(f"{judge.name}: {judged[judge.name]} games judged anew")

        def rows() -> Iterator[pa.RecordBatch]:
            for member in members:
                games = games_of(member.judge, drawn[member.judge.name])
                yield from games.rows(partition, member.seat)

        lake.write(table, pa.RecordBatchReader.from_batches(JUDGMENTS.schema, rows()), partition)
    return judged
