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

import httpx
import pytest

from arena_assets.config import PROJECT
from arena_assets.resources import arena_resource

ROUNDS = ["i01.1-sft", "i01.2-dpo", "i01.3-rl"]
SELECTOR = {"repositoryName": "__repository__", "repositoryLocationName": "arena_assets"}


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
            "assetSelection": [{"path": ["target_model"]}, {"path": ["responses"]}],
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
        (promoted,) = arena_resource().lake.read("promotions", previous).to_pylist()
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
