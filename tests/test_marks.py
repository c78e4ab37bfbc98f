"""What settings say in an identity: values that count, files by what is in them, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel, WrapValidator

from arena_assets.config.contents import jinja_tokens, prompt_values, template_values
from arena_assets.config.generation import Generation, changing_text
from arena_assets.config.judges import LLMJudge
from arena_assets.config.models import Endpoint, ModelSettings
from arena_assets.config.profile import Profile
from arena_assets.config.prompts import Encoder
from arena_assets.config.settings import FilePath
from arena_assets.lake.identity import NOT_IDENTITY, As, canonical


def sections(kind: type[BaseModel] = Profile) -> Iterator[type[BaseModel]]:
    """A section of a profile and all that are below it."""
    yield kind
    for field in kind.model_fields.values():
        for inner in flat(field.annotation):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from sections(inner)


def flat(annotation: Any) -> Iterator[Any]:
    """The kinds in an annotation, and the Annotated ones in it as they are."""
    if get_origin(annotation) is Annotated:
        yield annotation
    arguments = get_args(annotation)
    if not arguments and annotation not in (NoneType, None):
        yield annotation
    for argument in arguments:
        yield from flat(argument)


SECTIONS = list(dict.fromkeys(sections()))
FIELDS = [(kind, name) for kind in SECTIONS for name in kind.model_fields]


def test_no_mark_of_a_setting_is_hidden_in_a_union():
    """Pydantic shows those of the outermost annotation only."""
    assert len(FIELDS) > 100
    for kind, name in FIELDS:
        for inner in flat(kind.model_fields[name].annotation):
            hidden = [m for m in get_args(inner)[1:] if isinstance(m, As) or m is NOT_IDENTITY]
            assert not hidden, f"{kind.__name__}.{name}: write Annotated[... | None, mark]"


def test_every_file_of_a_profile_goes_in_by_its_content():
    existing = [mark for mark in get_args(FilePath) if isinstance(mark, WrapValidator)]
    files = []
    for kind, name in FIELDS:
        field = kind.model_fields[name]
        marks = [*field.metadata, *(m for i in flat(field.annotation) for m in get_args(i)[1:])]
        if any(mark in existing for mark in marks):
            files.append(f"{kind.__name__}.{name}")
            assert any(isinstance(mark, As) for mark in field.metadata), files[-1]
    assert len(files) == 10, files


def test_what_changes_no_value_is_marked():
    neutral = {f"{k.__name__}.{n}" for k, n in FIELDS if NOT_IDENTITY in k.model_fields[n].metadata}
    assert neutral == {
        *("Profile.name", "Profile.quality", "Profile.executor"),
        *("ModelSettings.price", "ModelSettings.tokens_per_second"),
        *("Endpoint.urls", "Endpoint.api_key_env", "Endpoint.concurrency", "Endpoint.timeout"),
        *("Endpoint.retries", "Endpoint.seeds"),
        *("Generation.batch", "Encoder.batch"),
        *("Training.launcher", "Training.gradient_checkpointing", "Training.save_every"),
        *("Training.processes", "Training.nodes", "Training.report_to"),
        *(f"{kind}.device_batch" for kind in ("Imitation", "RewardFitting")),
        *("PreferenceOptimisation.device_batch", "Reinforcement.device_batch"),
    }


def test_settings_of_the_engine_that_change_no_text_are_left_out_and_unknown_ones_count():
    neutral = {"gpu_memory_utilization": 0.8, "tensor_parallel_size": 8, "enforce_eager": True}
    assert changing_text({**neutral, "dtype": "auto", "max_num_seqs": 16}) == {}
    assert canonical(Generation(engine=neutral, batch=7)) == {}
    counting = {"max_model_len": 2048, "quantization": "fp8", "made_up_tomorrow": 1}
    assert changing_text({**neutral, **counting, "dtype": "half"}) == {
        **counting,
        "dtype": "float16",
    }


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ("# by hand\nsystem: >-\n  Be\n  brief.\nversion: 'v1'\n", True),
        ("version: a label\nsystem: Be brief.\n", True),
        ("version: v1\nsystem: Be brief!\n", False),
        ("version: v1\nsystem: Be brief.\nexamples: [{user: a, assistant: b}]\n", False),
    ],
)
def test_a_comment_in_a_yaml_file_changes_nothing_and_a_word_does(tmp_path, change, same):
    file = tmp_path / "prompt.yaml"
    file.write_text("version: v1\nsystem: Be brief.\n", "utf-8")
    before = prompt_values(str(file)), template_values(str(file))
    file.write_text(change, "utf-8")
    assert ((prompt_values(str(file)), template_values(str(file))) == before) is same


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ("{# why #}{% for m in messages %}{{ m.content }}{% endfor %}", True),
        ("{%for m in messages%}{{m.content}}{# it's\nlong #}{% endfor %}", True),
        ("{% for m in messages -%} {{ m.content }}{% endfor %}", True),
        ("{% for m in messages %}{{ m.content }} {% endfor %}", False),
        ("{% for m in messages %}{{ m.role }}{% endfor %}", False),
        ("{% for m in messages %}{{ m.content }}{% endfor %}.", False),
        ("{% for m in messages %}{{ m.content", False),
    ],
)
def test_a_comment_in_a_template_changes_nothing_and_a_word_does(tmp_path, change, same):
    plain = "{% for m in messages %}{{ m.content }}{% endfor %}"
    assert (jinja_tokens(change) == jinja_tokens(plain)) is same
    assert (jinja_tokens(change, trimmed=True) == jinja_tokens(plain, trimmed=True)) is same
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    for file, user in zip(files, (plain, change), strict=True):
        file.write_text(yaml.safe_dump({"version": "v", "system": "s", "user": user}), "utf-8")
    assert (template_values(str(files[0])) == template_values(str(files[1]))) is same


def test_operators_of_a_template_count():
    assert jinja_tokens("{{ a - 1 }}") != jinja_tokens("{{ a + 1 }}")
    assert jinja_tokens("{{ 'a-' }}") != jinja_tokens("{{ 'a' }}")
    assert jinja_tokens("a {{- b }}") == jinja_tokens("a{{ b }}")


def test_an_encoder_in_a_folder_is_its_files(tmp_path):
    """Wherever they lie: a folder that was trained anew embeds otherwise under its old name."""
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        (folder / "1_Pooling").mkdir(parents=True)
        (folder / "modules.json").write_text("[]", "utf-8")
        (folder / "1_Pooling/config.json").write_text("{}", "utf-8")
        (folder / "model.safetensors").write_bytes(b"weights")
    plain = canonical(Encoder(path=str(one)))
    assert plain["path"] and canonical(Encoder(path=str(other), batch=8)) == plain
    (other / ".cache").mkdir()
    (other / ".cache/note").write_text("of the hub", "utf-8")
    assert canonical(Encoder(path=str(other))) == plain
    (other / "model.safetensors").write_bytes(b"other weights")
    assert canonical(Encoder(path=str(other))) != plain
    assert canonical(Encoder(path=str(tmp_path / "none"))) == {}, "told by whoever loads it"


def test_a_broken_file_goes_in_as_it_is(tmp_path):
    (tmp_path / "a.yaml").write_text("version: [", "utf-8")
    assert prompt_values(str(tmp_path / "a.yaml")) == "version: ["


def test_where_a_model_is_served_and_what_it_costs_is_no_part_of_what_it_says(tmp_path):
    plain = {"endpoint": {"urls": ["http://a/v1"], "model": "m"}}
    moved = {
        "endpoint": {**plain["endpoint"], "urls": ["http://b/v1"], "retries": 1, "seeds": False},
        "price": {"prompt": 1, "completion": 2},
        "tokens_per_second": 9,
    }
    read = ModelSettings.model_validate
    assert canonical(read(moved)) == canonical(read(plain))
    renamed = Endpoint(urls=("http://a/v1",), model="m", parameters={"max_tokens": "n_predict"})
    assert canonical(ModelSettings(endpoint=renamed)) == canonical(read(plain))
    for change in ({"version": "2"}, {"parameters": {"top_p": None}}, {"extra_body": {"k": 1}}):
        other = read({"endpoint": plain["endpoint"] | change})
        assert canonical(other) != canonical(read(plain))


def test_a_file_that_is_the_default_is_read_all_the_same(monkeypatch, tmp_path):
    """One of that name in the workspace comes before the one that comes with the program."""
    judge = LLMJudge(kind="llm", name="j", model="m")
    before = canonical(judge)
    own = tmp_path / judge.template
    own.parent.mkdir(parents=True)
    own.write_text("version: mine\nsystem: Judge.\nuser: All of it.\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    assert canonical(judge)["template"]["system"] == "Judge."
    assert canonical(judge) != before
