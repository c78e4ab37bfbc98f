"""Which profile is in use, where its paths lead, where tables go; what `arena init` writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import PROJECT
from dotenv import dotenv_values

from arena_assets.config.places import (
    Located,
    output_folder,
    places,
    profile_path,
    resolve,
    workspace,
)
from arena_assets.config.profile import load_profile
from arena_assets.starter import FolderInUse, write_workspace


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """An empty current folder, and no variable that says where things lie."""
    for name in ("ARENA_PROFILE", "ARENA_LAKE", "ARENA_MODELS", "ARENA_DATA_DOCS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_profile_is_the_chosen_one_or_the_folders_own_or_pocket(here, monkeypatch):
    assert profile_path() == PROJECT / "profiles" / "pocket.yaml"
    (here / "arena.yaml").touch()
    assert profile_path() == here / "arena.yaml"
    monkeypatch.setenv("ARENA_PROFILE", "other.yaml")
    assert profile_path() == here / "other.yaml", "also where it is not there: it was asked for"
    monkeypatch.setenv("ARENA_PROFILE", "profiles/paper-7b.yaml")
    assert profile_path() == PROJECT / "profiles" / "paper-7b.yaml"
    (here / "profiles").mkdir()
    (here / "profiles" / "paper-7b.yaml").touch()
    assert profile_path() == here / "profiles" / "paper-7b.yaml"


def test_tables_go_to_the_workspace_of_the_profile_else_to_the_current_folder(here, monkeypatch):
    own = here / "own"
    (own / "profiles").mkdir(parents=True)
    monkeypatch.setenv("ARENA_PROFILE", "own/profiles/p.yaml")
    assert workspace() == here
    (own / "workspace.yaml").touch()
    assert workspace() == own
    assert output_folder("ARENA_LAKE", "data/lake/p") == own / "data" / "lake" / "p"
    monkeypatch.setenv("ARENA_LAKE", "elsewhere")
    assert output_folder("ARENA_LAKE", "data/lake/p") == here / "elsewhere"


def test_a_path_is_beside_its_file_or_in_the_workspace_or_comes_with_the_program(here, monkeypatch):
    own = here / "own"
    (own / "profiles").mkdir(parents=True)
    (own / "workspace.yaml").touch()
    monkeypatch.setenv("ARENA_PROFILE", str(own / "profiles" / "p.yaml"))
    path = Located.beside("data/seed/prompts.jsonl", own / "profiles")
    looked_for = [folder / path for folder in (own / "profiles", own, PROJECT)]
    assert places(path) == looked_for
    for place in reversed(looked_for):
        place.parent.mkdir(parents=True, exist_ok=True)
        if PROJECT not in place.parents:
            place.touch()
        assert resolve(path) == place
    gone = Located.beside("gone.txt", own / "profiles")
    assert resolve(gone) == own / "profiles" / "gone.txt"
    assert resolve("/somewhere/else") == Path("/somewhere/else")
    monkeypatch.setenv("HOME", str(here))
    assert resolve("~/x") == here / "x"


@pytest.mark.parametrize("name", ["mine", "two words", "it's $HOME #1", 'a "b" \\c', "ä"])
def test_a_new_workspace_is_understood_as_it_is(here, monkeypatch, name):
    folder = here / "deep" / name
    written = write_workspace(Path("deep") / name)
    assert all(path.is_file() and path.is_absolute() for path in written)
    arena = load_profile(folder / "arena.yaml")
    assert arena.name == "my-arena"
    assert resolve(arena.opponents[0].recorded) == PROJECT / "data/seed/responses.jsonl"
    monkeypatch.chdir(folder)
    assert profile_path() == folder / "arena.yaml" and workspace() == folder
    home = dotenv_values(".env")["DAGSTER_HOME"]
    assert Path(home) == folder / ".dagster" and (folder / ".dagster" / "dagster.yaml").is_file()
    commented = (folder / "arena.yaml").read_text("utf-8")
    assert commented.count("#") > 30, "a profile with comments"


def test_the_starters_settings_are_those_of_the_pocket_arena():
    """What is measured and tested there holds for a newcomer's first run."""
    starter = load_profile(PROJECT / "arena_assets" / "starter" / "arena.yaml")
    pocket = load_profile(PROJECT / "profiles" / "pocket.yaml")
    for section in ("seed", "target", "judge", "prompts", "rounds", "training", "generation"):
        ours, theirs = (getattr(arena, section) for arena in (starter, pocket))
        if section == "target":
            ours, theirs = ours.sampling, theirs.sampling
        assert ours == theirs, section


def test_nothing_is_written_where_a_file_is_in_the_way(here):
    folder = here / "mine"
    folder.mkdir()
    (folder / ".gitignore").write_text("mine\n", "utf-8")
    with pytest.raises(FolderInUse, match=r"mine/\.gitignore: already there; nothing was written"):
        write_workspace(folder)
    assert [path.name for path in folder.iterdir()] == [".gitignore"]
    (folder / ".gitignore").rename(here / "a-file")
    with pytest.raises(FolderInUse, match=r"a-file.*cannot be written to"):
        write_workspace(here / "a-file")
    (folder / ".dagster").mkdir()
    (folder / "notes.md").touch()
    write_workspace(folder)
    assert (folder / "notes.md").exists() and (folder / "arena.yaml").exists()
