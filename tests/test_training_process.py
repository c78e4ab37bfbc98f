"""Training ends with the run that started it, whoever started it and however the run ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import dagster as dg
import pytest
from conftest import PROJECT

from arena_assets.cli.wheel import _failures
from arena_assets.config.profile import load_profile
from arena_assets.training.job import Job
from arena_assets.training.process import TrainingFailed, run_job
from arena_assets.training.ranks import RUN_LOCK

# launchers as people write them: a shell that waits, a program that closes what it inherited, one
# that gives its workers a session of their own (as torchrun does), one that goes away
SHELL = ("bash", "-c", '"$0" "$@"; true')
CLOSING = (
    sys.executable,
    "-c",
    "import subprocess, sys; subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL)",
)
SESSION = (
    sys.executable,
    "-c",
    "import subprocess, sys; subprocess.run(sys.argv[1:], start_new_session=True)",
)
LAUNCHERS = {"none": (), "shell": SHELL, "closing": CLOSING, "session": SESSION}


def job(tmp_path: Path, launcher: tuple[str, ...]) -> Job:
    training = load_profile().training.model_copy(update={"launcher": launcher})
    return Job(
        stage="sft",
        model=tmp_path / "model",
        training_set=tmp_path / "rows.parquet",
        output=tmp_path / "out",
        training=training,
        seed=0,
    )


def processes(of: Path) -> list[int]:
    """The processes below a run whose job lies in a folder: they inherit the name of its lock."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        if any(line.startswith(f"{RUN_LOCK}={of}".encode()) for line in environment):
            found.append(int(entry.name))
    return found


def wait_until(condition, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize(
    ("launcher", "how"),
    [
        *((launcher, signal.SIGKILL) for launcher in LAUNCHERS),
        *((launcher, signal.SIGTERM) for launcher in ("shell", "session")),
        *((launcher, signal.SIGINT) for launcher in ("none", "closing")),
    ],
)
def test_no_training_process_outlives_its_run(tmp_path, launcher, how):
    job(tmp_path, LAUNCHERS[launcher]).write(tmp_path / "given.json")
    code = f"""
        from pathlib import Path
        from arena_assets.training.process import run_job
        from arena_assets.training.job import Job
        run_job(Job.read(Path({str(tmp_path / "given.json")!r})))
    """
    folder = tmp_path / "temporary"
    hanging = tmp_path / "modules" / "torch"  # a worker that would never end by itself
    for new in (folder, hanging):
        new.mkdir(parents=True)
    (hanging / "__init__.py").write_text(
        f"import pathlib, time\npathlib.Path({str(tmp_path / 'begun')!r}).touch()\ntime.sleep(600)"
    )
    search = os.pathsep.join([str(PROJECT), str(hanging.parent)])
    run = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | {"TMPDIR": str(folder), "PYTHONPATH": search},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert wait_until((tmp_path / "begun").exists, 60) and processes(folder)
        run.send_signal(how)
        run.wait(timeout=20)
        assert wait_until(lambda: not processes(folder), 10), processes(folder)
    finally:
        run.kill()


def test_a_launcher_that_has_not_started_anything_yet_starts_nothing_that_stays(tmp_path):
    """The run dies first; what the launcher then starts sees that and ends, the launcher too."""
    late = ("bash", "-c", 'sleep 1; "$0" "$@"; sleep 600')
    job(tmp_path, late).write(tmp_path / "given.json")
    code = (
        "from pathlib import Path; from arena_assets.training.process import run_job; "
        "from arena_assets.training.job import Job; "
        f"run_job(Job.read(Path({str(tmp_path / 'given.json')!r})))"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(PROJECT)}
    run = subprocess.Popen([sys.executable, "-c", code], env=environment)
    assert wait_until(lambda: processes(tmp_path), 60)
    run.kill()
    run.wait()
    assert wait_until(lambda: not processes(tmp_path), 20), processes(tmp_path)


def test_a_cancelled_run_takes_the_launchers_children_with_it(tmp_path, monkeypatch):
    """The process goes on after the interruption, as a code location of Dagster does."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    talking = ("bash", "-c", "sleep 600 & echo started; sleep 600")

    def interrupt(line):
        assert wait_until(lambda: len(processes(tmp_path)) >= 2, 5)  # one may be starting still
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job(tmp_path, talking), interrupt)
    assert wait_until(lambda: not processes(tmp_path), 5), processes(tmp_path)


def test_a_launcher_that_ends_well_without_weights_has_failed(tmp_path):
    with pytest.raises(TrainingFailed, match=r"left no weights.*\nfine"):
        run_job(job(tmp_path, ("echo", "fine")), lambda line: None)
    with pytest.raises(TrainingFailed, match=r"ended with code 7:\nbad"):
        run_job(job(tmp_path, ("bash", "-c", "echo bad; exit 7")), lambda line: None)


def test_who_interrupts_a_run_reads_a_sentence():
    @dg.op
    def checkpoint():
        raise dg.DagsterExecutionInterruptedError

    @dg.job
    def turn():
        checkpoint()

    result = turn.execute_in_process(raise_on_error=False)
    told = "interrupted; what was finished is kept, `arena run` goes on from there"
    assert _failures(result) == [f"  checkpoint: {told}"]
