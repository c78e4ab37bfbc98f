"""Models: what each kind is and opens, and that nothing in their room leads back to itself."""

from __future__ import annotations

import ast
import json
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from arena_assets.config.models import Endpoint, Sampling
from arena_assets.config.places import PROJECT
from arena_assets.models.engine import Request
from arena_assets.models.model import Local, Recorded, Served
from arena_assets.models.opening import open_engine
from arena_assets.models.recorded import RecordedEngine
from arena_assets.models.served.openai_engine import OpenAIEngine


def imports_of(file: Path) -> set[str]:
    """The modules that a file imports, within functions too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found


def test_no_module_of_models_leads_back_to_itself_lazy_imports_counted():
    files = (PROJECT / "arena_assets/models").rglob("*.py")
    paths = {".".join(f.relative_to(PROJECT).with_suffix("").parts): f for f in files}
    graph = {name: imports_of(file) & paths.keys() for name, file in paths.items()}
    assert graph["arena_assets.models.opening"] > {"arena_assets.models.model"}
    list(TopologicalSorter(graph).static_order())  # CycleError names the circle


def test_training_asks_nothing_of_generation():
    for file in (PROJECT / "arena_assets/training").glob("*.py"):
        rooms = {name.split(".")[1] for name in imports_of(file) if name.count(".")}
        assert not rooms & {"generation", "curation", "judging"}, file.name


def test_each_kind_of_model_opens_its_own_engine(tmp_path):
    answers = tmp_path / "answers.jsonl"
    answers.write_text(json.dumps({"prompt_id": "p1", "text": "Forty-two."}) + "\n")
    recorded = Recorded(answers, "digest")
    opened = open_engine(recorded, 0, {"dtype": "auto"})
    assert isinstance(opened, RecordedEngine) and recorded.name == "recorded"
    asked = [Request("p1", [{"role": "user", "content": "Six times seven?"}])]
    assert opened.chat(asked, Sampling())[0][0].text == "Forty-two."
    served = Served("far", "digest", Endpoint(urls=("http://127.0.0.1:9/v1",), model="m"))
    assert isinstance(served.open(0, {}), OpenAIEngine)
    again = Served("far", "digest", Endpoint(urls=("http://127.0.0.1:9/v1",), model="m"))
    assert open_engine(served, 0, {}) is open_engine(again, 0, {}), "open already"


@pytest.mark.parametrize(
    ("trusted", "settings", "told"),
    [
        (False, {}, {"trust_remote_code": False}),
        (True, {"max_model_len": 8}, {"trust_remote_code": True, "max_model_len": 8}),
        (True, {"trust_remote_code": False}, {"trust_remote_code": False}),
    ],
)
def test_a_local_model_gives_vllm_its_folder_and_what_it_is_trusted_with(
    monkeypatch, trusted, settings, told
):
    seen = []
    monkeypatch.setattr(
        "arena_assets.models.vllm_engine.VLLMEngine", lambda *given: seen.append(given)
    )
    Local("m", Path("/w"), "digest", trusted, "chat.jinja").open(7, settings)
    assert seen == [(Path("/w"), 7, told, "chat.jinja")]
