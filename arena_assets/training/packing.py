"""Packed rows of SFT: several dialogues one after the other, each for itself.

TRL puts whole rows into packs of `max_length` tokens (best fit, decreasing) and gives a batch as
one sequence without padding, in which positions start anew with every row. Attention has to stop
there: flash attention does by the rows' lengths, sdpa and eager by a mask that transformers makes
of the positions. A model that does not is refused; what it learned would be wrong and look right.
"""

from __future__ import annotations

from typing import Any

import torch

from arena_assets.config.training import Imitation
from arena_assets.training.failures import Refused

_TOKENS = 6  # of each of the two rows that are looked at
_NOISE = 1e-3  # of the largest logit; a leak moves them by tenths of it


class Leaks(Refused):
    """A model in which a packed row sees the one before it."""


def packing_arguments(settings: Imitation) -> dict[str, Any]:
    """TRL's arguments for packed rows. No row is longer than a pack, so none is cut."""
    return {"packing": True, "packing_strategy": "bfd", "max_length": settings.max_length}


def refuse_leaks(trainer: Any) -> None:
    """Raise Leaks where another first row changes what the model says of the second one.

    Asked is the model that will be trained, with a batch as the trainer makes it.
    """
    one, other, second = ([first + place for place in range(_TOKENS)] for first in (3, 20, 40))
    alone, disturbed = (_logits(trainer, first, second) for first in (one, other))
    moved = (alone - disturbed).abs().max() / alone.abs().max()
    if not moved <= _NOISE:
        used = trainer.model.config._attn_implementation
        raise Leaks(
            f"training.sft.packing: with attention {used} this model lets a packed row see the one "
            f"before it (its logits move by {moved:.1%}): set training.attention to "
            "flash_attention_2, or packing to false"
        )


def _logits(trainer: Any, first: list[int], second: list[int]) -> torch.Tensor:
    """What the model says of the second of two packed rows."""
    rows = first + second
    example = {"input_ids": rows, "labels": rows, "seq_lengths": [len(first), len(second)]}
    model = trainer.model
    device = next(model.parameters()).device
    batch = {
        name: value.to(device) if isinstance(value, torch.Tensor) else value
        for name, value in trainer.data_collator([example]).items()
        if name != "labels"
    }
    was_training = model.training
    model.eval()
    with torch.no_grad(), trainer.compute_loss_context_manager():
        logits = model(**batch, use_cache=False).logits
    model.train(was_training)
    return logits[0, len(first) :].float()
