"""The UI as users see it: `dagster dev` on a turned arena, through GraphQL and in a browser."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pyarrow as pa
import pytest

from arena_assets.assets.metadata import markdown_table
from arena_assets.config.places import PROJECT
from arena_assets.flywheel.arena import open_arena

ROUNDS = ["i01.1-sft", "i01.2-dpo", "i01.3-rl"]


class Server:
    """A running `dagster dev`."""

    def __init__(self, url: str):
        self.url = url

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = httpx.post(
            f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=60
        ).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def runs(self, **tags: str) -> list[dict[str, Any]]:
        """Runs with these tags, in the order of their start."""
        found = self.ask(
            """query ($filter: RunsFilter) { runsOrError(filter: $filter) { ... on Runs {
                 results { runId status startTime endTime tags { key value } } } } }""",
            filter={"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        )["runsOrError"]["results"]
        for run in found:
            run["round"] = {t["key"]: t["value"] for t in run["tags"]}.get("dagster/partition")
        return sorted(found, key=lambda run: run["startTime"] or 0)


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.5)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")


def finished(server: Server, count: int, **tags: str) -> list[dict[str, Any]]:
    def done() -> list[dict[str, Any]] | None:
        runs = server.runs(**tags)
        over = len(runs) == count and all(run["endTime"] for run in runs)
        return runs if over else None

    return wait_for(done, f"{count} runs with {tags}", 200)


@pytest.fixture(scope="module")
def server(turned) -> Iterator[Server]:
    """`dagster dev` as `make dev` starts it, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("dagster"), "dev", "-h", "127.0.0.1", "-p", str(port)]
    log = Path(os.environ["DAGSTER_HOME"]) / "dev.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=PROJECT, stdout=output, stderr=output, start_new_session=True
        )
        server = Server(f"http://127.0.0.1:{port}")

        def loaded() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                locations = server.ask(
                    "{ workspaceOrError { ... on Workspace { locationEntries { name "
                    "locationOrLoadError { __typename } } } } }"
                )["workspaceOrError"]["locationEntries"]
            except httpx.HTTPError:
                return False
            return [entry["locationOrLoadError"]["__typename"] for entry in locations] == [
                "RepositoryLocation"
            ]

        try:
            wait_for(loaded, "dagster dev")
            yield server
        finally:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def test_a_backfill_in_any_order_runs_the_rounds_in_order(server):
    launched = server.ask(
        """mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(
             backfillParams: $params) { __typename ... on LaunchBackfillSuccess { backfillId }
             ... on PythonError { message } } }""",
        params={
            "assetSelection": [{"path": ["target_model"]}],
            "partitionNames": [ROUNDS[2], ROUNDS[0], ROUNDS[1]],
        },
    )["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    runs = finished(server, 3, **{"dagster/backfill": launched["backfillId"]})
    assert [run["round"] for run in runs] == ROUNDS
    assert {run["status"] for run in runs} == {"SUCCESS"}
    for before, after in itertools.pairwise(runs):
        assert before["endTime"] <= after["startTime"]


def test_target_model_says_which_checkpoint_it_is(server):
    found = server.ask(
        """query ($key: AssetKeyInput!, $rounds: [String!]) { assetNodeOrError(assetKey: $key) {
             ... on AssetNode { latestMaterializationByPartition(partitions: $rounds) {
               partition metadataEntries { label ... on TextMetadataEntry { text } } } } } }""",
        key={"path": ["target_model"]},
        rounds=ROUNDS,
    )["assetNodeOrError"]["latestMaterializationByPartition"]
    said = {
        entry["partition"]: {m["label"]: m.get("text") for m in entry["metadataEntries"]}
        for entry in found
    }
    assert said[ROUNDS[0]]["checkpoint"] == "base"
    assert said[ROUNDS[0]]["promoted_after"] == "-"
    for previous, key in itertools.pairwise(ROUNDS):
        (promoted,) = open_arena().lake.read("promotions", previous).to_pylist()
        assert said[key]["checkpoint"] == promoted["contestant"]
        assert said[key]["promoted_after"] == previous
        assert said[key]["digest"] == promoted["model_digest"]


@pytest.fixture(scope="module")
def page(server):
    """A page of headless Chromium, wide enough for the asset graph."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium here; on Debian: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1800, "height": 1100})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def dialog_for(page, round_: str, seconds: float) -> Any:
    """The dialog that materializes the asset of this page, with one round chosen and no list open.

    The page behind the dialog names rounds too, so all is looked for in the dialog and its list.
    """
    page.set_default_timeout(seconds * 1000)
    page.get_by_role("button", name="Materialize").first.click()
    dialog, choices = page.locator(".dagster-dialog"), page.locator(".dagster-popover")
    dialog.get_by_text("Select a partition or create one").click()
    filter_ = choices.get_by_placeholder("Filter partitions")
    filter_.fill(round_)
    choices.get_by_role("menuitem").filter(has=page.get_by_text(round_, exact=True)).click()
    dialog.get_by_text("1 partition", exact=True).wait_for()
    filter_.press("Escape")
    choices.wait_for(state="hidden")
    dialog.get_by_title(round_, exact=True).wait_for()
    return dialog


def materialize_by_clicking(page, server, asset: str, round_: str) -> dict[str, Any]:
    """Materialize one round of an asset through its page; returns the finished run."""
    from playwright.sync_api import TimeoutError as TookTooLong

    known = {run["runId"] for run in server.runs(**{"dagster/partition": round_})}
    for patience in (10, 20, 60):  # a slow machine's list may stay empty, until the page is new
        page.goto(f"{server.url}/assets/{asset}", timeout=60_000)
        try:
            dialog = dialog_for(page, round_, patience)
            break
        except TookTooLong:
            if patience == 60:
                raise
    page.set_default_timeout(60_000)
    dialog.get_by_role("button", name="Launch 1 run").click()

    def done() -> dict[str, Any] | None:
        runs = server.runs(**{"dagster/partition": round_})
        new = [run for run in runs if run["runId"] not in known]
        return new[0] if new and new[0]["endTime"] else None

    return wait_for(done, f"{asset} of {round_}")


def test_the_asset_graph_loads(server, page):
    page.goto(f"{server.url}/asset-groups")
    for group in ("prompts", "models", "flywheel", "arena", "reports"):
        page.get_by_text(group, exact=True).locator("visible=true").first.wait_for()
    page.goto(f"{server.url}/asset-groups/~/target_model")
    page.get_by_text("target_model").locator("visible=true").first.wait_for()


def test_target_model_shows_its_checkpoint_on_its_page(server, page):
    run = materialize_by_clicking(page, server, "target_model", ROUNDS[1])
    assert run["status"] == "SUCCESS"
    (promoted,) = open_arena().lake.read("promotions", ROUNDS[0]).to_pylist()
    page.goto(f"{server.url}/assets/target_model?view=partitions&partition={ROUNDS[1]}")
    for words in ("checkpoint", promoted["contestant"], "promoted_after", promoted["model_digest"]):
        page.get_by_text(words).locator("visible=true").first.wait_for()


def test_answers_that_are_markup_are_text_in_the_ui(server, page):
    lines = ["![x](http://evil.example/a.png)", "<img src=http://evil.example/b.png>"]
    lines += ["[here](http://evil.example/c) www.evil.example me@evil.example ~~end~~"]
    preview = dg.MetadataValue.md(markdown_table(pa.table({"text": lines})))
    with dg.DagsterInstance.get() as instance:
        instance.report_runless_asset_event(
            dg.AssetMaterialization("quarantine", partition="seed", metadata={"preview": preview})
        )
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{server.url}/assets/quarantine?view=partitions&partition=seed")
    shown = page.locator(".dagster-markdown", has_text="evil.example").first
    shown.or_(page.get_by_text("[Show Markdown]").first).first.wait_for()
    if not shown.count():
        page.get_by_text("[Show Markdown]").first.click()
    shown.wait_for()
    said = shown.inner_text().replace("\u2060", "")
    assert all(line in said for line in lines)
    assert shown.locator("img, a, del").count() == 0
    assert [url for url in asked if "evil.example" in url] == []


def test_a_check_is_executed_alone_from_the_ui(server):
    nodes = server.ask(
        """{ assetNodes { assetKey { path } assetChecksOrError { ... on AssetChecks { checks {
             name canExecuteIndividually } } } } }"""
    )["assetNodes"]
    checks = [check for node in nodes for check in node["assetChecksOrError"].get("checks", [])]
    assert len(checks) > 150
    assert {check["canExecuteIndividually"] for check in checks} == {"CAN_EXECUTE"}
    key = {"assetKey": {"path": ["training_set"]}, "name": "texts_present"}
    launched = server.ask(
        """mutation ($params: ExecutionParams!) { launchPipelineExecution(
             executionParams: $params) { __typename ... on LaunchRunSuccess { run { runId } }
             ... on PythonError { message } } }""",
        params={
            "selector": {
                "repositoryName": "__repository__",
                "repositoryLocationName": "arena_assets",
                "pipelineName": "__ASSET_JOB",
                "assetSelection": [],
                "assetCheckSelection": [key],
            },
            "executionMetadata": {
                "tags": [
                    {"key": "dagster/partition", "value": ROUNDS[1]},
                    {"key": "checked", "value": "alone"},
                ]
            },
        },
    )["launchPipelineExecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    (run,) = finished(server, 1, checked="alone")
    assert run["status"] == "SUCCESS"
    with dg.DagsterInstance.get() as instance:
        found = dg.AssetCheckKey(dg.AssetKey("training_set"), "texts_present")
        storage = instance.event_log_storage
        (record,) = storage.get_asset_check_execution_history(found, limit=1)
    evaluation = record.evaluation
    assert (record.run_id, evaluation.partition) == (run["runId"], ROUNDS[1])
    assert evaluation.passed and evaluation.metadata["partition"].value == ROUNDS[1]


def result_of_check(page, server, asset: str, check: str):
    """The tag that tells the latest result of a check, from its page."""
    page.goto(f"{server.url}/assets/{asset}?view=checks&checkDetail={check}")
    return page.locator("[data-tooltip=Passed], [data-tooltip=Failed]").first


def redness(tag) -> float:
    """How much more red than green a tag's text is, from 0 (as much or less) to 1."""
    color = tag.evaluate("element => getComputedStyle(element).color")
    red, green, _ = (float(part) for part in color.strip("rgba()").split(",")[:3])
    return max(0.0, red - green) / max(red, 1.0)


def test_a_round_is_materialized_by_clicking_and_a_check_that_fails_is_red(
    server, page, tiny_profile
):
    assert materialize_by_clicking(page, server, "training_set", ROUNDS[0])["status"] == "SUCCESS"
    passed = result_of_check(page, server, "training_set", "has_rows")
    assert passed.inner_text() == "Passed" and redness(passed) == 0
    content = tiny_profile.read_text("utf-8")
    assert "minimum_training_rows: 4" in content
    try:  # a limit that the training set cannot meet
        tiny_profile.write_text(content.replace("_rows: 4", "_rows: 9999"), "utf-8")
        materialize_by_clicking(page, server, "training_set", ROUNDS[0])
        failed = result_of_check(page, server, "training_set", "has_rows")
        wait_for(lambda: failed.inner_text() == "Failed", "the failed check")
        assert redness(failed) > 0.5
        # a run that starts at the checkpoint looks at the rows itself, and trains nothing
        manifest = open_arena().checkpoints.manifest(ROUNDS[0])
        refused = materialize_by_clicking(page, server, "checkpoint", ROUNDS[0])
        assert refused["status"] == "FAILURE"
        assert open_arena().checkpoints.manifest(ROUNDS[0]) == manifest
        page.goto(f"{server.url}/runs/{refused['runId']}")
        page.get_by_text("fails its blocking checks: has_rows").first.wait_for()
    finally:
        tiny_profile.write_text(content, "utf-8")
