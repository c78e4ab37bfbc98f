"""LoRA: what is trained, what a checkpoint holds, and what its adapter says when it is asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

from arena_assets.config.profile import load_profile
from arena_assets.config.training import LoRA
from arena_assets.lake.tables import MESSAGES
from arena_assets.training.job import Job
from arena_assets.training.kept_adapters import differences, is_adapter, settle


def user(text):
    return {"role": "user", "content": text}


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    """Training rows of every kind: what SFT, DPO, the reward model and RL learn from."""
    asked = [[user(f"Name river {number}")] for number in range(6)]
    asked += [[user(f"Name river {number}"), user("Where does it end?")] for number in range(2)]
    found = []
    for number, messages in enumerate(asked):
        row = {"messages": messages, "chosen_turns": ["The Rhone", "In the sea"][: len(messages)],
               "rejected_turns": ["A lake", "No"][: len(messages)]}  # fmt: skip
        found += [row | {"row_id": f"{kind}{number}", "prompt_id": f"p{number}", "kind": kind}
                  for kind in ("sft", "preference", "prompt")]  # fmt: skip
    turns = pa.list_(pa.string())
    texts = dict.fromkeys(("row_id", "prompt_id", "kind"), pa.string())
    columns = texts | {"messages": MESSAGES}
    schema = pa.schema(columns | {"chosen_turns": turns, "rejected_turns": turns})
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(found, schema=schema), path)
    return path


@pytest.fixture
def job(tiny_model, tiny_profile, rows, tmp_path):
    def job(stage, lora, adapter=None, **sections):
        training = load_profile(tiny_profile).training
        changed = {n: getattr(training, n).model_copy(update=s) for n, s in sections.items()}
        output = tmp_path / f"{stage}-{len(list(tmp_path.iterdir()))}"
        output.mkdir()
        return Job(
            stage=stage,
            model=tiny_model,
            adapter=adapter,
            training_set=rows,
            output=output,
            training=training.model_copy(update={"lora": lora, **changed}),
            seed=0,
        )

    return job


def tensors(folder: Path, name: str = "model.safetensors"):
    with safe_open(folder / name, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)


def run(job: Job) -> Path:
    from arena_assets.training.trainers import train

    train(job)
    return job.output


KEPT = LoRA(rank=4, alpha=64, merge=False)
MERGED = LoRA(rank=4, alpha=64)


def test_a_merged_checkpoint_is_the_base_with_the_adapter_that_sft_learned(job, tiny_model):
    import torch

    kept, merged = run(job("sft", KEPT)), run(job("sft", MERGED))
    assert not (kept / "model.safetensors").exists() and is_adapter(kept)
    assert not is_adapter(merged), "it is whole"
    before, after = tensors(tiny_model), tensors(merged)
    adapter = tensors(kept, "adapter_model.safetensors")
    name = "model.layers.0.mlp.up_proj"
    low, high = (adapter[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
    assert low.dtype == torch.float32 and high.abs().max() > 0
    by_hand = (before[f"{name}.weight"].float() + 64 / 4 * high @ low).to(torch.bfloat16)
    assert torch.equal(after[f"{name}.weight"].to(torch.bfloat16), by_hand)
    same = before["model.embed_tokens.weight"].to(torch.bfloat16)
    assert torch.equal(after["model.embed_tokens.weight"].to(torch.bfloat16), same), "not adapted"


def test_an_adapter_that_is_kept_is_trained_on_against_itself_as_the_reference(job):
    import torch

    from arena_assets.training.dpo import dpo_trainer

    first = run(job("sft", KEPT, sft={"learning_rate": 0.05}))
    again = dpo_trainer(job("dpo", KEPT, adapter=first))
    assert set(again.model.peft_config) == {"default", "ref"}
    fresh = dpo_trainer(job("dpo", KEPT))
    other = fresh.train_dataset[0]["ref_chosen_logps"] - again.train_dataset[0]["ref_chosen_logps"]
    assert abs(other) > 0.1, "the reference is the parent, with its adapter"
    whole = dpo_trainer(job("dpo", None, adapter=first))
    found = [trainer.train_dataset["ref_chosen_logps"] for trainer in (again, whole)]
    assert found[0] == pytest.approx(found[1], abs=1e-3), "as the same weights in one piece have it"
    second = run(job("dpo", KEPT, adapter=first, dpo={"learning_rate": 0.01}))
    one, two = (tensors(folder, "adapter_model.safetensors") for folder in (first, second))
    assert one.keys() == two.keys()
    assert any(not torch.equal(one[name], two[name]) for name in one)
    assert not (second / "ref").exists()


def test_a_new_adapter_has_the_model_without_it_as_the_reference_of_dpo(job):
    from arena_assets.training.dpo import dpo_trainer

    found = [dpo_trainer(job("dpo", lora)).train_dataset for lora in (None, MERGED)]
    logs = [dataset["ref_rejected_logps"] for dataset in found]
    assert logs[0] == pytest.approx(logs[1], abs=1e-4)


@pytest.mark.drill
@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_rl_with_an_adapter_has_a_reward_model_whose_head_was_trained(job, algorithm):
    import torch

    first = run(job("sft", KEPT, sft={"learning_rate": 0.05}))
    folder = run(job("rl", KEPT, adapter=first, rl={"algorithm": algorithm}))
    assert is_adapter(folder) and not list(folder.glob("trainer-*"))
    reward = folder / "reward_model"
    assert not is_adapter(reward), "a reward model is always whole"
    head = tensors(reward)["score.weight"]
    assert head.shape == (1, 64) and head.abs().max() > 0
    moved = tensors(run(job("rl", KEPT, adapter=first, rl={"algorithm": algorithm},
                            reward_model={"learning_rate": 0.05})) / "reward_model")  # fmt: skip
    assert not torch.equal(moved["score.weight"].float(), head.float()), "the head learns"


def test_what_the_folder_of_an_adapter_says_is_the_same_on_every_machine(job, tmp_path):
    folder = run(job("sft", KEPT))
    settle(folder, "tiny", "PyPI package llm-tiny", "d1gest")
    said = json.loads((folder / "base.json").read_text("utf-8"))
    assert said == {"model": "tiny", "origin": "PyPI package llm-tiny", "digest": "d1gest"}
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    assert config["base_model_name_or_path"] == "PyPI package llm-tiny"
    assert config["target_modules"] == sorted(config["target_modules"])
    assert str(tmp_path.parent) not in (folder / "adapter_config.json").read_text("utf-8")
    assert differences(folder, KEPT) == []
    assert differences(folder, KEPT.model_copy(update={"rank": 8})) == ["rank 4, not 8"]
    only = KEPT.model_copy(update={"target_modules": ("q_proj",), "alpha": 8})
    assert differences(folder, only)[0] == "alpha 64, not 8"


@pytest.mark.parametrize(
    ("lora", "told"),
    [
        ({"target_modules": []}, "at least one module"),
        ({"target_modules": ["lm_head"]}, "lm_head"),
        ({"rank": 0}, "greater than 0"),
        ({"quantise": "8bit"}, "'none' or '4bit'"),
        ({"alfa": 3}, "alpha"),
    ],
)
def test_settings_of_an_adapter_that_cannot_be_are_told(tmp_path, lora, told):
    import yaml
    from conftest import TINY_PROFILE

    from arena_assets.config.settings_files import ProfileError

    path = tmp_path / "arena.yaml"
    training = TINY_PROFILE["training"] | {"lora": lora}
    path.write_text(yaml.safe_dump(TINY_PROFILE | {"training": training}), "utf-8")
    with pytest.raises(ProfileError, match=told) as error:
        load_profile(path)
    assert "training.lora" in str(error.value)


@pytest.mark.drill
def test_an_adapter_answers_through_the_engine_of_its_base(tiny_model, job):
    """As transformers answers with it; the base itself answers as before, and is loaded once."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from arena_assets.config.models import Sampling
    from arena_assets.models.engine import Request
    from arena_assets.models.model import Local
    from arena_assets.models.opening import open_engine

    folder = run(job("sft", KEPT, sft={"learning_rate": 0.05}))
    settings = {"enforce_eager": True, "dtype": "float32", "max_model_len": 256}
    base = Local("tiny", tiny_model, "d", adapters=4)
    adapted = replace(base, name="i01.1-sft", path=folder, base=base, adapters=None)
    asked = [Request("p", [user("Name a river")])]
    engines = [open_engine(model, 0, settings) for model in (base, adapted, base)]
    assert engines[0] is engines[2] and engines[0]._llm is engines[1]._llm
    said = [e.chat(asked, Sampling(max_tokens=12))[0][0].text for e in engines]

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokens = tokenizer.apply_chat_template(
        asked[0].messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    whole = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    model = PeftModel.from_pretrained(whole, folder)

    def by_hand():
        ids = model.generate(**tokens, max_new_tokens=12, do_sample=False)
        return tokenizer.decode(ids[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True)

    with model.disable_adapter():
        plain = by_hand()
    # vLLM leaves out bytes at the end that are no whole character
    assert said == [text.rstrip("\ufffd") for text in (plain, by_hand(), plain)]
    assert said[0] != said[1]
