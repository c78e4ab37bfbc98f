"""What a finish reason says of an answer: cut off, refused, failed, or else a whole one.

Servers have words of their own, and all of them are here. What is known to mean an incomplete
answer is told apart; any other word, and none, may stand for a whole one. Where rows to learn are
chosen, dbt_project/macros/selection.sql has the same words, since SQL cannot read them here; a test
compares the two.
"""

from __future__ import annotations

import re

# Words of the API and of those who imitate it: an answer is stored under our word for them.
STORED_AS = {
    "stop": {"stop", "eos", "eos_token", "end_turn", "stop_sequence"},
    "length": {"length", "max_tokens", "max_output_tokens", "model_length"},
    "refused": {
        *("content_filter", "refusal", "safety", "prohibited_content", "blocklist", "spii"),
    },
}
# A server that stops half-way says so: no answer, and it is asked again.
BROKEN_OFF = {"error", "abort", "aborted", "cancelled"}

CUT_OFF = STORED_AS["length"] | {
    *("max_length", "model_context_window_exceeded", "incomplete", "repetition", "limit"),
    *("token_limit", "max_new_tokens"),
}
REFUSED = STORED_AS["refused"] | {
    *("refused", "content_filtered", "recitation", "guardrail_intervened", "image_safety"),
    "error_toxic",
}
FAILED = BROKEN_OFF | {
    *("failed", "canceled", "timeout", "user_cancel", "error_limit"),
    *("insufficient_system_resource", "malformed_function_call"),
}
INCOMPLETE = REFUSED | FAILED | CUT_OFF

_STORED = {word: ours for ours, words in STORED_AS.items() for word in words}
# a word as it stands in the lists, of the column {0}
PLAIN_SQL = "regexp_replace(lower(trim({0})), '[ -]', '_', 'g')"


def plain(given: str) -> str:
    """A finish reason as it stands in the lists: "Max-Tokens" is max_tokens."""
    return re.sub("[ -]", "_", given.strip().lower())


def incomplete(finish_reason: str) -> bool:
    """Whether a finish reason is known to mean an answer that is not whole."""
    return plain(finish_reason) in INCOMPLETE


def stored_as(given: str) -> str | None:
    """Our word for a server's, where it is one of the API or of those who imitate it."""
    return _STORED.get(given.lower())
