"""What a profile may hand to TRL under `trl:`, and what the project says itself.

The names and kinds of arguments are read from the source of the TRL and transformers that are
installed: so they are always theirs, and no profile waits for seconds until torch is imported.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

_SOURCES = {
    "SFTConfig": "trl/trainer/sft_config.py",
    "DPOConfig": "trl/trainer/dpo_config.py",
    "RewardConfig": "trl/trainer/reward_config.py",
    "GRPOConfig": "trl/trainer/grpo_config.py",
    "RLOOConfig": "trl/trainer/rloo_config.py",
    "_BaseConfig": "trl/trainer/base_config.py",
    "TrainingArguments": "transformers/training_args.py",
}
_CHOICES = ("transformers/training_args.py", "transformers/trainer_utils.py")

_ROWS = "rows are made by the arena (docs/training.md)"
_KEPT = "the arena keeps what a training needs to go on, and its checkpoint (docs/training.md)"
_PUSHED = "`arena models push` does it, for a checkpoint that was rated"
_LAUNCHED = "set training.launcher"
_UNEVALUATED = "checkpoints are evaluated by the arena"

# what the project decides, and where: by the name of an argument, or of one in one section
_DECIDED = {
    "num_train_epochs": "set epochs",
    "learning_rate": "set learning_rate beside trl",
    "per_device_train_batch_size": "set device_batch",
    "gradient_accumulation_steps": "set batch, which is what one step sees, and device_batch",
    "auto_find_batch_size": "set device_batch",
    "warmup_steps": "set warmup, a share of the steps",
    "max_length": "set max_length beside trl",
    **dict.fromkeys(
        ("train_sampling_strategy", "dataloader_drop_last"),
        "the rows of a step follow from the seed, on any number of devices (docs/training.md)",
    ),
    "truncation_mode": "rows are never cut; see max_length beside trl",
    "seed": "set training.seed",
    "data_seed": "set training.seed",
    **dict.fromkeys(("bf16", "fp16", "bf16_full_eval", "fp16_full_eval"), "set training.dtype"),
    "gradient_checkpointing": "set training.gradient_checkpointing",
    "report_to": "set training.report_to",
    "run_name": "runs are named after the arena and its round",
    "project": "runs are named after the arena and its round",
    **dict.fromkeys(
        ("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
        "training works without a network, and trackio keeps its runs on this machine",
    ),
    "use_cpu": "a GPU is used where there is one",
    "local_rank": _LAUNCHED,
    "fsdp": _LAUNCHED,
    "fsdp_config": _LAUNCHED,
    "deepspeed": _LAUNCHED,
    "accelerator_config": _LAUNCHED,
    "parallelism_config": _LAUNCHED,
    "model_init_kwargs": "set training.attention, training.dtype or training.lora",
    "trust_remote_code": "set models.<name>.trust_remote_code",
    "chat_template_path": "set models.<name>.chat_template",
    "chat_template_kwargs": "set models.<name>.chat_template",
    **dict.fromkeys(
        (
            *("dataset_text_field", "dataset_kwargs", "dataset_num_proc", "eos_token"),
            *("completion_only_loss", "assistant_only_loss", "remove_unused_columns"),
            *("label_names", "length_column_name", "eval_packing", "pad_token"),
        ),
        _ROWS,
    ),
    **dict.fromkeys(
        (
            *("output_dir", "save_strategy", "save_steps", "save_total_limit", "save_only_model"),
            *("save_on_each_node", "enable_jit_checkpoint", "load_best_model_at_end"),
            *("metric_for_best_model", "greater_is_better", "ignore_data_skip"),
            *("resume_from_checkpoint", "restore_callback_states_from_checkpoint"),
        ),
        _KEPT,
    ),
    **dict.fromkeys(
        (
            *("do_train", "do_eval", "do_predict", "eval_strategy", "eval_steps", "eval_delay"),
            *("eval_on_start", "eval_accumulation_steps", "eval_do_concat_batches"),
            *("eval_use_gather_object", "prediction_loss_only", "include_for_metrics"),
            *("batch_eval_metrics", "per_device_eval_batch_size", "num_generations_eval"),
        ),
        _UNEVALUATED,
    ),
    **dict.fromkeys(
        (
            *("push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy"),
            *("hub_always_push", "hub_revision", "log_completions_hub_repo"),
        ),
        _PUSHED,
    ),
    "logging_nan_inf_filter": "a loss that is no number ends the training",
    "sft.packing": "set packing beside trl",
    "sft.packing_strategy": "packing never cuts a row, so it is bfd",
    "sft.padding_free": "set packing beside trl",
    "dpo.beta": "set beta beside trl",
    "dpo.padding_free": _ROWS,
    "dpo.precompute_ref_log_probs": "they are always computed before training, once",
    "dpo.sync_ref_model": "the reference is the model that training starts from",
    "rl.beta": "set kl_coefficient",
    "rl.num_generations": "set completions",
    "rl.reward_weights": "set reward to a mapping of weights by name",
    "rl.max_completion_length": "set max_completion",
    "rl.temperature": "set temperature beside trl",
    "rl.max_steps": "set max_steps beside trl",
}

# what changes no value that is learned
_NEUTRAL = (
    *("logging_", "log_", "disable_tqdm", "include_num_input_tokens_seen", "skip_memory_metrics"),
    *("num_completions_to_print", "debug"),
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers"),
    *("dataloader_prefetch_factor", "dataloader_multiprocessing_context", "dataloader_in_order"),
    *("ddp_", "torch_empty_cache_steps", "activation_offloading", "gradient_checkpointing_kwargs"),
    *("precompute_ref_batch_size", "ds3_gather_for_generation", "vllm_server_", "vllm_group_port"),
    *("vllm_gpu_memory_utilization", "vllm_enable_sleep_mode", "vllm_tensor_parallel_size"),
)


def deciding(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that change what is learned: all but logging, loading and memory."""
    return {n: value for n, value in arguments.items() if not n.startswith(_NEUTRAL)}


def checked(
    section: str, config: str, arguments: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The arguments as their kinds have them (a text 1e-5 as a number), and what is wrong, by name.

    `config` is a class of TRL ("SFTConfig"), `section` one of training ("sft").
    """
    right, wrong = {}, {}
    known = arguments_of(config)
    for name, value in arguments.items():
        said = _DECIDED.get(f"{section}.{name}") or _DECIDED.get(name)
        if name not in known:
            wrong[name] = _unknown(section, config, name)
        elif said:
            wrong[name] = f"this is the arena's own to say: {said}"
        else:
            try:
                right[name] = TypeAdapter(known[name]).validate_python(value)
            except ValidationError as error:
                told = dict.fromkeys(problem["msg"] for problem in error.errors())
                wrong[name] = "; ".join(told)
    return right, wrong


def _unknown(section: str, config: str, name: str) -> str:
    valid = [known for known in arguments_of(config) if _open(section, known)]
    near = difflib.get_close_matches(name, valid, 3)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"TRL {metadata.version('trl')} has no such argument of {config}{meant}"


def _open(section: str, name: str) -> bool:
    return not (name in _DECIDED or f"{section}.{name}" in _DECIDED)


@cache
def arguments_of(config: str) -> dict[str, Any]:
    """The arguments of a configuration class of TRL with the kind of each, as it is installed."""
    found = _class(_SOURCES[config], config)
    kinds: dict[str, Any] = {}
    for base in found.bases:
        kinds |= arguments_of(ast.unparse(base))
    for field in found.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            choices = _choices(field.value)
            kinds[field.target.id] = choices or _kind(field.annotation)
    return kinds


def _class(source: str, name: str) -> ast.ClassDef:
    return next(c for c in _classes(source) if c.name == name)


@cache
def _classes(source: str) -> list[ast.ClassDef]:
    package, _, rest = source.partition("/")
    spec = importlib.util.find_spec(package)  # of a package that is not below another: no import
    assert spec and spec.submodule_search_locations  # a dependency of the project
    text = Path(spec.submodule_search_locations[0], rest).read_text("utf-8")
    return [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]


def _choices(value: ast.expr | None) -> Any:
    """The values that a field names as its choices; None where it names none."""
    for node in ast.walk(value) if value else ():
        if isinstance(node, ast.Dict):
            for key, listed in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "choices":
                    return _literal(listed)
    return None


def _literal(listed: ast.expr) -> Any:
    """A Literal of a written list of texts; None where the list is computed."""
    if not isinstance(listed, ast.List):
        return None
    values = [node.value for node in listed.elts if isinstance(node, ast.Constant)]
    return Literal[tuple(values)] if len(values) == len(listed.elts) else None


_PLAIN = {"int": int, "float": float, "bool": bool, "str": str, "dict": dict, "None": None}


def _kind(annotation: ast.expr) -> Any:
    """The kind that an annotation means; Any where it is none that YAML could tell apart."""
    parts = [part for part in _alternatives(annotation) if part != "str"]
    if any(part in _enumerations() for part in parts):  # each is `... | str`: a text of its own
        values = [v for part in parts for v in _enumerations().get(part, ())]
        return Literal[tuple(values)]
    names = {**_PLAIN, "list": list, "tuple": tuple, "Any": Any, "Literal": Literal}
    try:
        return eval(ast.unparse(annotation), {"__builtins__": {}}, names)
    except (NameError, TypeError):
        return Any


def _alternatives(annotation: ast.expr) -> Iterator[str]:
    if isinstance(annotation, ast.BinOp):
        yield from _alternatives(annotation.left)
        yield from _alternatives(annotation.right)
    else:
        yield ast.unparse(annotation)


@cache
def _enumerations() -> dict[str, tuple[str, ...]]:
    """The values of transformers' enumerations, such as SchedulerType."""
    return {
        found.name: tuple(
            str(line.value.value)
            for line in found.body
            if isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant)
        )
        for source in _CHOICES
        for found in _classes(source)
        if any(ast.unparse(base) == "ExplicitEnum" for base in found.bases)
    }
