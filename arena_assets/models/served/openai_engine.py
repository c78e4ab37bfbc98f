"""OpenAI-compatible servers over HTTP: `vllm serve`, a fleet of them, a hosted API."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Sequence
from typing import Any

import httpx2

from arena_assets.config.models import Endpoint, Sampling
from arena_assets.models.conversations import Arrived, Ask, Conversation, Ended, T, advance, once
from arena_assets.models.engine import BackendDown, Completion, Request
from arena_assets.models.served.connections import broken_connection
from arena_assets.models.served.envelope import completions_of, model_of, parse
from arena_assets.models.served.fleet import Fleet
from arena_assets.models.served.parameters import body_of
from arena_assets.models.served.problems import (
    Misconfigured,
    NoAnswer,
    Passing,
    Refused,
    Rejected,
    TimedOut,
    Unusable,
    problem_of,
)

CONNECT_SECONDS = 10.0
ERROR_CHARACTERS = 500
SILENCE = 16  # requests in a row without an answer, after which the servers are given up
FEW = 3  # enough where none had an answer before, and there are no more or all are told a mend

_log = logging.getLogger(__name__)


class OpenAIEngine:
    """Leads `concurrency` conversations at a time with an endpoint's servers.

    Each is handed on as it ends, so that a run that is killed repeats what was under way and no
    more. What one request does wrong is an error of its own. BackendDown is raised where the
    servers will refuse everybody, or nobody answers any more; what is under way then still ends.
    """

    def __init__(self, endpoint: Endpoint):
        self._endpoint = endpoint
        self._key = read_key(endpoint.api_key_env)
        self._fleet = Fleet(endpoint.urls, endpoint.retries)
        self._silent = 0  # requests without an answer since the last that had one
        self._last: NoAnswer | None = None  # why the last of them did
        self._heard = False
        self._down: BackendDown | None = None
        self._met: set[str] = set()  # addresses from which something came
        self._models = {endpoint.model}  # names that were told

    def chat(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        samples: int = 1,
        json_schema: dict[str, Any] | None = None,
    ) -> list[list[Completion]]:
        """As of Engine."""
        asks = [Ask(request, sampling, samples, json_schema) for request in requests]
        answers: dict[int, list[Completion]] = {}
        self.converse([once(ask) for ask in asks], answers.update)
        return [answers[number] for number in range(len(asks))]

    def converse(self, conversations: Sequence[Conversation[T]], arrived: Arrived[T]) -> None:
        """As of ConversingEngine."""
        self._down = None
        asyncio.run(self._converse(conversations, arrived))
        if self._down:
            raise self._down
        # a few rows that are left over and fail do not say that the servers do
        told = isinstance(self._last, Misconfigured)
        if self._last and not self._heard and self._silent >= (1 if told else FEW):
            raise self._silence(self._last)

    async def _converse(
        self, conversations: Sequence[Conversation[T]], arrived: Arrived[T]
    ) -> None:
        """A client lives as long as the event loop that it belongs to."""
        slots = asyncio.Semaphore(self._endpoint.concurrency)

        async def lead(number: int, conversation: Conversation[T]) -> None:
            async with slots:
                step = advance(conversation)
                while not isinstance(step, Ended):
                    if self._down:
                        return
                    step = advance(conversation, await self._answer(client, step))
            arrived([(number, step.result)])

        async with self._client() as client:
            tasks = [asyncio.ensure_future(lead(*each)) for each in enumerate(conversations)]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()

    def _client(self) -> httpx2.AsyncClient:
        seconds = self._endpoint.timeout
        return httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            # a host that is gone should not take as long to notice as a long answer takes to write
            timeout=httpx2.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS)),
            limits=httpx2.Limits(max_keepalive_connections=self._endpoint.concurrency),
        )

    async def _answer(self, client: httpx2.AsyncClient, ask: Ask) -> list[Completion]:
        """All samples of an ask; where one cannot be had, there are errors only.

        Servers that ignore `n` give one sample; those that are missing are asked for one by one.
        """
        drawn: list[Completion] = []
        try:
            while len(drawn) < ask.samples:
                body, missing = body_of(self._endpoint, ask, len(drawn)), ask.samples - len(drawn)

                async def post(
                    url: str, body: dict[str, Any] = body, missing: int = missing
                ) -> list[Completion]:
                    return await self._post(client, url, body, missing)

                drawn += await self._fleet.ask(ask.request.prompt_id, post)
        except Refused as refused:
            drawn += [Completion(self._words(refused), "refused")] * (ask.samples - len(drawn))
        except NoAnswer as problem:
            self._note(problem)
            return [Completion("", "error", error=self._words(problem))] * ask.samples
        self._silent, self._heard = 0, True
        return drawn

    async def _post(
        self, client: httpx2.AsyncClient, url: str, body: dict[str, Any], samples: int
    ) -> list[Completion]:
        """The good completions that one server gives, at least one and at most `samples`.

        Raises NoAnswer where there is none.
        """
        seconds = self._endpoint.timeout
        try:
            # in all, not only between two bytes: a server may send a blank now and then
            async with asyncio.timeout(seconds):
                response = await client.post(
                    f"{url}/chat/completions",
                    content=json.dumps(body),  # escaped, so that any text passes
                    headers={"Content-Type": "application/json"},
                )
        except (TimeoutError, httpx2.ReadTimeout, httpx2.WriteTimeout):
            raise TimedOut(f"no answer within {seconds:g} s (endpoint.timeout)") from None
        except httpx2.RequestError as error:
            raise await broken_connection(error, url, url not in self._met) from None
        self._met.add(url)
        if not response.is_success:
            raise _refusal(response, body)
        answer = parse(response.content, response.charset_encoding)
        found = completions_of(answer, samples, body)
        self._note_model(model_of(answer))
        good = [each for each in found if isinstance(each, Completion)]
        if not good:
            raise next(each for each in found if isinstance(each, NoAnswer))
        return good

    def _note(self, problem: NoAnswer) -> None:
        """Give the servers up where going on is of no use.

        What they say to one request only, of whatever kind, says nothing about the others.
        """
        if isinstance(problem, Unusable | Rejected):
            self._silent, self._heard = 0, True
            return
        self._silent, self._last = self._silent + 1, problem
        at_once = isinstance(problem, Misconfigured) and not self._heard
        if self._silent >= (FEW if at_once else SILENCE):
            self._down = self._silence(problem)

    def _silence(self, last: NoAnswer) -> BackendDown:
        told = isinstance(last, Misconfigured)
        what = "" if told else f"{self._silent} requests in a row were not answered, "
        return BackendDown(f"{', '.join(self._endpoint.urls)}: {what}{self._words(last)}")

    def _note_model(self, name: str | None) -> None:
        if name and name not in self._models:
            self._models.add(name)
            asked = self._endpoint.model
            _log.warning("asked for the model %s, the server names its answers' %s", asked, name)

    def _words(self, problem: NoAnswer) -> str:
        """The problem's sentence; a server or a library may quote the key, this does not."""
        words = str(problem)
        return (words.replace(self._key, "<key>") if self._key else words)[:ERROR_CHARACTERS]


def _refusal(response: httpx2.Response, body: dict[str, Any]) -> NoAnswer:
    try:
        said = parse(response.content)
    except Passing:
        said = None
    return problem_of(response.status_code, response.headers, said, response.text, body)


def read_key(variable: str | None) -> str | None:
    """The API key, where there is one. ValueError where the variable does not hold one."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ValueError(
            f"endpoint.api_key_env: the environment variable {variable} is not set; export it "
            "with the servers' API key before the run"
        )
    if not (key.isascii() and key.isprintable()):
        raise ValueError(
            f"endpoint.api_key_env: the environment variable {variable} holds characters that no "
            "API key has; export it with the servers' key"
        )
    return key
