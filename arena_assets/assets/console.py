"""What a run says on the terminal: the words of its assets; all else goes to a log file.

A line for what happened, one bar for what is under way. vLLM's C++ code, dbt and progress bars of
libraries write to the process's own output, so that is what is turned into the file.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import dagster as dg

from arena_assets.hostile_text import visible_lines

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# "few-shot: 40/80 answers, 270 tokens/s", "sft: step 3/10, loss 1.2"
_PROGRESS = re.compile(r"(?P<who>.+?): (?:step )?(?P<done>\d+)/(?P<total>\d+)(?P<rest>.*)", re.S)
SPARSE_SECONDS = 10.0  # between two lines of progress where there is no bar


class Screen:
    """Shows lines, and progress as a bar on a terminal or as a line every ten seconds elsewhere."""

    def __init__(
        self, stream: TextIO, bar: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._clock = clock
        self._last = clock()
        self._console = Console(file=stream, soft_wrap=True, highlight=False, markup=False)
        who = TextColumn("{task.description}", markup=False)
        columns = (who, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._console, transient=True) if bar else None
        self._task: tuple[str, TaskID] | None = None

    def line(self, words: str) -> None:
        """Something that happened; what was under way has ended."""
        self.end()
        self._console.print(visible_lines(words))
        self._last = self._clock()

    def say(self, step: str, words: str) -> None:
        """A message of an asset: progress where it counts something, else a line."""
        line = f"{time.strftime('%H:%M:%S')}  {step:16} {words}"
        match = _PROGRESS.fullmatch(words)
        if match is None:
            self.line(line)
        elif self._bar:
            who = f"{step} {match['who']}"
            self._advance(self._bar, who, int(match["done"]), int(match["total"]))
        elif self._clock() - self._last >= SPARSE_SECONDS:
            self.line(line)

    def end(self) -> None:
        """Take the bar away."""
        if self._bar and self._task:
            self._bar.stop()
            self._bar.remove_task(self._task[1])
            self._task = None

    def _advance(self, bar: Progress, who: str, done: int, total: int) -> None:
        if self._task is None or self._task[0] != who:
            self.end()
            self._task = (who, bar.add_task(who, total=total))
            bar.start()
        bar.update(self._task[1], completed=done, total=total)


_screen: Screen | None = None  # of the run in this process


@contextmanager
def noise_to(log: Path) -> Iterator[Screen]:
    """While open, all that this process and its children print goes to `log`, except the screen's.

    The file descriptors themselves are turned, since C++ code does not ask Python where to print.
    """
    global _screen
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with log.open("a", encoding="utf-8") as file, os.fdopen(os.dup(2), "w") as terminal:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        _screen = Screen(terminal, bar=terminal.isatty())
        try:
            yield _screen
        finally:
            _screen.end()
            _screen = None
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, place in zip(kept, (1, 2), strict=True):
                os.dup2(descriptor, place)
                os.close(descriptor)


class _AssetWords(logging.Handler):
    """Shows what an asset logs; Dagster's events and dbt's chatter are in the UI."""

    def emit(self, record: logging.LogRecord) -> None:
        meta = getattr(record, "dagster_meta", {})
        step = meta.get("step_key") or "run"
        words = meta.get("orig_message") or record.getMessage()
        from_dbt = step.startswith("arena_dbt") and record.levelno < logging.WARNING
        skipped = words.startswith("Dependencies for step")
        if meta.get("dagster_event") is not None or from_dbt or skipped:
            return
        if _screen:
            _screen.say(step, words)
        else:  # a step in a process of its own has no screen
            line = f"{time.strftime('%H:%M:%S')}  {step:16} {words}"
            print(visible_lines(line), file=sys.stderr)


@dg.logger(None, "The assets' own messages, one line each.")
def console_logger(context: dg.InitLoggerContext) -> logging.Logger:
    logger = logging.Logger("arena", logging.INFO)
    logger.addHandler(_AssetWords())
    return logger
