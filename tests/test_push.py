"""A push speaks to a hub: a real server of the tests, with a token that is never shown."""

from __future__ import annotations

import pytest
from hub_server import TOKEN, hub
from huggingface_hub import constants
from registry_lake import fill, small_arena
from test_assets import FIRST, SECOND

from arena_assets.flywheel.exporting import push
from arena_assets.flywheel.registry import RegistryError, resolve


@pytest.fixture
def arena(tmp_path):
    arena = small_arena(tmp_path)
    fill(arena)
    return arena


@pytest.fixture
def server(monkeypatch):
    with hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        # the weights go through LFS, which the tests' hub speaks; Xet needs the hub's own storage
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield server


def test_a_model_is_pushed_whole_with_its_card(arena, server):
    entry = resolve(arena, FIRST)
    url = push(arena, entry, "tester/oak", private=True)
    assert url == f"{server.address}/tester/oak/commit/c0ffee"
    files = server.repositories["tester/oak"]
    folder = arena.checkpoints.path(FIRST)
    assert set(files) == {"README.md", "config.json", "manifest.json", "model.safetensors"}
    for name in ("model.safetensors", "config.json"):
        assert files[name] == (folder / name).read_bytes()
    assert entry.digest.encode() in files["README.md"]
    assert server.private == {"tester/oak": True}
    assert server.commits == [f"{FIRST} of arena tiny, {entry.digest}"]


def test_a_second_push_leaves_no_weights_of_the_first_behind(arena, server):
    push(arena, resolve(arena, FIRST), "tester/oak", private=False)
    files = server.repositories["tester/oak"]
    files["model-00001-of-00002.safetensors"] = b"a shard of before"
    files["model.safetensors.index.json"] = b"{}"
    files["notes.txt"] = b"somebody's own"
    push(arena, resolve(arena, SECOND), "tester/oak", private=False)
    assert files["model.safetensors"] == b"other weights" and files["notes.txt"]
    assert not [name for name in files if "00002" in name or "index" in name]


def test_what_should_be_private_is_not_put_where_everybody_reads(arena, server):
    push(arena, resolve(arena, FIRST), "tester/oak", private=False)
    before = dict(server.repositories["tester/oak"])
    with pytest.raises(RegistryError, match="tester/oak is there already and everybody can read"):
        push(arena, resolve(arena, SECOND), "tester/oak", private=True)
    assert server.repositories["tester/oak"] == before
    push(arena, resolve(arena, FIRST), "tester/elm", private=True)
    push(arena, resolve(arena, SECOND), "tester/elm", private=True)


@pytest.mark.parametrize("token", [None, "", "  "])
def test_without_a_token_nothing_is_asked(arena, server, monkeypatch, token):
    monkeypatch.delenv("HF_TOKEN")
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(RegistryError, match="HF_TOKEN is not set: make a token"):
        push(arena, resolve(arena, FIRST), "tester/oak", private=False)
    assert server.repositories == {}


def test_a_hub_that_refuses_is_told_in_a_sentence_without_the_token(
    arena, server, monkeypatch, caplog
):
    wrong = "hf_aWrongTokenOfTheTests"
    monkeypatch.setenv("HF_TOKEN", wrong)
    caplog.set_level("DEBUG")
    with pytest.raises(
        RegistryError, match=rf"tester/oak was not pushed to {server.address}: .*401"
    ) as told:
        push(arena, resolve(arena, FIRST), "tester/oak", private=False)
    assert wrong not in str(told.value) and wrong not in caplog.text
    assert "\n" not in str(told.value) and server.repositories == {}


def test_a_name_that_is_no_repository_and_a_hub_that_is_not_there_are_told(
    arena, server, monkeypatch
):
    with pytest.raises(RegistryError, match="a/b/c was not pushed"):
        push(arena, resolve(arena, FIRST), "a/b/c", private=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(RegistryError, match=r"tester/oak was not pushed to http://127.0.0.1:9"):
        push(arena, resolve(arena, FIRST), "tester/oak", private=False)
