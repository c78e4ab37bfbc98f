"""Rewards that somebody outside of the training process gives: it asks the run that started it.

The arena's judges, their models and their store are the run's. A training process sends groups of
completions over a socket in a folder of its own and waits for their rewards; JSON goes both ways.
With several processes a group may be spread over them: the first one asks for all.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, Protocol, TypedDict

from arena_assets.models.dialogue import Message
from arena_assets.training.failures import NoRewards


class Group(TypedDict):
    """The completions of one prompt, and what a judge reads of the prompt."""

    messages: list[Message]
    constraints: str
    reference: str | None
    completions: list[str]


Rewards = list[list[float | None]]  # a group, a completion


class GroupRater(Protocol):
    """Rewards groups of completions; `key` is the identity of what it rewards."""

    @property
    def key(self) -> str: ...

    def __call__(self, groups: Sequence[Group]) -> Rewards: ...


@contextmanager
def answering(rater: GroupRater | None) -> Iterator[Path | None]:
    """Rate what is asked for at the address that this gives; None where nobody rates."""
    if rater is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:  # for this user alone
        address = Path(folder) / "rewards"
        with Listener(str(address), "AF_UNIX") as listener:
            ended = threading.Event()
            answers = threading.Thread(target=_answer, args=(listener, rater, ended), daemon=True)
            answers.start()
            try:
                yield address
            finally:
                ended.set()
                with suppress(OSError):
                    Client(str(address), "AF_UNIX").close()  # wakes it
                answers.join(timeout=5)


def _answer(listener: Listener, rater: GroupRater, ended: threading.Event) -> None:
    while not ended.is_set():
        with listener.accept() as asking, suppress(EOFError, ConnectionError):
            while not ended.is_set():
                _answer_one(asking, rater)


def _answer_one(asking: Connection, rater: GroupRater) -> None:
    groups = json.loads(asking.recv_bytes())
    try:
        answer: dict[str, Any] = {"rewards": rater(groups)}
    except Exception as error:  # told where it was asked for, which ends the training
        answer = {"error": f"{type(error).__name__}: {error}"}
    asking.send_bytes(json.dumps(answer).encode())


class Asking:
    """A connection to whoever rates at an address, opened when it is first used."""

    def __init__(self, address: Path):
        self._address = str(address)
        self._connection: Connection | None = None

    def __call__(self, groups: Sequence[Group]) -> Rewards:
        """Raises NoRewards where they could not be given."""
        if self._connection is None:
            self._connection = Client(self._address, "AF_UNIX")
        self._connection.send_bytes(json.dumps(list(groups)).encode())
        answer = json.loads(self._connection.recv_bytes())
        if "error" in answer:
            raise NoRewards(f"the arena's judge gave no rewards: {answer['error']}")
        return answer["rewards"]


def arena_reward(rate: Callable[[Sequence[Group]], Rewards], size: int) -> Callable[..., Any]:
    """A reward function for TRL that has the groups of all processes, `size` each, rated."""

    def arena(
        completions: Sequence[Sequence[Message]],
        asked: Sequence[list[Message]],
        constraints: Sequence[str],
        reference: Sequence[str | None],
        **_: Any,
    ) -> list[float | None]:
        from accelerate import PartialState
        from accelerate.utils import broadcast_object_list, gather_object

        own = [
            (messages, stated, known, completion[-1]["content"])
            for messages, stated, known, completion in zip(
                asked, constraints, reference, completions, strict=True
            )
        ]
        state, everything = PartialState(), gather_object(own)
        answer: list[Any] = [None]
        if state.is_main_process:
            answer = [_rated(rate, everything, size)]
        broadcast_object_list(answer)
        start = state.process_index * len(own)
        return answer[0][start : start + len(own)]

    return arena


def _rated(
    rate: Callable[[Sequence[Group]], Rewards], everything: Sequence[Any], size: int
) -> list[float | None]:
    groups: list[Group] = []
    for start in range(0, len(everything), size):
        members = everything[start : start + size]
        messages, stated, known, _ = members[0]
        groups.append(
            Group(
                messages=messages,
                constraints=stated,
                reference=known,
                completions=[text for *_, text in members],
            )
        )
    return [reward for group in rate(groups) for reward in group]
