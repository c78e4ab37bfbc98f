"""What is part of the key of answers, verdicts and ratings that were paid for, and what is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from arena_assets.config.contents import template_tokens
from arena_assets.config.generation import changing_text
from arena_assets.config.judges import LLMJudge
from arena_assets.config.models import Endpoint, Sampling
from arena_assets.config.training import Optimisation
from arena_assets.curation.difficulty import key_of
from arena_assets.curation.sources import _id_of
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.handover import round_contestants
from arena_assets.generation.contestants import Contestant
from arena_assets.judging.judges import LanguageModelJudge, Verifier
from arena_assets.lake.code import CODE, deciding_files
from arena_assets.models.model import Local, Recorded, Served
from arena_assets.models.prompting import SystemPrompt
from arena_assets.models.weights import templated
from arena_assets.training.checkpoints import learned_digest, training_fingerprint
from arena_assets.training.making import Course


class WiderSampling(Sampling):
    """As a later version may have it: with one more setting, whose default changes nothing."""

    min_p: float = 0.0


class WiderOptimisation(Optimisation):
    """The same of training."""

    optimiser: str = "adamw"


LOCAL = Local("m", Path("/m"), "digest")
SERVED = Served("m", "digest", Endpoint(urls=("http://a/v1",), model="m"))


def contestant(**changes) -> Contestant:
    given = {"model": LOCAL, "sampling": Sampling(max_tokens=9)} | changes
    return Contestant("ann", "opponent", **given)


def judge(tmp_path, template="Compare {{ answer_a }} with {{ answer_b }}.", **changes):
    model, label = changes.pop("asked", LOCAL), changes.pop("label", "v1")
    file = tmp_path / "judge.yaml"
    file.write_text(yaml.safe_dump({"version": label, "system": "s", "user": template}), "utf-8")
    settings = {"kind": "llm", "name": "j", "model": "m", "template": str(file), **changes}
    return LanguageModelJudge(LLMJudge(**settings), model, lambda: None).key


def with_engine(**settings) -> Local:
    return replace(LOCAL, engine_settings=changing_text(settings))


def test_a_neutral_new_setting_changes_no_key(tmp_path):
    assert contestant(sampling=WiderSampling(max_tokens=9)).key(0) == contestant().key(0)
    assert contestant(sampling=WiderSampling(max_tokens=9, min_p=0.1)).key(0) != contestant().key(0)
    asked = [{"role": "user", "content": "Hi"}]
    rated = [key_of("m", s, asked) for s in (Sampling(), WiderSampling(), Sampling(stop=("x",)))]
    assert rated[0] == rated[1] != rated[2]
    plain = LanguageModelJudge(LLMJudge(kind="llm", name="j", model="m"), LOCAL, lambda: None)
    wider = LanguageModelJudge(
        plain.settings.model_copy(update={"sampling": WiderSampling(max_tokens=512)}),
        LOCAL,
        lambda: None,
    )
    assert plain.key == wider.key
    given = {"epochs": 1, "learning_rate": 1e-4, "batch": 8}
    prints = [
        training_fingerprint("sft", "p", "t", {"sft": kind(**given)}, 0)
        for kind in (Optimisation, WiderOptimisation)
    ]
    assert prints[0] == prints[1]


def test_what_determines_an_answer_is_in_its_key():
    brief = SystemPrompt(version="v1", system="Be brief.")
    changes = [
        {},
        {"model": replace(LOCAL, digest="of other weights")},
        {"model": Recorded(Path("/m"), "digest")},
        {"model": SERVED},
        {"model": with_engine(dtype="float32")},
        {"model": with_engine(dtype="bfloat16")},
        {"model": with_engine(quantization="fp8")},
        {"model": with_engine(max_model_len=512)},
        {"model": with_engine(made_up_tomorrow=True)},
        {"sampling": Sampling(max_tokens=10)},
        {"sampling": Sampling(max_tokens=9, stop=("x",))},
        {"sampling": Sampling(max_tokens=9, temperature=0.5)},
        {"sampling": Sampling(max_tokens=9, temperature=0.5), "best_of": 2},
        {"system_prompt": brief},
        {"system_prompt": SystemPrompt(version="v1", system="Be brief!")},
    ]
    assert len({contestant(**change).key(0) for change in changes}) == len(changes)
    drawn = contestant(sampling=Sampling(temperature=0.5))
    assert drawn.key(0) != drawn.key(1) and contestant().key(0) == contestant().key(1)


def test_what_does_not_determine_an_answer_is_in_no_key():
    plain = contestant().key(0)
    neutral = with_engine(
        dtype="auto", gpu_memory_utilization=0.5, enforce_eager=True, tensor_parallel_size=2
    )
    assert contestant(model=neutral).key(0) == plain
    moved = replace(LOCAL, path=Path("/elsewhere"), name="n")
    assert contestant(model=moved).key(0) == plain
    labels = [SystemPrompt(version=v, system="Be brief.") for v in ("v1", "v2")]
    assert len({contestant(system_prompt=p).key(0) for p in labels}) == 1
    assert contestant(sampling=Sampling(max_tokens=9, temperature=0, top_p=1)).key(0) == plain


def test_what_determines_a_verdict_is_in_its_key_and_nothing_else(tmp_path):
    plain = judge(tmp_path)
    assert judge(tmp_path, label="v2", name="k", self_judging="allow") == plain
    assert judge(tmp_path, "{# why #}Compare {{answer_a}} with {{ answer_b }}.") == plain
    others = [
        judge(tmp_path, "Weigh {{ answer_a }} and {{ answer_b }}."),
        judge(tmp_path, attempts=1),
        judge(tmp_path, sampling=Sampling(max_tokens=100)),
        judge(tmp_path, asked=with_engine(dtype="float16")),
        judge(tmp_path, asked=replace(LOCAL, digest="other")),
        Verifier.key,
    ]
    assert len({plain, *others}) == 1 + len(others)


def test_a_version_of_code_is_in_the_keys_of_what_it_decides_and_in_no_other(tmp_path, monkeypatch):
    def keys() -> dict[str, str]:
        return {
            "answer": contestant().key(0),
            "served answer": contestant(model=SERVED).key(0),
            "verdict": judge(tmp_path),
            "difficulty": key_of(LOCAL.identity, Sampling(), []),
            "checkpoint": training_fingerprint("sft", "p", "t", {}, 0),
        }

    before = keys()
    for code, decides in {
        "answer": {"answer", "served answer"},
        "local engine": {"answer", "verdict", "difficulty"},
        "served engine": {"served answer"},
        "asking": {"answer", "served answer", "verdict", "difficulty"},
        "verdict": {"verdict"},
        "difficulty": {"difficulty"},
        "checkpoint": {"checkpoint"},
        "ratings": set(),
    }.items():
        with monkeypatch.context() as raised:
            raised.setitem(CODE, code, replace(CODE[code], version=99))
            after = keys()
        assert {name for name in before if after[name] != before[name]} == decides, code


def test_answers_in_the_store_are_not_those_of_another_engine_template_or_weights(
    tmp_path, tiny_profile
):
    """Up to the key of every contestant of a round, from the profile and the lake."""
    template = tmp_path / "template.jinja"
    template.write_text("{{ messages }}", "utf-8")

    def found(digest="weights", **engine) -> dict[str, str]:
        profile = yaml.safe_load(tiny_profile.read_text("utf-8"))
        tiny = profile["models"]["tiny"]
        tiny["chat_template"] = str(template)
        profile["generation"]["engine"] |= engine
        (tmp_path / "arena.yaml").write_text(yaml.safe_dump(profile), "utf-8")
        arena = Arena(str(tmp_path / "arena.yaml"), str(tmp_path / "lake"))
        row = {"name": "tiny", "origin": tiny["path"], "path": tiny["path"], "digest": digest}
        arena.lake.write("models", [row])
        return {c.name: c.key(0) for c in round_contestants(arena, "i01.1-sft")}

    before = found()
    assert found(gpu_memory_utilization=0.3, enforce_eager=False) == before
    template.write_text("{# as of now #}{{ messages }}", "utf-8")
    assert found() == before
    changes = [found(max_model_len=512), found(dtype="bfloat16"), found(digest="replaced")]
    template.write_text("{{ messages }}\nGo on.", "utf-8")
    changes.append(found())
    for after in changes:
        changed = {name for name in before if after[name] != before[name]}
        assert changed == {"base", "best-of-2"}, "what is recorded stays what it is"


def test_a_checkpoint_depends_on_its_own_stage_and_on_no_machine(tmp_path, tiny_profile):
    def prints(*changes: tuple[str, str, Any]) -> list[str]:
        profile = yaml.safe_load(tiny_profile.read_text("utf-8"))
        for section, name, value in changes:
            (profile["training"][section] if section else profile["training"])[name] = value
        (tmp_path / "arena.yaml").write_text(yaml.safe_dump(profile), "utf-8")
        arena = Arena(str(tmp_path / "arena.yaml"), str(tmp_path / "lake"))
        first = min(arena.rounds.values(), key=lambda one: one.key)
        courses = [
            Course(replace(first, stage=stage), "base", LOCAL, arena.lake, arena.profile)
            for stage in ("sft", "dpo", "rl")
        ]
        return [training_fingerprint(c.round.stage, "p", "t", c.config, 0) for c in courses]

    before = prints()
    neutral = [("sft", "device_batch", 2), ("", "launcher", ["srun"]), ("", "processes", 2)]
    neutral += [(stage, "device_batch", 4) for stage in ("dpo", "reward_model", "rl")]
    assert prints(*neutral, ("", "gradient_checkpointing", True)) == before
    for stage, change in enumerate(
        [("sft", "warmup", 0.1), ("dpo", "learning_rate", 2e-4), ("reward_model", "batch", 16)]
    ):
        after = prints(change)
        assert [n for n in range(3) if after[n] != before[n]] == [stage], change
    assert not set(prints(("", "dtype", "bfloat16"))) & set(before)


def test_a_chat_template_is_learned_with_as_it_goes_into_the_fingerprint(tmp_path, tiny_profile):
    """One that is edited while a round begins to train is read once."""
    template = tmp_path / "chat.jinja"
    template.write_text("\ufeff{{ messages[0].content }}", "utf-8")
    arena = Arena(str(tiny_profile), str(tmp_path / "lake"))
    (first, *_) = arena.rounds.values()
    model = replace(LOCAL, chat_template=str(template))
    course = Course(first, "base", model, arena.lake, arena.profile)
    before = template_tokens(str(template))
    assert course.chat_template == "{{ messages[0].content }}"
    template.write_text("{{ messages[0].role }}", "utf-8")
    assert course.config["chat_template"] == before
    assert "training/making.py" in deciding_files("checkpoint")


def test_what_a_training_set_teaches_is_not_under_which_keys_it_was_found(tmp_path):
    row = {"row_id": "r", "kind": "sft", "messages": [{"role": "user", "content": "Q"}]}
    row |= {"chosen_turns": ["yes"], "rejected_turns": ["no"], "chosen_response": "key"}

    def digest(*rows: dict[str, Any]) -> str:
        pq.write_table(pa.Table.from_pylist(list(rows)), tmp_path / "t.parquet")
        return learned_digest(tmp_path / "t.parquet")

    second = row | {"chosen_turns": ["well"]}
    plain = digest(row, second)
    assert digest(row | {"chosen_response": "another"}, second) == plain
    assert plain not in (digest(second, row), digest(row), digest(row, row | {"kind": "x"}))


def test_prompts_keep_their_identifiers():
    """Slices are drawn by them: with others, other prompts would be paid for."""
    assert _id_of("seed", [{"role": "user", "content": "hé"}]) == (
        "79afaa32931f5ae0cc8ba1c77abc2bde"
    )


def test_a_chat_template_s_words_are_part_of_the_weights_they_are_asked_through(tmp_path):
    file = tmp_path / "template.jinja"
    found = []
    for text in ("{{ messages }}", "{# plain #}{{ messages }}", "{{ messages }}\n\nGo on."):
        file.write_text(text, "utf-8")
        found.append(templated("weights", str(file)))
    assert found[0] == found[1] != found[2]
    assert len({templated("others", str(file)), templated("weights", None), *found}) == 4


def test_defaults_that_are_left_out_of_keys_are_these():
    """One of them changed is another answer under the same key: raise a version in lake/code.py."""
    assert Sampling().model_dump() == {
        "temperature": 0.0,
        "top_p": 1.0,
        "max_tokens": 1024,
        "repetition_penalty": 1.0,
        "stop": (),
        "seed": None,
    }
    endpoint = Endpoint(urls=("http://a/v1",), model="m")
    assert (endpoint.version, endpoint.structured_outputs, endpoint.system_role) == ("", True, True)
