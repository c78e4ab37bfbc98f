"""Dialogues of several turns: which of them wait for an answer, and in which context.

Assistant messages that a prompt brings are history. Where one is absent between two user messages,
the contestant answers that turn itself, and its own answer is the context of the next turn (the
second turn of MT-Bench is such a prompt).
"""

from __future__ import annotations

from collections.abc import Sequence

Message = dict[str, str]


def open_turns(messages: Sequence[Message]) -> int:
    """How many turns of the dialogue wait for an answer; at least the last one.

    >>> open_turns([{"role": "user", "content": "Hi"}, {"role": "user", "content": "And now?"}])
    2
    """
    following = [message["role"] for message in messages[1:]] + ["user"]
    return sum(
        message["role"] == "user" and after == "user"
        for message, after in zip(messages, following, strict=True)
    )


def with_answers(messages: Sequence[Message], answers: Sequence[str]) -> list[Message]:
    """The dialogue with the first open turns answered, up to the first one that is not.

    >>> asked = [{"role": "user", "content": "Hi"}, {"role": "user", "content": "Bye"}]
    >>> [message["content"] for message in with_answers(asked, ["Ho"])]
    ['Hi', 'Ho', 'Bye']
    """
    dialogue: list[Message] = []
    waiting = list(answers)
    for message in messages:
        if dialogue and dialogue[-1]["role"] == message["role"] == "user":
            if not waiting:
                return dialogue
            dialogue.append({"role": "assistant", "content": waiting.pop(0)})
        dialogue.append(dict(message))
    if waiting:
        dialogue.append({"role": "assistant", "content": waiting.pop(0)})
    return dialogue
