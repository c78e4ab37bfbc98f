"""The expectations of every table that Python makes; dbt tests what dbt makes."""

from __future__ import annotations

from collections.abc import Mapping

from arena_assets.checks.prompts import prompt_suites
from arena_assets.checks.rounds import round_suites
from arena_assets.checks.suite import Suite
from arena_assets.config.profile import Profile


def suites(profile: Profile) -> Mapping[str, Suite]:
    """The suite of every table, by the table's name."""
    return {
        suite.table: suite for suite in [*prompt_suites(profile.prompts), *round_suites(profile)]
    }
