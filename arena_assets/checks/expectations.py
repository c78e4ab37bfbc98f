"""Runs the suites with Great Expectations: asset checks and a guard.

A check runs alone as well as with all others of its table; together they are one validation.
"""

import logging
import warnings
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from arena_assets.checks.results import (
    looked_at,
    record,
    recorded_failures,
    tables_of,
)
from arena_assets.checks.suite import Suite
from arena_assets.checks.suites import suites
from arena_assets.config.profile import Profile
from arena_assets.curation.text import with_words
from arena_assets.flywheel.arena import Arena
from arena_assets.hostile_text import in_markdown, visible
from arena_assets.lake.lake import ALL, Lake, MissingPartition

# checks a partition are a preview in Dagster 1.13 and the only way to see which round failed
warnings.filterwarnings("ignore", message=".*partitions_def.*", category=dg.PreviewWarning)

_SHOWN = (
    "observed_value",
    "element_count",
    "unexpected_count",
    "unexpected_percent",
    "partial_unexpected_list",
)


def validate(
    arena: Arena,
    suite: Suite,
    partition: str,
    names: Collection[str] | None = None,
    run: str | None = None,
) -> Any:
    """Great Expectations' result for one partition of a table.

    `names` are the expectations to look at (default: all). All of them together write the
    partition's page, which names `run`, the run that looked, and record what failed. Raises
    MissingPartition.
    """
    import great_expectations as gx

    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    known = {rule["name"] for rule in suite.expectations}
    chosen = known if names is None else known & set(names)
    whole = chosen == known
    seen = looked_at(arena.lake, suite, partition) if whole else None
    batch = (
        context.data_sources.add_pandas("lake")
        .add_dataframe_asset(suite.table)
        .add_batch_definition_whole_dataframe(partition)
        .get_batch({"dataframe": _frame(arena.lake, suite, partition)})
    )
    expectations = [
        {name: rule[name] for name in ("type", "kwargs", "severity")}
        | {"meta": {"name": rule["name"]}}
        for rule in suite.expectations
        if rule["name"] in chosen
    ]
    result = batch.validate(
        gx.ExpectationSuite(name=suite.table, expectations=expectations), result_format="SUMMARY"
    )
    for found in result.results:
        # Great Expectations reports means as NumPy scalars, which its own pages cannot show
        if hasattr(observed := found.result.get("observed_value"), "item"):
            found.result["observed_value"] = observed.item()
    if whole:
        _show(result, arena, suite, partition, run)
        if looked_at(arena.lake, suite, partition) == seen:  # else nobody knows which rows it saw
            record(arena.lake, suite, partition, seen, _critical_failures(result))
    return result


def _show(result: Any, arena: Arena, suite: Suite, partition: str, run: str | None) -> None:
    """Write the page of a validation."""
    from great_expectations import RunIdentifier

    from arena_assets.checks.data_docs import pages_of, write_page

    # where Great Expectations' renderer looks for the names that it shows
    result.meta["run_id"] = RunIdentifier(run_name=partition, run_time=datetime.now(UTC))
    result.meta["batch_spec"] = {
        "arena": arena.profile.name,
        "data_asset_name": suite.table,
        "partition": partition,
        **({"run": run} if run else {}),
    }
    write_page(result, pages_of(arena.profile.name), suite.table, partition)


def _frame(lake: Lake, suite: Suite, partition: str) -> Any:
    """The partition as the suite's SQL shows it, a pandas frame."""
    tables = {name: (name, part) for name, part in tables_of(suite, partition).items()}
    with lake.connect(**tables) as connection:
        sql = suite.sql.format(table=suite.table)
        table = with_words(connection).sql(sql, params=dict(suite.parameters)).to_arrow_table()
    # what is no scalar cannot be checked and would only be slow
    scalars = [field.name for field in table.schema if not str(field.type).startswith("list")]
    return table.select(scalars).to_pandas()


def failed_expectations(
    arena: Arena, table: str, partition: str, run: str | None = None
) -> list[str]:
    """The names of the critical expectations that a partition fails; `run` looked."""
    return _critical_failures(validate(arena, suites(arena.profile)[table], partition, run=run))


def known_failures(arena: Arena, table: str, partition: str, run: str | None = None) -> list[str]:
    """The critical expectations that a partition fails, as they were noted.

    Only where nobody has looked at these rows and rules yet, also after a limit of the profile was
    changed, they are looked at now; `run` looks.
    """
    suite = suites(arena.profile)[table]
    failed = recorded_failures(arena.lake, suite, partition)
    if failed is None:
        failed = failed_expectations(arena, table, partition, run)
    return failed


def _critical_failures(result: Any) -> list[str]:
    return [
        found.expectation_config.meta["name"]
        for found in result.results
        if not found.success and found.expectation_config.severity == "critical"
    ]


def expectation_checks(
    profile: Profile, rounds: dg.PartitionsDefinition, sources: dg.PartitionsDefinition
) -> list[dg.AssetChecksDefinition]:
    """One multi-check a table; each expectation is a check of its own, critical ones block."""
    partitions = {"round": rounds, "source": sources, "none": None}
    return [_checks_of(suite, partitions[suite.partitions]) for suite in suites(profile).values()]


def _checks_of(
    suite: Suite, partitions: dg.PartitionsDefinition | None
) -> dg.AssetChecksDefinition:
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

    @dg.multi_asset_check(name=f"{suite.table}_expectations", specs=specs, can_subset=True)
    def checks(
        context: dg.AssetCheckExecutionContext, arena: dg.ResourceParam[Arena]
    ) -> Iterator[dg.AssetCheckResult]:
        names = {key.name for key in context.selected_asset_check_keys}
        partition = checked_partition(context, arena.lake, suite.table) if partitions else ALL
        try:
            result = validate(
                arena, suites(arena.profile)[suite.table], partition, names, context.run.run_id
            )
        except MissingPartition as missing:
            raise dg.Failure(str(missing), allow_retries=False) from missing
        for found in result.results:
            yield _check_result(suite.table, partition, found)

    return checks


def checked_partition(context: Any, lake: Lake, table: str) -> str:
    """The partition that a run's checks look at: the run's own, else the one written last."""
    if context.has_partition_key:
        return context.partition_key
    there = lake.partitions(table)
    if not there:
        raise dg.Failure(
            f"{table} has no partition yet that could be checked: materialize one first",
            allow_retries=False,
        )
    latest = max(there, key=lambda partition: lake.path(table, partition).stat().st_mtime_ns)
    context.log.info(f"{table}: no partition was chosen, so {latest} is checked, written last")
    return latest


def _in_words(rule: dict[str, Any]) -> str:
    """An expectation as a sentence: its type, then its arguments."""
    arguments = ", ".join(f"{name} {value}" for name, value in rule["kwargs"].items())
    return f"{rule['type'].replace('_', ' ')}: {arguments}"


def _check_result(table: str, partition: str, found: Any) -> dg.AssetCheckResult:
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
        description=in_markdown(errors[0]) if errors else None,  # the UI reads it as Markdown
        metadata={
            "partition": partition,
            **{
                name: dg.MetadataValue.text(visible(str(value)))
                for name, value in found.result.items()
                if name in _SHOWN
            },
        },
    )
