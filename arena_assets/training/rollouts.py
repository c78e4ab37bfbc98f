"""Rollouts: what the policy answered while it learned, with its rewards by part and its advantages.

A training writes one small file a generation, whole or not at all, so that no more than one is in
memory and a killed run loses none of those before; in the end they become `rollouts.parquet` in the
checkpoint's folder. TRL hands a reward function the rows and the tokens, but computes the advantage
after it: that is read from what the trainer keeps for `log_completions`, gathered of all processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import TrainerCallback

from arena_assets.lake.lake import write_atomically
from arena_assets.lake.tables import TABLES
from arena_assets.training.checkpoints import ROLLOUTS
from arena_assets.training.rewards import said

_WATCHER = "rollouts"  # the name under which TRL knows the function that only watches
_COLUMNS = ("row_id", "prompt_id", "tokens", "truncated")
# the table's, of which a training process does not know the round
SCHEMA = pa.schema([field for field in TABLES["rollouts"].schema if field.name != "round"])


class Rollouts(TrainerCallback):
    """Watches the rewards of a trainer and keeps every generation of completions.

    `watch` goes to TRL as a further reward function, of weight 0, that gives no reward.
    """

    def __init__(self, folder: Path, weights: Mapping[str, float], completions: int):
        self.folder = folder
        self.weights = weights
        self.completions = completions
        self.trainer: Any = None
        self._step = -1
        self._generation = 0
        self._waiting = False

        def watch(
            completion_ids: Sequence[Sequence[int]],
            row_id: Sequence[str],
            prompt_id: Sequence[str],
            trainer_state: Any,
            log_extra: Any,
            **_: Any,
        ) -> list[None]:
            step = trainer_state.global_step
            self._generation = self._generation + 1 if step == self._step else 0
            self._step, self._waiting = step, True
            ends = {*self.trainer.eos_token_ids, self.trainer.processing_class.pad_token_id}
            log_extra("row_id", list(row_id))
            log_extra("prompt_id", list(prompt_id))
            log_extra("tokens", [len(ids) for ids in completion_ids])
            log_extra("truncated", [ids[-1] not in ends for ids in completion_ids])
            return [None] * len(completion_ids)

        watch.__name__ = _WATCHER
        self.watch = watch

    def watches(self, trainer: Any) -> None:
        """Watch a trainer, whose rewards have the names of the profile from now on."""
        self.trainer = trainer
        trainer.reward_func_names = [*self.weights, _WATCHER]

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A training that goes on draws again what it drew after its last saved step."""
        if self.trainer.accelerator.is_main_process:
            for part in self._parts():
                if int(part.name.partition("-")[0]) >= state.global_step:
                    part.unlink()

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._keep()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._keep()

    def finish(self, output: Path) -> None:
        """All generations in one file of the checkpoint's folder.

        The small files go with the steps of the phase, when it counts as fitted: a run that is
        killed before that goes on from its last saved step and needs those before it.
        """
        if self.trainer.accelerator.is_main_process:
            write_atomically(
                pa.RecordBatchReader.from_batches(SCHEMA, self._batches()), output / ROLLOUTS
            )

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("*.parquet"))

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for part in self._parts():
            yield from pq.ParquetFile(part).iter_batches()

    def _keep(self) -> None:
        if not self._waiting:
            return
        self._waiting = False
        for name in ("mean", "std"):  # of nothing; trackers would show them
            self.trainer._metrics["train"].pop(f"rewards/{_WATCHER}/{name}", None)
        if self.trainer.accelerator.is_main_process:
            name = f"{self._step:08d}-{self._generation:06d}"
            rows = rollout_rows(self.trainer._logs, self.weights, self.completions, name)
            table = pa.Table.from_pylist(rows, schema=SCHEMA)
            write_atomically(table.to_reader(), self.folder / f"{name}.parquet")


def rollout_rows(
    logs: Mapping[str, Any], weights: Mapping[str, float], completions: int, name: str
) -> list[dict[str, Any]]:
    """The rows of a generation, from what TRL keeps of the last one.

    `weights` are those of the rewards by name; the completions of a prompt, so many as
    `completions`, stand together. `name` is the step of the policy and which generation of it.
    """
    step = int(name.partition("-")[0])
    columns = {column: list(logs["extra"][column]) for column in _COLUMNS}
    parts = {part: list(logs["rewards"][part]) for part in weights}
    rows = []
    for number, completion in enumerate(logs["completion"]):
        given = {part: _number(values[number]) for part, values in parts.items()}
        rows.append(
            {
                "rollout_id": f"{name}-{number}",
                "group_id": f"{name}-{number // completions}",
                "policy_step": step,
                "completion": said(completion),
                "reward": weighted(given, weights),
                "rewards": [
                    {"name": part, "weight": weight, "reward": given[part]}
                    for part, weight in weights.items()
                ],
                "advantage": logs["advantages"][number],
                **{column: values[number] for column, values in columns.items()},
            }
        )
    return rows


def weighted(rewards: Mapping[str, float | None], weights: Mapping[str, float]) -> float | None:
    """The weighted sum of the rewards that apply, as TRL takes it; None where none does.

    >>> weighted({"verifier": 0.5, "reward_model": None}, {"verifier": 0.7, "reward_model": 0.3})
    0.35
    """
    given = [weights[name] * reward for name, reward in rewards.items() if reward is not None]
    return sum(given) if given else None


def _number(value: float) -> float | None:
    """TRL's NaN is a reward that did not apply."""
    return None if value != value else value
