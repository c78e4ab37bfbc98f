"""Training rows in tokens: which of them are learned is decided here, not by a trainer.

A row is rendered turn by turn as its contestant saw it in battle: the target's system prompt and
examples, the dialogue, its own earlier answers, the template's generation prompt. Learned are the
tokens of the answers with their end marks; the user's words and what a prompt brought along are
context. A row that cannot be learned as it is (too long, without an end mark, changed by the
template) is left out with its reason, never cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from arena_assets.hostile_text import shows_nothing
from arena_assets.models.dialogue import Message, open_turns, with_answers
from arena_assets.models.prompting import SystemPrompt

if TYPE_CHECKING:  # whoever reads the profile comes by here, and transformers takes seconds
    from transformers import PreTrainedTokenizerBase

Row = dict[str, Any]


class Unusable(ValueError):
    """A row that cannot be learned; the message is the reason, the same for all of its kind."""


@dataclass(frozen=True)
class Tokens:
    """A dialogue up to the end mark of its last answer.

    `learned` says of each of `ids` whether it is the contestant's own; `whole` adds what the
    template puts after the last answer (often a line break), for a model that scores whole texts.
    """

    ids: list[int]
    learned: list[bool]
    whole: list[int]

    @property
    def labels(self) -> list[int]:
        """The ids to learn, -100 for context."""
        return [i if own else -100 for i, own in zip(self.ids, self.learned, strict=True)]


@dataclass
class Built:
    """Rows as a trainer takes them, and the ids of those that were left out, by reason."""

    rows: list[Row] = field(default_factory=list)
    dropped: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        lost = [f"{len(ids)} left out: {reason}" for reason, ids in self.dropped.items()]
        return "; ".join([f"{len(self.rows)} rows", *lost])


def build(rows: Iterable[Row], make: Callable[[Row], Row]) -> Built:
    """`make` each row; those that are Unusable are counted by reason."""
    built = Built()
    for row in rows:
        try:
            built.rows.append(make(row))
        except Unusable as reason:
            built.dropped.setdefault(str(reason), []).append(row["row_id"])
    return built


class Encoder:
    """Turns rows of the training set into tokens, as one target sees them.

    `end_tokens` are the ids at which the model stops: an answer is learned only with one of them.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        end_tokens: Iterable[int],
        system_prompt: SystemPrompt | None = None,
    ):
        self._tokenizer = tokenizer
        self._end_tokens = frozenset(end_tokens)
        self._control = frozenset(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        self._system_prompt = system_prompt

    def text(self, row: Row, limit: int) -> Row:
        """A row of SFT: `input_ids` and `labels`."""
        chosen = self._chosen(row, limit)
        return {"input_ids": chosen.ids, "labels": chosen.labels}

    def pair(self, row: Row, limit: int) -> Row:
        """A row of DPO: ids and the mask of what is compared, of both sides.

        Where a dialogue has several open turns, each side's answers count in the context of its own
        earlier ones, and the user's words between them count for neither.
        """
        chosen, rejected = self._chosen(row, limit), self._side(row, "rejected", limit)
        return {
            "chosen_ids": chosen.ids,
            "chosen_mask": chosen.learned,
            "rejected_ids": rejected.ids,
            "rejected_mask": rejected.learned,
        }

    def scored_pair(self, row: Row, limit: int) -> Row:
        """A row of the reward model, which scores both dialogues as a whole."""
        chosen, rejected = self._chosen(row, limit), self._side(row, "rejected", limit)
        return {"chosen_ids": chosen.whole, "rejected_ids": rejected.whole}

    def prompt(self, row: Row, limit: int) -> Row:
        """A row of RL: the messages before the first open turn, in at most `limit` tokens."""
        context = self._context(row["messages"], [])
        if len(self._ids(self._render(context, asked=True))) > limit:
            raise Unusable("the prompt leaves no room for an answer within max_length")
        return {"prompt": context}

    def _chosen(self, row: Row, limit: int) -> Tokens:
        if any(map(shows_nothing, row["chosen_turns"])):
            raise Unusable("the answer to learn is empty")
        return self._side(row, "chosen", limit)

    def _side(self, row: Row, side: str, limit: int) -> Tokens:
        tokens = self.dialogue(row["messages"], row[f"{side}_turns"])
        if tokens.learned.index(True) >= limit:
            raise Unusable("the prompt alone fills max_length")
        if len(tokens.whole) > limit:
            raise Unusable("longer than max_length")
        return tokens

    def dialogue(self, messages: Sequence[Message], answers: Sequence[str]) -> Tokens:
        """The dialogue with its open turns answered; Unusable says why it cannot be learned."""
        if not answers or len(answers) != open_turns(messages):
            raise Unusable("a turn without an answer")
        ids: list[int] = []
        learned: list[bool] = []
        whole: list[int] = []
        for turn, answer in enumerate(answers):
            if self._control.intersection(self._ids(answer)):
                raise Unusable("an answer holds control tokens of the model")
            context = self._context(messages, answers[:turn])
            asked = self._render(context, asked=True)
            answered = self._render([*context, {"role": "assistant", "content": answer}])
            seen = self._ids(asked)
            if seen[: len(ids)] != ids:
                if asked.startswith(self._tokenizer.decode(ids)):
                    raise Unusable("earlier turns have other tokens when a later one follows")
                raise Unusable("the chat template changes earlier turns when a later one follows")
            whole = self._continued(asked, seen, answered)
            end = self._end_mark(whole, len(seen))
            learned += [False] * (len(seen) - len(ids)) + [True] * (end - len(seen))
            ids = whole[:end]
        return Tokens(ids, learned, whole)

    def _context(self, messages: Sequence[Message], answers: Sequence[str]) -> list[Message]:
        """What the contestant sees when it answers the next open turn."""
        asked = with_answers(messages, answers)
        return self._system_prompt.before(asked) if self._system_prompt else asked

    def _render(self, messages: list[Message], asked: bool = False) -> str:
        try:
            return self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=asked
            )
        except TemplateError as error:
            raise Unusable(f"the chat template refuses the dialogue ({error})") from error

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]

    def _continued(self, asked: str, seen: list[int], answered: str) -> list[int]:
        """The ids of an answered dialogue, which begin with those that the contestant saw."""
        if not answered.startswith(asked):
            raise Unusable("the chat template does not go on from its own generation prompt")
        together = self._ids(answered)
        if together[: len(seen)] == seen:
            return together
        # the answer's first characters merge with the prompt's last ones; a model that answers
        # starts a new token there
        apart = seen + self._ids(answered[len(asked) :])
        if self._tokenizer.decode(apart) != self._tokenizer.decode(together):
            raise Unusable("the answer's first token merges with the prompt")
        return apart

    def _end_mark(self, ids: list[int], start: int) -> int:
        """The position after the last end token, where only blanks may follow."""
        ends = [place for place in range(start, len(ids)) if ids[place] in self._end_tokens]
        if not ends or self._tokenizer.decode(ids[ends[-1] + 1 :]).strip():
            raise Unusable("the chat template puts no end token of the model after the answer")
        return ends[-1] + 1
