"""OpenAI-compatible servers over HTTP: `vllm serve`, a fleet of them, a hosted API."""

from __future__ import annotations

import asyncio
import os
import random
import zlib
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from openai import APIConnectionError, APIStatusError, AsyncOpenAI, OpenAIError, Timeout
from openai.types.chat import ChatCompletion
from openai.types.chat.chat_completion import Choice

from arena_assets.config import Endpoint, Sampling
from arena_assets.generation.engines import Completion, Request

FINISH_REASONS = {"stop": "stop", "length": "length", "content_filter": "refused"}
CONNECT_SECONDS = 10.0
ERROR_CHARACTERS = 500


class MalformedAnswer(ValueError):
    """A server said 200 and sent something that is no answer; the next try may be better."""


class OpenAIEngine:
    """Asks an endpoint's servers, many requests at a time; every request gets its completions.

    The openai package retries what fails for a while (408, 409, 429, 5xx, timeouts, broken
    connections and bodies), and waits as long as Retry-After asks. It hands on a 200 that is no
    answer, so that is retried here, out of the same budget.
    """

    def __init__(self, endpoint: Endpoint):
        self._endpoint = endpoint
        self._key = _read_key(endpoint.api_key_env)

    def chat(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        samples: int = 1,
        json_schema: dict[str, Any] | None = None,
    ) -> list[list[Completion]]:
        """As of Engine; a request that the servers refuse for good becomes an error of its own."""
        parameters = _parameters(self._endpoint, sampling, samples, json_schema)
        return asyncio.run(self._answer_all(requests, parameters))

    async def _answer_all(
        self, requests: Sequence[Request], parameters: dict[str, Any]
    ) -> list[list[Completion]]:
        """All answers in order; clients live as long as the event loop that they belong to."""
        slots = asyncio.Semaphore(self._endpoint.concurrency)
        down: set[AsyncOpenAI] = set()
        async with AsyncExitStack() as stack:
            servers = [
                await stack.enter_async_context(self._client(url)) for url in self._endpoint.urls
            ]

            async def answer(request: Request) -> list[Completion]:
                async with slots:
                    return await self._answer(request, parameters, servers, down)

            return await asyncio.gather(*map(answer, requests))

    def _client(self, url: str) -> AsyncOpenAI:
        seconds = self._endpoint.timeout
        return AsyncOpenAI(
            base_url=url,
            api_key=self._key,
            # a host that is gone should not take as long to notice as a long answer takes to write
            timeout=Timeout(seconds, connect=min(seconds, CONNECT_SECONDS)),
        )

    async def _answer(
        self,
        request: Request,
        parameters: dict[str, Any],
        servers: list[AsyncOpenAI],
        down: set[AsyncOpenAI],
    ) -> list[Completion]:
        """One request's completions, from its own server or, where that is down, from the next.

        The server follows from the prompt's id: the turns and games of one prompt meet the prefix
        cache that already holds them.
        """
        first = zlib.crc32(request.prompt_id.encode()) % len(servers)
        turned = servers[first:] + servers[:first]
        problem: Exception | None = None
        for server in sorted(turned, key=down.__contains__):
            try:
                return await self._ask(server, request, parameters)
            except APIConnectionError as error:
                down.add(server)
                problem = error
            except (OpenAIError, ValueError) as error:  # ValueError: text that JSON cannot carry
                problem = error
                break
        if isinstance(problem, APIStatusError) and problem.code == "content_filter":
            return [Completion("", "refused")] * parameters["n"]
        return [Completion("", "error", error=self._describe(problem))] * parameters["n"]

    async def _ask(
        self, server: AsyncOpenAI, request: Request, parameters: dict[str, Any]
    ) -> list[Completion]:
        """One server's answer; raises what is left when the tries are used up."""
        left = self._endpoint.retries
        malformed = 0
        while True:
            client = server.with_options(max_retries=left)
            response = await client.chat.completions.with_raw_response.create(
                model=self._endpoint.model, messages=request.messages, **parameters
            )
            left -= response.retries_taken
            try:
                return _completions(_parse(response), parameters["n"])
            except MalformedAnswer:
                if left == 0:
                    raise
            await asyncio.sleep(min(0.5 * 2**malformed, 8.0) * random.uniform(0.75, 1.0))
            malformed += 1
            left -= 1

    def _describe(self, problem: Exception | None) -> str:
        """The error's class and message; a server or a library may quote the key, this does not."""
        cause = f" ({problem.__cause__!r})" if problem and problem.__cause__ else ""
        message = f"{type(problem).__name__}: {problem}{cause}"
        if self._key != "unused":
            message = message.replace(self._key, "<key>")
        return message[:ERROR_CHARACTERS]


def _read_key(variable: str | None) -> str:
    """The API key; a server without one still gets a header, as the library insists on a key."""
    if variable is None:
        return "unused"
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ValueError(
            f"endpoint.api_key_env: the environment variable {variable} is not set; it holds the "
            "servers' API key"
        )
    return key


def _parameters(
    endpoint: Endpoint, sampling: Sampling, samples: int, json_schema: dict[str, Any] | None
) -> dict[str, Any]:
    """What the API calls our settings."""
    parameters: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "n": samples,
    }
    if sampling.stop:
        parameters["stop"] = list(sampling.stop)
    # Greedy answers need no seed. vLLM on a CPU stops where a prompt that has a seed does not fit
    # into one step; a server cannot be asked where it runs, so endpoint.seeds has to say.
    if sampling.seed is not None and endpoint.seeds and sampling.temperature > 0:
        parameters["seed"] = sampling.seed
    if sampling.repetition_penalty != 1:
        parameters["extra_body"] = {"repetition_penalty": sampling.repetition_penalty}
    if json_schema and endpoint.structured_outputs:
        schema = {"name": "answer", "schema": json_schema, "strict": True}
        parameters["response_format"] = {"type": "json_schema", "json_schema": schema}
    return parameters


def _parse(response: Any) -> ChatCompletion:
    """The body as the library reads it: it returns text where the content type is not JSON."""
    try:
        parsed = response.parse()
    except ValueError as error:
        raise MalformedAnswer(f"not JSON: {error}") from None
    if not isinstance(parsed, ChatCompletion):
        raise MalformedAnswer(f"no chat completion: {str(parsed)[:200]!r}")
    return parsed


def _completions(answer: ChatCompletion, samples: int) -> list[Completion]:
    """One completion a choice; the library does not validate, so anything may be missing."""
    try:
        choices = sorted(answer.choices, key=lambda choice: choice.index)[:samples]
        tokens = getattr(answer.usage, "completion_tokens", None) or 0
        prompt_tokens = getattr(answer.usage, "prompt_tokens", None) or 0
        completions = [
            # the API counts the tokens of all choices together
            _completion(choice, prompt_tokens, tokens // samples + (number < tokens % samples))
            for number, choice in enumerate(choices)
        ]
    except (AttributeError, KeyError, TypeError) as error:
        raise MalformedAnswer(f"{error!r} in {str(answer)[:200]!r}") from None
    if len(completions) < samples:
        raise MalformedAnswer(f"{len(completions)} of {samples} choices")
    return completions


def _completion(choice: Choice, prompt_tokens: int, completion_tokens: int) -> Completion:
    refusal = choice.message.refusal
    # KeyError for a reason such as vLLM's "abort", which a server says when it is stopped
    reason = "refused" if refusal else FINISH_REASONS[choice.finish_reason]
    text = refusal or choice.message.content or ""
    return Completion(text, reason, prompt_tokens, completion_tokens)
