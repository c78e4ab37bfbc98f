"""The judges of a round and what each counts for: one that decides or a jury, and shadows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
from pydantic import ValidationError

from arena_assets.config.judges import JudgeSettings, Jury, LLMJudge, ShadowJudge, VerifierJudge
from arena_assets.config.places import resolve
from arena_assets.config.profile import Profile
from arena_assets.config.settings_files import ProfileError, explain, read_settings
from arena_assets.judging.active import judge_actively
from arena_assets.judging.draw import open_draw
from arena_assets.judging.games import AwaitedJudge, Games, Judge, Seat
from arena_assets.judging.judges import LanguageModelJudge, Verifier
from arena_assets.judging.verdicts import Verdict
from arena_assets.lake.lake import Lake
from arena_assets.lake.tables import JUDGMENTS
from arena_assets.models.engine import Engine
from arena_assets.models.model import Model

Opener = Callable[[Model], Engine]


@dataclass(frozen=True)
class Member:
    """A judge, its seat, and how many battles it sees (None: all)."""

    judge: Judge | AwaitedJudge
    seat: Seat
    battles: int | None = None

    @property
    def asked(self) -> Judge:
        """The judge, for whoever asks it and needs its model to be there."""
        assert not isinstance(self.judge, AwaitedJudge), f"{self.judge.name} has no model yet"
        return self.judge


def members_of_round(
    profile: Profile, known: Mapping[str, Model], engine: Opener, more: Sequence[ShadowJudge] = ()
) -> list[Member]:
    """Who sees the battles of a round: those that decide, then the shadows, `more` among them.

    Shadows decide nothing and see a sample of the battles. Engines are opened when a judge is asked
    for the first time, so a plan needs none.
    """
    return deciding_members(profile.judge, known, engine) + [
        Member(_judge(shadow.judge, known, engine), Seat("shadow"), shadow.battles)
        for shadow in [*profile.shadow_judges, *more]
    ]


def members_of_arena(profile: Profile, known: Mapping[str, Model], engine: Opener) -> list[Member]:
    """Who sees the battles on the test set: those that decide."""
    return deciding_members(profile.judge, known, engine)


def deciding_members(
    settings: JudgeSettings, known: Mapping[str, Model], engine: Opener
) -> list[Member]:
    """The judge that decides, or the members of the jury that does."""
    if not isinstance(settings, Jury):
        return [Member(_judge(settings, known, engine), Seat("deciding"))]
    return [
        Member(_judge(juror.judge, known, engine), Seat("juror", settings.name, juror.weight))
        for juror in settings.members
    ]


def _judge(
    settings: VerifierJudge | LLMJudge, known: Mapping[str, Model], engine: Opener
) -> Judge | AwaitedJudge:
    if isinstance(settings, VerifierJudge):
        return Verifier(settings.name)
    if (model := known.get(settings.model)) is None:
        return AwaitedJudge(settings.name)
    return LanguageModelJudge(settings, model, lambda: engine(model))


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

    The battles are those of the profile's mode; with `active`, on the test set, all pairs. With it
    and sampling in the profile, the deciding judges see only the battles that narrow
    the ratings' intervals most; a jury's members all see those that the first one chose.
    """
    judged: dict[str, int] = {}
    drawn: dict[str, pa.Table] = {}
    failures: dict[str, dict[str, Verdict]] = {member.judge.name: {} for member in members}
    sampling = profile.ratings.sampling if active else None
    mode = "all_pairs" if active else profile.battles.mode
    batch = profile.generation.batch
    with open_draw(lake, responses, partition, profile.seed, batch, mode) as draw:

        def games_of(judge: Judge, battles: pa.Table) -> Games:
            return draw.games(judge, battles, failures[judge.name])

        for number, member in enumerate(members):
            judge, battles = member.asked, draw.battles(member.battles)
            if sampling and number == 0:
                battles, anew = judge_actively(
                    partial(games_of, judge), battles, sampling, profile.seed, log
                )
            else:
                battles = drawn[members[0].judge.name] if sampling else battles
                anew = games_of(judge, battles).judge_missing(log)
            drawn[judge.name], judged[judge.name] = battles, anew
            log(f"{judge.name}: {anew} games judged anew")

        def rows() -> Iterator[pa.RecordBatch]:
            for member in members:
                games = games_of(member.asked, drawn[member.judge.name])
                yield from games.rows(partition, member.seat)

        lake.write(table, pa.RecordBatchReader.from_batches(JUDGMENTS.schema, rows()), partition)
    return judged
