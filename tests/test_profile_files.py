"""Settings files as people spoil them: each mistake is one sentence that names its place."""

from __future__ import annotations

import os
import shutil
import string
import tempfile
from pathlib import Path

import pytest
from conftest import PROJECT, arena_command
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from arena_assets.config.judges import LLMJudge
from arena_assets.config.profile import Profile, load_profile
from arena_assets.config.settings import Settings
from arena_assets.config.settings_files import ProfileError, read_settings
from arena_assets.curation import difficulty
from arena_assets.judging.judges import read_template
from arena_assets.judging.panel import read_shadow_judge
from arena_assets.models.prompting import read_system_prompt

POCKET = (PROJECT / "profiles" / "pocket.yaml").read_text("utf-8")


class Section(Settings):
    """A small file of settings."""

    name: str
    inner: dict[str, int] = Field(default_factory=dict)
    numbers: tuple[int, ...] = ()


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "file.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(path: Path, kind: type = Section) -> str:
    with pytest.raises(ProfileError) as refused:
        read_settings(path, kind, "profile")
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "profile: the file is empty; expected keys"),
        ("# only a comment\n---\n", "profile: the file is empty"),
        ("- name: a\n", "profile: expected keys with their values, got a list"),
        ("just words\n", "profile: expected keys with their values, got a text"),
        ("42\n", "profile: expected keys with their values, got 42"),
        ("name: a\n\tinner: {}\n", "line 2, column 1: not valid YAML: found character '\\t'"),
        ("name: a\ninner: {a: 1\n", "line 3, column 1: not valid YAML: expected ',' or '}'"),
        ("name: a\n---\nname: b\n", "line 2, column 1: not valid YAML: but found another document"),
        ("name: !!python/object/apply:os.getcwd []\n", "line 1, column 7: not valid YAML: could"),
        ("name: a\ninner: {d: 2026-13-45}\n", "not valid YAML: month must be in 1..12"),
        (b"name: caf\xe9\n", "not a text in UTF-8 (byte 0xe9 at 9); save it as UTF-8"),
        ("name: a\n".encode("utf-16"), "not a text in UTF-8 (byte 0xff at 0); save it as UTF-8"),
        ("name: a\n".encode("utf-16-le"), "not valid YAML: unacceptable character #x0000"),
        (b"\x93NUMPY\x01\x00v\x00", "not a text in UTF-8 (byte 0x93 at 0)"),
    ],
)
def test_a_file_that_is_no_mapping_in_yaml_is_refused_in_one_line(tmp_path, text, told):
    path = written(tmp_path, text)
    message = refusal(path)
    assert message.startswith(str(path)) and told in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "key", "line", "first"),
    [
        ("name: a\nname: b\n", "name", 2, 1),
        ("name: a\ninner:\n  x: 1\n  y: 2\n  x: 3\n", "x", 5, 3),
        ("name: a\ninner: {x: 1, 'x': 3}\n", "x", 2, 2),
        ('name: a\ninner: {x: 1, y: 1,\n  "x": 1}\n', "x", 3, 2),
        ("name: a\nnumbers: [{yes: 1, true: 2}]\n", "true", 2, 2),
        ("name: a\nnumbers:\n  - {1: 1,\n     0x1: 2}\n", "0x1", 4, 3),
        ("name: a\nx: &x {k: 1}\ny: &y {j: 1}\ninner:\n  <<: *x\n  <<: *y\n", "<<", 6, 5),
    ],
)
def test_a_key_that_stands_twice_is_refused_at_any_depth(tmp_path, text, key, line, first):
    message = refusal(written(tmp_path, text))
    assert f", line {line}, " in message
    assert f"the key {key!r} is already on line {first}" in message


def test_anchors_and_merged_keys_may_be_overridden(tmp_path):
    text = (
        "name: &n a\ninner: {}\nnumbers: [1]\n"
        "# a comment, a byte order mark and Windows' line ends are fine\n"
    )
    path = written(tmp_path, b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert read_settings(path, Section, "profile").name == "a"

    class Both(Settings):
        a: dict[str, int]
        b: dict[str, int]
        c: dict[str, int]

    merged = "a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b, x: 3, z: 4}\n"
    found = read_settings(written(tmp_path, merged), Both, "profile")
    assert found.b == {"x": 2, "y": 1} and found.c == {"x": 3, "y": 1, "z": 4}


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60) | st.text(string.printable, max_size=60).map(str.encode))
def test_any_bytes_are_settings_or_one_clear_refusal(tmp_path_factory, content):
    path = written(tmp_path_factory.mktemp("any"), content)
    try:
        assert isinstance(read_settings(path, Section, "profile"), Section)
    except ProfileError as refused:
        assert str(refused).startswith(str(path))


def test_what_is_no_file_is_named(tmp_path):
    (tmp_path / "a.yaml").write_text("x: 1\n")
    assert "a folder, no profile; name a YAML file (there: a.yaml)" in refusal(tmp_path)
    assert "no such profile" in refusal(tmp_path / "gone.yaml")
    assert "cannot be read: Not a directory" in refusal(tmp_path / "a.yaml" / "b.yaml")
    for place in (tmp_path, tmp_path / "a.yaml" / "b.yaml", tmp_path / ("x" * 300)):
        with pytest.raises(ProfileError, match=r"folder|no such profile"):
            load_profile(place)


@pytest.fixture
def unreadable():
    """A file that nobody may read, and a user to whom that applies."""
    folder = Path(tempfile.mkdtemp(prefix="arena-unreadable-"))
    folder.chmod(0o755)
    path = written(folder, "name: a\n")
    path.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield path
    if root:
        os.seteuid(0)
    shutil.rmtree(folder)


def test_a_file_that_may_not_be_read_is_named(unreadable):
    assert "cannot be read: Permission denied" in refusal(unreadable)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("seed: 7", "sead: 7", "sead: unknown key (did you mean seed? valid here: name, seed,"),
        ("smollm2-135m: {", "smollm2-135m: {chat_templat: x, ", "models.smollm2-135m.chat_templat: "
         "unknown key (did you mean chat_template?"),
        ("self_judging: allow", "self_judgin: allow", "shadow_judges.0.judge.self_judgin: unknown "
         "key (did you mean self_judging? valid here: kind, name, model, template"),
        ("judge: {kind: verifier}", "judge: {kind: llm, name: j, model: smollm2-135m, tries: 2}",
         "judge.tries: unknown key (valid here: kind, name, model, template"),
        ("judge: {kind: verifier}", "judge: {kind: jury, members: [{judge: {kind: llm, name: j, "
         "model: smollm2-135m, template: 3}}, {judge: {kind: verifier}}]}",
         "judge.members.0.judge.template: Input should be a valid string"),
        ("    clusters: 90", "    rater: {model: smollm2-135m, atempts: 1}\n    clusters: 90",
         "prompts.testset.rater.atempts: unknown key (did you mean attempts?"),
        ("epochs: 2,", "epoch: 2,", "training.sft.epoch: unknown key (did you mean epochs?"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_told_with_the_one_that_was_meant(tmp_path, old, new, told):
    assert old in POCKET
    path = written(tmp_path, POCKET.replace(old, new))
    assert f"{path}: {told}" in refusal(path, Profile)


def test_templates_prompts_and_judges_are_read_in_the_same_way(tmp_path):
    double = written(tmp_path, "version: a\nsystem: s\nversion: b\nuser: u\n")
    for read in (read_template, read_system_prompt, difficulty.read_template):
        with pytest.raises(ProfileError, match=r"line 3.*'version' is already on line 1"):
            read(str(double))
        with pytest.raises(ProfileError, match=r"gone\.yaml: no such (judge|system|difficulty)"):
            read(str(tmp_path / "gone.yaml"))
    arena = load_profile(PROJECT / "profiles" / "pocket.yaml")
    with pytest.raises(ProfileError, match=r"line 3.*'version' is already"):
        read_shadow_judge(str(double), arena)
    text = "judge: {kind: llm, name: verifier, model: smollm2-135m}\n"
    with pytest.raises(ProfileError, match="judges: names must be distinct"):
        read_shadow_judge(str(written(tmp_path, text)), arena)


def test_a_relative_path_lies_beside_the_file_that_names_it(tmp_path, monkeypatch):
    own = tmp_path / "own"
    (own / "notes").mkdir(parents=True)
    prompt = "version: mine\nsystem: Be brief.\n"
    (own / "notes" / "brief.yaml").write_text(prompt, "utf-8")
    text = POCKET.replace("profiles/system_prompts/few-shot-v1.yaml", "notes/brief.yaml")
    (own / "p.yaml").write_text(text, "utf-8")
    monkeypatch.chdir(tmp_path)  # not the profile's folder
    monkeypatch.setenv("ARENA_PROFILE", "own/p.yaml")
    for path in ("own/p.yaml", None):
        opponent = load_profile(path).opponents[1]
        assert read_system_prompt(opponent.system_prompt).version == "mine"
        assert opponent.system_prompt == "notes/brief.yaml", "the profile's own words stay"
    (own / "notes" / "brief.yaml").unlink()
    with pytest.raises(ProfileError) as refused:
        load_profile("own/p.yaml")
    assert "opponents.1.system_prompt: notes/brief.yaml: no such file" in str(refused.value)
    assert f"looked for {own}/notes/brief.yaml and " in str(refused.value)
    with pytest.raises(ProfileError, match=f"{tmp_path}/gone.yaml: no such profile"):
        load_profile("gone.yaml")


def test_a_judge_file_names_a_template_beside_it(tmp_path):
    (tmp_path / "t.yaml").write_text("version: t\nsystem: s\nuser: u\n", "utf-8")
    text = "judge: {kind: llm, name: j, model: smollm2-135m, template: t.yaml}\n"
    shadow = read_shadow_judge(
        str(written(tmp_path, text)), load_profile(PROJECT / "profiles" / "pocket.yaml")
    )
    assert read_template(shadow.judge.template).version == "t"
    assert read_template(LLMJudge(kind="llm", name="j", model="m").template).version != "t"


def test_commands_tell_a_broken_profile_in_a_sentence_and_help_works_all_the_same(
    tmp_path, monkeypatch
):
    path = written(tmp_path, "name: a\nname: b\n")
    monkeypatch.setenv("ARENA_PROFILE", str(path))
    for command in (("status",), ("run",), ("profile",)):
        done = arena_command(*command)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert done.stderr == (
            f"{path}, line 2, column 1: not valid YAML: the key 'name' is already on line 1\n"
        )
    assert arena_command("--help").returncode == 0
