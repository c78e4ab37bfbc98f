"""Runs the suites with Great Expectations: asset checks, a guard, Data Docs pages."""

import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from arena_assets.checks.suites import Suite, suites
from arena_assets.config import resolve
from arena_assets.curation.reading import with_words
from arena_assets.lake import ALL
from arena_assets.partitions import ARENA, rounds_partitions, sources_partitions
from arena_assets.resources import ArenaResource

# checks a partition are a preview in Dagster 1.13 and the only way to see which round failed
warnings.filterwarnings("ignore", message=".*partitions_def.*", category=dg.PreviewWarning)

DATA_DOCS = resolve(os.environ.get("ARENA_DATA_DOCS") or "data/quality")
_SHOWN = (
    "observed_value",
    "element_count",
    "unexpected_count",
    "unexpected_percent",
    "partial_unexpected_list",
)


def validate(arena: ArenaResource, suite: Suite, partition: str) -> Any:
    """Great Expectations' result for one partition of a table."""
    import great_expectations as gx

    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    tables = {suite.table: partition} | dict.fromkeys(suite.others, ALL)
    with arena.lake.connect(**{name: (name, part) for name, part in tables.items()}) as connection:
        sql = suite.sql.format(table=suite.table)
        table = with_words(connection).sql(sql, params=dict(suite.parameters)).to_arrow_table()
    # what is no scalar cannot be checked and would only be slow
    frame = table.select(
        [f.name for f in table.schema if not str(f.type).startswith("list")]
    ).to_pandas()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    expectations = [
        {
            "type": rule["type"],
            "kwargs": rule["kwargs"],
            "severity": rule["severity"],
            "meta": {"name": rule["name"]},
        }
        for rule in suite.expectations
    ]
    batch = (
        context.data_sources.add_pandas("lake")
        .add_dataframe_asset(suite.table)
        .add_batch_definition_whole_dataframe(partition)
        .get_batch({"dataframe": frame})
    )
    result = batch.validate(
        gx.ExpectationSuite(name=suite.table, expectations=expectations), result_format="SUMMARY"
    )
    for found in result.results:
        # Great Expectations reports means as NumPy scalars, which its own pages cannot show
        if hasattr(observed := found.result.get("observed_value"), "item"):
            found.result["observed_value"] = observed.item()
    write_data_docs(result, suite.table, partition)
    return result


def failed_expectations(arena: ArenaResource, table: str, partition: str) -> list[str]:
    """The names of the critical expectations that a partition fails."""
    result = validate(arena, suites(arena.arena)[table], partition)
    return [
        found.expectation_config.meta["name"]
        for found in result.results
        if not found.success and found.expectation_config.severity == "critical"
    ]


def write_data_docs(result: Any, table: str, partition: str) -> None:
    """The page of one validation in data/quality, and the index over all pages."""
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    folder = DATA_DOCS / ARENA.name / table
    folder.mkdir(parents=True, exist_ok=True)
    page = DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(result))
    (folder / f"{partition}.html").write_text(page, encoding="utf-8")
    passed = sum(bool(found.success) for found in result.results)
    summary = {"success": bool(result.success), "passed": passed, "checks": len(result.results)}
    (folder / f"{partition}.json").write_text(json.dumps(summary), encoding="utf-8")
    _write_index(DATA_DOCS / ARENA.name)


def _write_index(folder: Path) -> None:
    import html

    rows = []
    for file in sorted(folder.glob("*/*.json")):
        found = json.loads(file.read_text(encoding="utf-8"))
        state = "passed" if found["success"] else "FAILED"
        table, partition = html.escape(file.parent.name), html.escape(file.stem)
        rows.append(
            f'<tr><td><a href="{table}/{partition}.html">{table}</a></td><td>{partition}</td>'
            f"<td>{state}</td><td>{found['passed']} of {found['checks']}</td></tr>"
        )
    title = html.escape(f"Data quality of {folder.name}")
    (folder / "index.html").write_text(
        f"<!doctype html><meta charset='utf-8'><title>{title}</title>"
        f"<h1>{title}</h1><table border='1' cellpadding='4'>"
        "<tr><th>table</th><th>partition</th><th>state</th><th>expectations met</th></tr>"
        + "".join(rows)
        + "</table>",
        encoding="utf-8",
    )


def expectation_checks() -> list[dg.AssetChecksDefinition]:
    """One multi-check a table; each expectation is a check of its own, critical ones block."""
    return [_checks_of(suite) for suite in suites(ARENA).values()]


def _checks_of(suite: Suite) -> dg.AssetChecksDefinition:
    partitions = {"round": rounds_partitions, "source": sources_partitions, "none": None}[
        suite.partitions
    ]
    specs = [
        dg.AssetCheckSpec(
            rule["name"],
            asset=suite.table,
            description=_in_words(rule),
            partitions_def=partitions,
            blocking=rule["severity"] == "critical",
        )
        for rule in suite.expectations
    ]

    @dg.multi_asset_check(name=f"{suite.table}_expectations", specs=specs)
    def checks(
        context: dg.AssetCheckExecutionContext, arena: ArenaResource
    ) -> Iterator[dg.AssetCheckResult]:
        partition = context.partition_key if context.has_partition_key and partitions else ALL
        for found in validate(arena, suites(arena.arena)[suite.table], partition).results:
            yield _check_result(suite.table, found)

    return checks


def _in_words(rule: dict[str, Any]) -> str:
    """An expectation as a sentence: its type, then its arguments."""
    arguments = ", ".join(f"{name} {value}" for name, value in rule["kwargs"].items())
    return f"{rule['type'].replace('_', ' ')}: {arguments}"


def _check_result(table: str, found: Any) -> dg.AssetCheckResult:
    rule = found.expectation_config
    # a missing column is no exception in Great Expectations, only a message beside an empty result
    errors = [
        error["exception_message"]
        for error in (found.exception_info or {}).values()
        if isinstance(error, dict) and error.get("exception_message")
    ]
    critical = rule.severity == "critical"
    return dg.AssetCheckResult(
        asset_key=table,
        check_name=rule.meta["name"],
        passed=bool(found.success),
        severity=dg.AssetCheckSeverity.ERROR if critical else dg.AssetCheckSeverity.WARN,
        description=errors[0] if errors else None,
        metadata={
            name: dg.MetadataValue.text(str(value))
            for name, value in found.result.items()
            if name in _SHOWN
        },
    )
