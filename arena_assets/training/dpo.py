"""DPO on TRL, over pairs in tokens of our own.

TRL's preparation is stepped around: it knows one answer a row and would count the user's words
between several.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch
from datasets import Dataset, concatenate_datasets
from safetensors.torch import load_file, save_file
from torch.nn.utils.rnn import pad_sequence

from arena_assets.lake.durable import replace
from arena_assets.training.adapters import lora_of
from arena_assets.training.fitting import Log, config_of, fit_and_save, shared_arguments
from arena_assets.training.job import Job
from arena_assets.training.loading import encoder_of, learned_rows, policy, tokenizer_of
from arena_assets.training.progress import note, phase_folder
from arena_assets.training.ranks import is_first_process
from arena_assets.training.steps import WholeSteps

_REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")


def dpo(job: Job) -> None:
    fit_and_save(dpo_trainer(job), job.output, job, "dpo")


def dpo_trainer(job: Job) -> Any:
    """TRL's DPO on pairs with masks: the answers' tokens count, and nothing between them."""
    from trl import DPOConfig, DPOTrainer

    class MaskedDPOTrainer(WholeSteps, DPOTrainer):
        def _prepare_dataset(self, dataset: Dataset, *args: Any) -> Dataset:
            return dataset  # it is in tokens already

        def _precompute_ref_logps(self, dataset: Dataset, *args: Any) -> Dataset:
            file = phase_folder(job.output, "dpo") / "reference.safetensors"
            if file.exists():  # a run that was killed computed them
                known = {name: values.tolist() for name, values in load_file(file).items()}
                return concatenate_datasets([dataset, Dataset.from_dict(known)], axis=1)
            started = time.monotonic()
            dataset = super()._precompute_ref_logps(_shared(dataset, config), *args)
            if is_first_process():
                spent = time.monotonic() - started
                note(job.output, {"phase": "dpo", "step": 0, "reference_runtime": spent})
                scratch = file.with_suffix(".partial")
                save_file({name: torch.tensor(dataset[name][:]) for name in _REFERENCE}, scratch)
                replace(scratch, file)
            return dataset

    settings = job.training.dpo
    encoder, tokenizer = encoder_of(job), tokenizer_of(job)
    dataset = learned_rows(
        job, "dpo", "preference", lambda row: encoder.pair(row, settings.max_length)
    )
    shared = shared_arguments(
        job,
        settings,
        "dpo",
        max_length=None,
        beta=settings.beta,
        remove_unused_columns=False,
        # one pass over the reference before training: after it one model is in memory
        precompute_ref_log_probs=True,
    )
    config = config_of(DPOConfig, "dpo", shared)
    if is_first_process():
        print("dpo: computing the reference's log-probabilities")
    return MaskedDPOTrainer(
        policy(job),
        args=config,
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=lora_of(job),
        data_collator=partial(collate_pairs, padding=tokenizer.pad_token_id),
        callbacks=[Log(job.output, "dpo")],
    )


def _shared(dataset: Dataset, config: Any) -> Dataset:
    """Rows in a file, beside which the first process can leave what the others are to read."""
    if config.world_size == 1:
        return dataset
    folder = f"{config.output_dir}/rows"
    if is_first_process():
        dataset.save_to_disk(folder)
    torch.distributed.barrier()
    return Dataset.load_from_disk(folder)


def collate_pairs(examples: list[dict[str, Any]], padding: int) -> dict[str, torch.Tensor]:
    """A batch of pairs: the chosen sides in its first half, the rejected ones in its second."""
    sides = [(example, side) for side in ("chosen", "rejected") for example in examples]

    def padded(column: str, value: int) -> torch.Tensor:
        rows = [torch.tensor(example[f"{side}_{column}"]) for example, side in sides]
        return pad_sequence(rows, batch_first=True, padding_value=value)

    ids, mask = padded("ids", padding), padded("mask", 0).long()
    lengths = torch.tensor([len(example[f"{side}_ids"]) for example, side in sides])
    batch = {
        "input_ids": ids,
        "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long(),
        "completion_mask": mask,
    }
    for column in _REFERENCE:  # there once they were computed
        if column in examples[0]:
            batch[column] = torch.tensor([example[column] for example in examples])
    return batch
