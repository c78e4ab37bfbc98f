"""What a training process reads: the model, its tokenizer, and the rows in tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
)
from transformers.utils import logging as transformers_logging

from arena_assets.training.adapters import quantisation_of, with_parent_adapter
from arena_assets.training.checkpoints import LEARNED, ROWS
from arena_assets.training.failures import NothingToLearn
from arena_assets.training.job import Job
from arena_assets.training.masters import weights_of
from arena_assets.training.progress import phase_folder
from arena_assets.training.ranks import is_first_process
from arena_assets.training.rows import Encoder, build


def learned_rows(
    job: Job, phase: str, kind: str, make: Callable[[dict[str, Any]], dict[str, Any]]
) -> Dataset:
    """What a phase learns from; rows that are left out are told and go to rows.json, by reason."""
    rows = rows_of(job, kind)
    built = build(rows, make)
    if is_first_process():
        print(f"{phase}: {built}")
        file = job.output / ROWS
        known = json.loads(file.read_text("utf-8")) if file.exists() else {}
        known[phase] = {"rows": len(built.rows), "dropped": built.dropped}
        file.write_text(json.dumps(known, indent=1, ensure_ascii=False), "utf-8")
    if not built.rows:
        raise NothingToLearn(
            f"{job.training_set}: none of {len(rows)} rows of kind {kind!r} can be learned, "
            f"which {job.stage} trains on ({built}); see max_length under training.{phase}, the "
            "chat template and the rows themselves"
        )
    return Dataset.from_list(built.rows)


def rows_of(job: Job, kind: str) -> list[dict[str, Any]]:
    """The rows of one kind in the training set, without columns that an older one has not."""
    known = pq.read_schema(job.training_set).names
    columns = [name for name in ("row_id", "prompt_id", *LEARNED) if name in known]
    table = pq.read_table(
        job.training_set, columns=columns, filters=[("kind", "=", kind)], partitioning=None
    )
    return table.to_pylist()


def encoder_of(job: Job) -> Encoder:
    """Rows as the target sees them."""
    tokenizer = tokenizer_of(job)
    return Encoder(tokenizer, {tokenizer.eos_token_id, *_stops(job)} - {None}, job.system_prompt)


def _stops(job: Job) -> list[int]:
    """The tokens at which the model stops: its generation settings say so."""
    try:
        generation = GenerationConfig.from_pretrained(job.model)
    except OSError:  # no settings of its own: those of its configuration
        generation = GenerationConfig.from_model_config(
            AutoConfig.from_pretrained(job.model, trust_remote_code=job.trust_remote_code)
        )
    stops = generation.eos_token_id
    return stops if isinstance(stops, list) else [stops] if stops is not None else []


def policy(job: Job, whole: bool = False) -> Any:
    """The model to train, with its parent's adapter; `whole` weights are not quantised."""
    model = AutoModelForCausalLM.from_pretrained(
        weights_of(job.model), **_loaded(job, None if whole else quantisation_of(job))
    )
    return with_parent_adapter(model, job)


def scorer(job: Job, folder: Path, quantised: bool = False) -> Any:
    """A model with one output a text, as a reward model has."""
    # the head is new where the folder holds a language model: no need to warn of it
    transformers_logging.set_verbosity_error()
    model = AutoModelForSequenceClassification.from_pretrained(
        weights_of(folder),
        num_labels=1,
        **_loaded(job, quantisation_of(job) if quantised else None),
    )
    model.config.pad_token_id = tokenizer_of(job).pad_token_id  # it scores the token before those
    return model


def _loaded(job: Job, quantisation: Any) -> dict[str, Any]:
    settings = {"quantization_config": quantisation, "attn_implementation": job.training.attention}
    return {
        "dtype": torch.float32,
        "trust_remote_code": job.trust_remote_code,
        **{name: value for name, value in settings.items() if value is not None},
    }


def whole_parent(job: Job) -> Path:
    """The folder of the parent's weights with its adapter added, from which a scorer is opened."""
    if not job.adapter:
        return job.model
    folder = phase_folder(job.output, "parent")
    with PartialState(cpu=not torch.cuda.is_available()).main_process_first():
        if not folder.exists():
            plain = job.training.model_copy(update={"lora": None})
            scratch = folder.with_name("parent.partial")
            policy(job.model_copy(update={"training": plain})).save_pretrained(scratch)
            scratch.rename(folder)
    return folder


def tokenizer_of(job: Job, padding_side: str = "right") -> Any:
    tokenizer = AutoTokenizer.from_pretrained(
        job.model, padding_side=padding_side, trust_remote_code=job.trust_remote_code
    )
    if tokenizer.eos_token is None and (stops := _stops(job)):
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(stops[0])
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if job.chat_template:  # the checkpoint keeps it
        tokenizer.chat_template = job.chat_template
    return tokenizer
