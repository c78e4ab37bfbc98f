"""Records a digest of every file that decides values; a test finds those that changed since.

    python -m arena_assets.lake.code_digests

Comments, docstrings and formatting do not count: of Python the syntax tree is hashed, of SQL the
text without comments and white space.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from pathlib import Path
from typing import Any, Final

from arena_assets.lake.code import CODE, deciding_files

_PACKAGE: Final = Path(__file__).resolve().parents[1]
RECORDED: Final = Path(__file__).with_name("code_digests.json")
# a comment, or a text, which may look like one
_COMMENT: Final = re.compile(r"('(?:[^']|'')*')|--[^\n]*|/\*.*?\*/|\{#.*?#\}", re.DOTALL)


def digests() -> dict[str, str]:
    """The digest of every deciding file, by its place as `CODE` has it."""
    files = sorted({file for name in CODE for file in deciding_files(name)})
    return {file: digest(place(file)) for file in files}


def place(file: str) -> Path:
    """Where a deciding file lies in a clone of the repository."""
    return (_PACKAGE.parent if file.startswith("dbt_project/") else _PACKAGE) / file


def digest(path: Path) -> str:
    """A hash of what a Python or SQL file does."""
    text = path.read_text("utf-8")
    said = sql_text(text) if path.suffix == ".sql" else repr(_tree(ast.parse(text)))
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def changed() -> dict[str, list[str]]:
    """The files that changed since they were recorded, with the names of CODE that they decide."""
    recorded, found = json.loads(RECORDED.read_text("utf-8")), digests()
    return {
        file: sorted(name for name in CODE if file in deciding_files(name))
        for file in sorted(recorded.keys() | found.keys())
        if recorded.get(file) != found.get(file)
    }


def sql_text(text: str) -> str:
    """SQL (also with Jinja in it) without comments, and with blanks only between words.

    >>> sql_text("select a, -- it's the first\\n  'b -- c'  as b")
    "select a,'b -- c'as b"
    """
    uncommented = _COMMENT.sub(lambda found: found[1] or " ", text)
    pieces = re.split(r"('(?:[^']|'')*')", uncommented)
    pieces[::2] = [re.sub(r"\s*([^\w\s])\s*", r"\1", piece).strip() for piece in pieces[::2]]
    pieces[::2] = [re.sub(r"\s+", " ", piece) for piece in pieces[::2]]
    return "".join(pieces)


def _tree(node: Any) -> Any:
    """A syntax tree as nested lists, the same in every version of Python and without docstrings."""
    if isinstance(node, list):
        return [_tree(part) for part in node if not _docstring(part)]
    if not isinstance(node, ast.AST):
        return node
    fields = [(name, _tree(part)) for name, part in ast.iter_fields(node)]
    # versions differ in which empty fields a node has
    return [type(node).__name__, *(field for field in fields if field[1] not in (None, []))]


def _docstring(node: Any) -> bool:
    """Whether a statement is nothing but a text."""
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
    return False


def main() -> None:
    """Record the digests as they are now."""
    for file, names in changed().items() if RECORDED.exists() else ():
        print(f"{file} (decides {', '.join(names)})")
    RECORDED.write_text(json.dumps(digests(), indent=1) + "\n", "utf-8")
    print(f"recorded in {RECORDED}")


if __name__ == "__main__":
    main()
