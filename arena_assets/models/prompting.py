"""What a model is told: system prompts with worked examples, and templates with blanks to fill."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any

from pydantic import Field

from arena_assets.config.contents import jinja_tokens
from arena_assets.config.places import resolve
from arena_assets.config.settings import Settings
from arena_assets.config.settings_files import read_settings
from arena_assets.lake.identity import NOT_IDENTITY, As
from arena_assets.models.dialogue import Message


class Example(Settings):
    """One exchange that shows how to answer."""

    user: str
    assistant: str


class SystemPrompt(Settings):
    """A versioned system prompt with worked examples, read from YAML."""

    version: Annotated[str, NOT_IDENTITY]  # a label
    system: str
    examples: tuple[Example, ...] = ()

    def before(self, messages: Sequence[Message]) -> list[Message]:
        """The conversation with this prompt and its examples put before it."""
        rendered = [{"role": "system", "content": self.system}]
        for example in self.examples:
            rendered.append({"role": "user", "content": example.user})
            rendered.append({"role": "assistant", "content": example.assistant})
        # A prompt may bring a system message of its own; templates allow only one, at the start.
        if messages and messages[0]["role"] == "system":
            rendered[0]["content"] += "\n\n" + messages[0]["content"]
            messages = messages[1:]
        return rendered + list(messages)


def read_system_prompt(path: str | None) -> SystemPrompt | None:
    """The system prompt of a file; ProfileError names the file and what is wrong in it."""
    return read_settings(resolve(path), SystemPrompt, "system prompt") if path else None


class PromptTemplate(Settings):
    """A versioned prompt for one question, read from YAML; `user` is Jinja."""

    version: Annotated[str, NOT_IDENTITY]  # a label
    system: str
    user: Annotated[str, As(jinja_tokens)] = Field(description="Jinja")

    def render(self, **values: Any) -> list[Message]:
        """The system's and the user's words; a blank without a value is an error."""
        user = _compiled(self.user).render(**values)
        return [{"role": "system", "content": self.system}, {"role": "user", "content": user}]


@lru_cache(maxsize=32)
def _compiled(template: str) -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    return SandboxedEnvironment(undefined=StrictUndefined).from_string(template)
