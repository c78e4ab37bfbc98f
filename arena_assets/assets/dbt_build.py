"""dbt in this process: parsed once, run with a round's variables, heard as Dagster's events.

dagster-dbt's resource starts dbt twice for a build, once only for its version, and each start
imports and parses anew: four seconds for models that take half a second. Which models and tests a
run selects, and what dbt's messages mean, is left to dagster-dbt.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator
from dagster_dbt.asset_utils import get_updated_cli_invocation_params_for_context
from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage

from arena_assets.assets.dbt_project import parse, parsed_project, run_dbt

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest


def build(context: dg.AssetExecutionContext, variables: Mapping[str, Any]) -> Iterator[Any]:
    """Build what a run selects of the models, without their unit tests, which are for `make test`.

    Yields what was made and tested, also where some of it failed. Raises dg.Failure with what dbt
    said of that.
    """
    # selecting a part of the models forgets what the asset leaves out
    chosen = get_updated_cli_invocation_params_for_context(
        context, {}, DagsterDbtTranslator(), runtime_excludes=["resource_type:unit_test"]
    )
    arguments = ["build", *chosen.selection_args]
    if chosen.indirect_selection:
        arguments += ["--indirect-selection", chosen.indirect_selection]
    with TemporaryDirectory() as scratch:  # a database file of its own: runs never wait for a lock
        arguments += ["--vars", json.dumps({**variables, "scratch": scratch})]
        # dbt notes in a manifest what it compiled
        result, said = run_dbt(arguments, Path(scratch), _models().deepcopy())
    for message in said:
        yield from DbtCoreCliEventMessage(message, {}).to_default_asset_events(
            chosen.manifest, chosen.dagster_dbt_translator, context, project=chosen.dbt_project
        )
    if not result.success:
        errors = [m["info"]["msg"] for m in said if m["info"]["level"] == "error"]
        raise dg.Failure("\n".join(errors) or str(result.exception))


@cache
def _models() -> Manifest:
    """What is parsed once for all rounds: no variable counts before a model is compiled."""
    with TemporaryDirectory() as scratch:
        return parse(Path(scratch), parsed_project().target_path / "partial_parse.msgpack")
