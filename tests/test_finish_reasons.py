"""What a finish reason says is told once: at a server's door, among samples, in what is learned."""

from __future__ import annotations

import re

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_assets.checks.suites import suites
from arena_assets.config.places import PROJECT
from arena_assets.config.profile import load_profile
from arena_assets.models.engine import Completion
from arena_assets.models.finish_reasons import (
    BROKEN_OFF,
    CUT_OFF,
    FAILED,
    INCOMPLETE,
    PLAIN_SQL,
    REFUSED,
    STORED_AS,
    incomplete,
    plain,
    stored_as,
)
from arena_assets.models.served.envelope import completions_of
from arena_assets.models.served.problems import NoAnswer

SELECTION = (PROJECT / "dbt_project/macros/selection.sql").read_text("utf-8")


def test_what_is_learned_and_what_is_kept_share_one_list_of_incomplete_reasons():
    lists = re.findall(r"reason }} in \((.*?)\)", SELECTION, re.S)
    found = [set(re.findall(r"'(\w+)'", words)) for words in lists]
    assert found == [REFUSED, FAILED, CUT_OFF]


def test_sql_and_python_read_a_word_alike():
    (of_dbt,) = re.findall(r'set reason = "(.*)" -?%}', SELECTION)
    assert of_dbt.replace('" ~ answer ~ ".finish_reason', "{0}") == PLAIN_SQL
    assert PLAIN_SQL.format("t.finish_reason") in suites(load_profile())["responses"].sql


@given(st.sampled_from(sorted(INCOMPLETE)), st.sampled_from([str.upper, str.title, " {} ".format]))
@settings(max_examples=50, deadline=None)
def test_the_spelling_of_a_word_changes_nothing(word, spelled):
    given_word = spelled(word.replace("_", "-"))
    (found,) = duckdb.sql(
        f"select {PLAIN_SQL.format('$word')}", params={"word": given_word}
    ).fetchall()
    assert found == (word,) == (plain(given_word),) and incomplete(given_word)


def test_a_word_means_one_thing():
    assert not REFUSED & FAILED and not REFUSED & CUT_OFF and not FAILED & CUT_OFF
    assert not STORED_AS["stop"] & INCOMPLETE
    assert all(stored_as(ours) in (ours, None) for ours in ("stop", "length", "refused"))


@pytest.mark.parametrize("word", sorted(INCOMPLETE | STORED_AS["stop"] | {"tool_calls", ""}))
def test_what_comes_through_a_servers_door_means_what_it_meant(word):
    choice = {"message": {"content": "half an answer"}, "finish_reason": word}
    (found,) = completions_of({"choices": [choice]}, 1)
    if word in BROKEN_OFF:
        assert isinstance(found, NoAnswer)
        return
    assert isinstance(found, Completion)
    assert incomplete(found.finish_reason) == (word in INCOMPLETE)
    assert (found.finish_reason == "refused") == (word in STORED_AS["refused"] or word == "refused")
