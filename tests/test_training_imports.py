"""What a training process loads."""

from __future__ import annotations

import importlib.util
import os
import sys
from types import SimpleNamespace

import pytest

from arena_assets.training import __main__ as training
from arena_assets.training.job import Job


@pytest.mark.slow
def test_a_training_process_imports_no_vllm_that_it_does_not_draw_with(monkeypatch):
    from arena_assets.training import trainers

    found = []
    monkeypatch.setattr(
        trainers, "train", lambda job: found.append(importlib.util.find_spec("vllm"))
    )
    monkeypatch.setattr(Job, "read", lambda path: SimpleNamespace(draws_with_vllm=False))
    monkeypatch.setattr(sys, "argv", ["training", "job.json"])
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setitem(sys.modules, "vllm", sys.modules.get("vllm"))
    training.main()
    assert found == [None]
