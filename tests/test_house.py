"""The rules of the house that no linter knows: sizes, circles, docstrings, what loads what.

The arrows between the rooms are import-linter's (`make lint`), see docs/architecture.md.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp

import arena_assets

PACKAGE = Path(arena_assets.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = (
    *("torch", "vllm", "trl", "transformers", "great_expectations", "datasets"),
    *("sentence_transformers", "sklearn", "dagster", "dbt", "duckdb", "pyarrow", "pydantic"),
)


def place(module: Path) -> str:
    return str(module.relative_to(PACKAGE.parent))


def test_few_modules_lie_outside_of_a_room():
    loose = {module.name for module in PACKAGE.glob("*.py")} - {"__init__.py"}
    assert len(loose) <= 6, sorted(loose)


def test_a_module_fits_into_a_head():
    lines = {place(module): len(module.read_text("utf-8").splitlines()) for module in MODULES}
    assert {name: count for name, count in lines.items() if count > 420} == {}


def test_a_function_fits_onto_a_screen():
    long = {
        f"{place(module)}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno >= 70
    }
    assert long == {}


def test_every_module_says_what_it_is():
    silent = [
        place(module) for module in MODULES if not ast.get_docstring(ast.parse(module.read_text()))
    ]
    assert silent == []


def test_no_modules_import_each_other_in_a_circle():
    # import-linter looks at siblings, so not at a module that imports the package's own __init__
    graph = grimp.build_graph("arena_assets", cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        raise AssertionError(f"a circle of imports: {' <- '.join(error.args[1])}") from None


def test_the_map_in_the_docs_has_the_order_that_is_linted():
    settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text("utf-8"))
    rooms = next(c for c in settings["tool"]["importlinter"]["contracts"] if c["id"] == "rooms")
    page = (PACKAGE.parent / "docs/architecture.md").read_text("utf-8").split("\n## ")[1]
    drawn = [
        re.findall(r"(?:^    |\|  )(\w+)", line)
        for line in page.splitlines()
        if line.startswith("    ")
    ]
    assert drawn == [layer.split(" | ") for layer in rooms["layers"]]


def test_the_package_itself_loads_nothing_else():
    code = f"import arena_assets, sys; print([n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
