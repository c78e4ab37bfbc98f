"""What a saved step of an adapter holds, and what transformers loads of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest


@pytest.mark.slow
def test_the_adapter_that_is_trained_is_loaded_and_its_reference_left_as_it_is(
    tiny_model, tmp_path
):
    """With a copy as reference, which TRL names `ref`, transformers alone would load only that."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    from arena_assets.training.progress import saved_step, step_folder
    from arena_assets.training.saving import StepSaver

    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), config)
    model.add_adapter("ref", config)
    weights = {n: w for n, w in model.named_parameters() if "lora_B" in n}
    with torch.no_grad():
        for name, weight in weights.items():
            weight.fill_(3.0 if ".default." in name else 1.0)
    folder = step_folder(tmp_path, "dpo", 2)
    model.save_pretrained(folder)
    assert (folder / "ref").is_dir()
    saver = StepSaver(tmp_path, "dpo", 0, None)
    saver.on_train_begin(None, None, None)
    loader = SimpleNamespace(batch_sampler=SimpleNamespace(sampler=None))
    state = SimpleNamespace(global_step=2, is_world_process_zero=True)
    saver.order = {"random": torch.get_rng_state()}
    args = SimpleNamespace(world_size=1)
    saver.on_save(args, state, None, model=model, train_dataloader=loader)
    saved = saved_step(tmp_path, "dpo")
    assert saved and not (folder / "ref").exists()
    with torch.no_grad():
        for weight in weights.values():
            weight.fill_(1.0)  # as the parent has it, with which a run begins
    given = TrainingArguments(str(tmp_path / "out"), use_cpu=True, report_to=[])
    Trainer(model, given)._load_from_checkpoint(str(saved.folder))
    for name, weight in weights.items():
        assert (weight == (3.0 if ".default." in name else 1.0)).all(), name
        assert weight.requires_grad is (".default." in name)
