"""What comes with the program fits together: its profiles, and the libraries that it imports."""

from __future__ import annotations

import ast
import itertools
import re
import sys
import tomllib
from importlib import metadata

import pytest
from conftest import PROJECT

from arena_assets.config.profile import load_profile

PROFILES = [
    *sorted((PROJECT / "profiles").glob("*.yaml")),
    PROJECT / "arena_assets/starter/arena.yaml",
]


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_opponent_of_a_shipped_profile_is_cut_off_before_the_target(profile):
    arena = load_profile(profile)
    for opponent in arena.opponents:
        if opponent.model:
            assert opponent.sampling.max_tokens >= arena.target.sampling.max_tokens, opponent.name


def test_every_library_that_is_imported_is_asked_for():
    """One that only comes with another goes when that one stops needing it.

    What an extra asks for need not be installed here; its name is then taken for the module's.
    """
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [project["optional-dependencies"][name] for name in ("gpu", "zero3")]
    asked = [*project["dependencies"], *itertools.chain(*extras)]
    names = {re.split(r"[<>=~! ]", line)[0].lower().replace("_", "-") for line in asked}
    distributions = metadata.packages_distributions()
    imported: dict[str, str] = {}
    for file in (PROJECT / "arena_assets").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module or ""]
            imported |= {module.split(".")[0]: file.name for module in modules}
    foreign = imported.keys() - sys.stdlib_module_names - {"arena_assets", "vllm"}
    assert len(foreign) > 20
    for module in foreign:
        providers = {name.lower().replace("_", "-") for name in distributions.get(module, [module])}
        assert providers & names, f"{imported[module]} imports {module} of {providers}"
