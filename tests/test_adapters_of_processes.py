"""Adapters on several processes: what two of them learn is what one does."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file
from test_processes import SHARDED, folder, furthest, job, losses, trained

__all__ = ["folder"]  # a fixture
pytestmark = pytest.mark.drill


@pytest.mark.parametrize("merge", [True, False], ids=["merged", "kept"])
@pytest.mark.parametrize("accelerate", [SHARDED, "profiles/accelerate/ddp.yaml"])
def test_two_processes_train_an_adapter_as_one_does(folder, accelerate, merge):
    lora = {"rank": 4, "alpha": 64, "merge": merge}
    one, _ = trained(job(folder, lora=lora), "one")
    two, _ = trained(job(folder, lora=lora, processes=2, accelerate=accelerate), "two")
    assert losses(two)["sft"] == pytest.approx(losses(one)["sft"], abs=1e-5)
    if merge:
        assert furthest(one, two) < 1e-3
    else:
        first, second = (load_file(at / "adapter_model.safetensors") for at in (one, two))
        assert first.keys() == second.keys()
        assert max(float((first[n] - second[n]).abs().max()) for n in first) < 1e-3
