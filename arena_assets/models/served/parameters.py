"""What a request to a server says: our settings under the names that the endpoint wants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from arena_assets.config.models import Endpoint
from arena_assets.models.conversations import Ask
from arena_assets.models.dialogue import Message


def body_of(endpoint: Endpoint, ask: Ask, drawn: int = 0) -> dict[str, Any]:
    """The body of a request for the samples that are missing when `drawn` are there.

    All at once at first; then one at a time, each with a seed of its own.
    """
    messages = ask.request.messages if endpoint.system_role else folded(ask.request.messages)
    settings = _settings(endpoint, ask, drawn)
    theirs: dict[str, str | None] = dict(endpoint.parameters.items())
    renamed = {
        their_name: value
        for name, value in settings.items()
        if (their_name := theirs.get(name, name)) is not None
    }
    return {"model": endpoint.model, "messages": messages} | renamed | endpoint.extra_body


def _settings(endpoint: Endpoint, ask: Ask, drawn: int) -> dict[str, Any]:
    """Our settings as the OpenAI API names them; what says nothing is left out."""
    sampling = ask.sampling
    settings: dict[str, Any] = {
        # always, since servers have defaults of their own
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
    }
    if ask.samples > 1 and not drawn:
        settings["n"] = ask.samples
    if sampling.stop:
        settings["stop"] = list(sampling.stop)
    # Greedy answers need no seed. vLLM on a CPU stops where a prompt that has a seed does not fit
    # into one step; a server cannot be asked where it runs, so endpoint.seeds has to say.
    if sampling.seed is not None and endpoint.seeds and sampling.temperature > 0:
        settings["seed"] = sampling.seed + drawn
    if sampling.repetition_penalty != 1:
        settings["repetition_penalty"] = sampling.repetition_penalty
    if ask.json_schema and endpoint.structured_outputs:
        schema = {"name": "answer", "schema": ask.json_schema, "strict": True}
        settings["response_format"] = {"type": "json_schema", "json_schema": schema}
    return settings


def folded(messages: Sequence[Message]) -> list[Message]:
    """The messages without a system role: what it said stands before the next user's words.

    >>> folded([{"role": "system", "content": "Rhyme."}, {"role": "user", "content": "Hi"}])
    [{'role': 'user', 'content': 'Rhyme.\\n\\nHi'}]
    """
    result: list[Message] = []
    said: list[str] = []
    for message in messages:
        if message["role"] == "system":
            said.append(message["content"])
        elif message["role"] == "user":
            result.append({"role": "user", "content": "\n\n".join([*said, message["content"]])})
            said = []
        else:
            result.append(message)
    return result + [{"role": "user", "content": words} for words in said]
