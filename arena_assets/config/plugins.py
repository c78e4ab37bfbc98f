"""Functions of a user's own, named `module:function` in a profile.

A module is looked for where Python looks, and in the workspace: a file beside workspace.yaml is
enough. It goes into an identity by its source.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arena_assets.config.places import workspace

_loaded: dict[str, str] = {}  # modules of this process, with the digest of the file they are from
_NAMED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_function_name(name: str) -> bool:
    """Whether a name is written as `module:function`."""
    return _NAMED.fullmatch(name) is not None


def source_of(name: str) -> Path:
    """The file of the module of a function, which is not imported for it.

    Raises ValueError where there is no such module, or one without a file of Python.
    """
    module = _module(name)
    try:
        spec = importlib.util.find_spec(module)
    except ImportError as error:  # a package above it
        raise ValueError(f"{name}: {error}") from None
    if spec is None:
        raise ValueError(
            f"{name}: no module {module!r}, neither installed nor in the workspace {workspace()}"
        )
    if not (spec.origin and spec.origin.endswith(".py")):
        raise ValueError(f"{name}: the module {module!r} is no file of Python")
    return Path(spec.origin)


def source_digest(name: str) -> str:
    """SHA-256 of the file that a function stands in. Raises ValueError as `source_of` does."""
    return hashlib.sha256(source_of(name).read_bytes()).hexdigest()


def load_function(name: str) -> Callable[..., Any]:
    """The function of that name, from its file as it is now; ValueError says what is missing.

    The file is run anew where it was imported before and says something else since: in a process
    that goes on, such as Dagster's, the digest in an identity would be that of other code.
    """
    digest, place = source_digest(name), _module(name)
    if place in sys.modules and _loaded.get(place, digest) != digest:
        module = importlib.reload(sys.modules[place])
    else:
        module = importlib.import_module(place)
    _loaded[place] = digest
    wanted = name.partition(":")[2]
    function = getattr(module, wanted, None)
    if not callable(function):
        there = sorted(n for n, value in vars(module).items() if callable(value) and n[0] != "_")
        raise ValueError(
            f"{name}: {module.__name__} has no function {wanted!r} (there: {', '.join(there)})"
        )
    return function


def _module(name: str) -> str:
    folder = str(workspace())
    if folder not in sys.path:
        sys.path.append(folder)
        importlib.invalidate_caches()
    return name.partition(":")[0]
