"""The versions of code: every table has one, and nobody changes deciding code without a thought."""

from __future__ import annotations

import re

import pytest
from conftest import PROJECT

from arena_assets.lake import code_digests
from arena_assets.lake.code import CODE, code_version, deciding_files
from arena_assets.lake.tables import TABLES

MODELS = {path.stem: path for path in (PROJECT / "dbt_project/models").glob("*/*.sql")}
MACROS = {
    name: path
    for path in (PROJECT / "dbt_project/macros").glob("*.sql")
    for name in re.findall(r"macro (\w+)\(", path.read_text("utf-8"))
}


def test_every_table_has_a_version_and_every_deciding_file_is_there():
    assert CODE.keys() >= TABLES.keys() | MODELS.keys() | {"checkpoint", "target_model"}
    for name in CODE:
        assert code_version(name)
        assert deciding_files(name), name
        for file in deciding_files(name):
            assert code_digests.place(file).is_file(), (
                f"{name}: {file} has moved: mend lake/code.py"
            )


def test_code_that_decides_values_is_as_it_was_recorded():
    changed = code_digests.changed()
    assert not changed, "\n".join(
        f"{file} changed, and decides {', '.join(names) or 'nothing any more'}: where other values "
        "come out of it, raise their versions in arena_assets/lake/code.py; then, and also where "
        "none do, `make code-versions` records the new digest"
        for file, names in changed.items()
    )


@pytest.mark.parametrize("model", MODELS)
def test_the_macros_that_a_dbt_model_calls_decide_its_values(model):
    called, waiting = set(), [MODELS[model]]
    while waiting:
        text = waiting.pop().read_text("utf-8")
        found = {MACROS[name] for name in MACROS if re.search(rf"\b{name}\(", text)} - called
        called, waiting = called | found, [*waiting, *found]
    files = {path.relative_to(PROJECT).as_posix() for path in called} | {
        MODELS[model].relative_to(PROJECT).as_posix()
    }
    assert deciding_files(model) >= files


def test_a_raised_version_of_a_part_and_a_new_column_change_the_version_of_a_table(monkeypatch):
    before = {name: code_version(name) for name in ("responses", "judgments", "ratings")}
    raised = CODE["verifier"].__class__(9, CODE["verifier"].files)
    monkeypatch.setitem(CODE, "verifier", raised)
    assert code_version("judgments") != before["judgments"]
    assert code_version("responses") != before["responses"], "the verifier picks the best of n"
    assert code_version("ratings") == before["ratings"]
    monkeypatch.setitem(TABLES, "ratings", TABLES["promotions"])
    assert code_version("ratings") != before["ratings"]


def python(tmp_path, text):
    (tmp_path / "a.py").write_text(text, "utf-8")
    return code_digests.digest(tmp_path / "a.py")


def sql(tmp_path, text):
    (tmp_path / "a.sql").write_text(text, "utf-8")
    return code_digests.digest(tmp_path / "a.sql")


def test_comments_docstrings_and_formatting_of_python_do_not_count(tmp_path):
    plain = python(tmp_path, "LIMIT = 3\ndef f(a, b):\n    return a + b\n")
    commented = (
        '"""What."""\nLIMIT = (3)  # why\n\n\ndef f(\n    a, b,\n):\n    "Adds."\n    return a+b'
    )
    assert python(tmp_path, commented) == plain
    assert python(tmp_path, "LIMIT = 4\ndef f(a, b):\n    return a + b\n") != plain
    assert python(tmp_path, "LIMIT = 3\ndef f(b, a):\n    return a + b\n") != plain


def test_comments_and_white_space_of_sql_do_not_count_but_its_texts_do(tmp_path):
    plain = sql(tmp_path, "select count(*) as n, '--a  b' as x from t where a >= {{ var('k') }}")
    spaced = (
        "{# it's why #}\nselect -- it's how\n    count( * ) as n,\n  '--a  b' as x /* ' */\n"
        "from t\nwhere a>={{ var('k') }}\n"
    )
    assert sql(tmp_path, spaced) == plain
    changes = [(">=", ">"), ("a  b", "a b"), ("'k'", "'K'"), ("as n", "as m")]
    assert plain not in {sql(tmp_path, spaced.replace(*change)) for change in changes}


@pytest.mark.slow
def test_recording_names_what_changed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(code_digests, "RECORDED", tmp_path / "digests.json")
    code_digests.main()
    assert not code_digests.changed()
    recorded = (tmp_path / "digests.json").read_text("utf-8")
    (tmp_path / "digests.json").write_text(recorded.replace('": "', '": "0', 1), "utf-8")
    ((file, decides),) = code_digests.changed().items()
    assert decides
    code_digests.main()
    assert f"{file} (decides {', '.join(decides)})" in capsys.readouterr().out
    assert not code_digests.changed()
