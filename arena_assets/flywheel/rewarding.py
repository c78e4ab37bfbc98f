"""The judge that rewards the completions of RL, where the profile asks for the arena's."""

from __future__ import annotations

from collections.abc import Callable

from arena_assets.config.judges import Jury
from arena_assets.config.rounds import Round
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.weights import BrokenChain, models
from arena_assets.judging.group_reward import GroupJudge
from arena_assets.judging.judges import LanguageModelJudge
from arena_assets.judging.panel import Member, members_of_arena
from arena_assets.models.model import Local
from arena_assets.training.rewards import ARENA


def judge_of_groups(
    arena: Arena, round_: Round, log: Callable[[str], None], gpus: bool | None = None
) -> GroupJudge | None:
    """The arena's deciding judges as a reward; None in a round that they do not reward.

    `gpus` says whether training takes them (default: where there are any). Raises BrokenChain where
    a judge would need the memory that training needs.
    """
    profile = arena.profile.of_round(round_.key)
    if round_.stage != "rl" or ARENA not in profile.training.rl.rewards:
        return None
    members = members_of_arena(profile, models(arena), arena.open_engine)
    if _on_gpus() if gpus is None else gpus:
        _refuse_local(members)
    quorum = profile.judge.quorum if isinstance(profile.judge, Jury) else 0.0
    return GroupJudge(members, arena.lake, quorum, profile.generation.batch, log)


def _refuse_local(members: list[Member]) -> None:
    for member in members:
        judge = member.judge
        if isinstance(judge, LanguageModelJudge) and isinstance(judge.model, Local):
            raise BrokenChain(
                f"training.rl.reward: the judge {judge.name!r} has its weights on this machine, "
                "whose GPUs train meanwhile: start a server for it and name that as its model's "
                "endpoint, or let the verifier, the reward model or a function reward"
            )


def _on_gpus() -> bool:
    import torch

    return torch.cuda.is_available()
