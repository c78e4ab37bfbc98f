"""Servers that answer alike: whom to ask next, and who needs a rest.

A prompt has a home, the server whose prefix cache knows it. Where that fails, the next one is asked
at once; where all have failed, all are asked again after a pause that grows. A server that keeps
failing rests, for longer each time, and one request at a time finds out whether it is back. What
is known of the servers lasts as long as the engine, which is a run.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import zlib
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from arena_assets.models.served.problems import (
    Misconfigured,
    NoAnswer,
    Passing,
    Refused,
    Rejected,
    TimedOut,
    Unreachable,
    Unusable,
)

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds between two rounds of one request, doubled
LONGEST_WAIT = 60.0  # seconds that a Retry-After may make a request wait
SLOW_ROUNDS = 2  # in which a request timed out everywhere; it would again, at the same cost
LONGEST_REST = 600.0  # seconds until a server that is down is asked again

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Server:
    """One server and its health; the clock is time.monotonic."""

    url: str
    failures: int = 0  # since its last answer
    rests_until: float = 0.0
    probed: bool = False  # whether one request is finding out if it is back

    @property
    def awake(self) -> bool:
        """Whether it may be asked: it is well, or its rest is over and nobody is trying it."""
        return self.rests_until == 0 or (time.monotonic() >= self.rests_until and not self.probed)

    def answered(self) -> None:
        self.failures, self.rests_until, self.probed = 0, 0.0, False

    def failed(self, problem: NoAnswer, seconds: float) -> float:
        """Rest, unless it may be one request's bad luck; how many seconds, 0 where it does not.

        A rest is longer than the failure took to show, so that a server which accepts requests and
        never answers costs little.
        """
        probe, self.probed = self.probed, False
        if self.rests_until and not probe:
            return 0.0  # requests that were under way when its rest began say nothing new
        self.failures += 1
        wait = problem.wait if isinstance(problem, Passing) else None
        sure = wait or isinstance(problem, Unreachable | Misconfigured)
        if self.failures == 1 and not sure:
            return 0.0
        growing = max(seconds, 2.0 ** min(self.failures - 1, 10))
        rest = max(wait or 0.0, min(growing, LONGEST_REST))
        self.rests_until = time.monotonic() + rest
        return rest


class Fleet:
    """Some servers, and how often one request is tried: once each, and `retries` times more."""

    def __init__(self, urls: Sequence[str], retries: int):
        self.servers = [Server(url) for url in urls]
        self._retries = retries

    async def ask(self, prompt_id: str, post: Callable[[str], Awaitable[T]]) -> T:
        """What `post` makes of the first server that answers.

        Raises Misconfigured where all servers say so, Rejected and Refused as they come, and
        Passing where the tries are used up or would take too long.
        """
        home = zlib.crc32(prompt_id.encode()) % len(self.servers)
        ring = self.servers[home:] + self.servers[:home]
        failed: dict[Server, Passing] = {}  # in this round
        rounds, slow, server = 0, 0, _in_order(ring)[0]
        for left in reversed(range(len(ring) + self._retries)):
            try:
                return await self._try(server, post)
            except Misconfigured:
                if len(ring) == 1:
                    raise
                ring = [other for other in ring if other is not server]
            except Passing as problem:
                failed[server] = last = problem
            following = _next(ring, failed)
            if following is None:
                if not left:
                    break
                slow += all(isinstance(problem, TimedOut) for problem in failed.values())
                if slow == SLOW_ROUNDS:
                    break
                await asyncio.sleep(_pause(failed, rounds))
                failed, rounds = {}, rounds + 1
                following = _in_order(ring)[0]
            server = following
        raise last

    async def _try(self, server: Server, post: Callable[[str], Awaitable[T]]) -> T:
        began = time.monotonic()
        server.probed = server.rests_until > 0
        try:
            answer = await post(server.url)
        except (Unusable, Rejected, Refused):  # the server itself is well
            server.answered()
            raise
        except NoAnswer as problem:
            rest = server.failed(problem, time.monotonic() - began)
            if rest and len(self.servers) > 1:
                _log.warning("%s rests for %.0f s: %s", server.url, rest, problem)
            raise
        except asyncio.CancelledError:
            server.probed = False
            raise
        server.answered()
        return answer


def _next(ring: Sequence[Server], failed: Container[Server]) -> Server | None:
    """The next of the ring to ask in this round; one that rests only where all do."""
    return next((server for server in _in_order(ring) if server not in failed), None)


def _in_order(ring: Sequence[Server]) -> list[Server]:
    """Those that may be asked, or where all rest, all, the shortest rest first."""
    awake = [server for server in ring if server.awake]
    return awake or sorted(ring, key=lambda server: server.rests_until)


def _pause(failed: Mapping[Server, Passing], rounds: int) -> float:
    """Seconds until the next round; Passing where a server asks for more than is waited."""
    problem = min(failed.values(), key=lambda problem: problem.wait or 0.0)
    if (problem.wait or 0.0) > LONGEST_WAIT:
        raise Passing(
            f"{problem}; the server asks to wait {problem.wait:.0f} s, longer than the "
            f"{LONGEST_WAIT:.0f} s that are waited"
        )
    growing = min(FIRST_PAUSE * 2**rounds, LONGEST_PAUSE) * random.uniform(0.75, 1.0)
    return problem.wait or growing
