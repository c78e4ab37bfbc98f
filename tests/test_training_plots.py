"""What a training logged is shown as one figure a phase, whatever of it was logged."""

from __future__ import annotations

import io

from hypothesis import given, settings
from hypothesis import strategies as st

from arena_assets.plots import _series, training_plots

DPO = [
    {"phase": "dpo", "step": 0, "reference_runtime": 3.0},
    {"phase": "dpo", "step": 1, "loss": 0.69, "rewards/margins": 0.1, "rewards/accuracies": 0.5,
     "learning_rate": 1e-5, "grad_norm": 2.0},
    {"phase": "dpo", "step": 2, "loss": 0.5, "rewards/margins": 0.4, "rewards/accuracies": 1.0,
     "learning_rate": 5e-6, "grad_norm": float("nan")},
    {"phase": "dpo", "step": 2, "train_runtime": 9.0},
]  # fmt: skip
RL = [
    {"phase": "reward_model", "step": 1, "loss": 0.7, "margin": 0.2, "accuracy": 0.6},
    {"phase": "rl", "step": 1, "loss": 0.0, "reward": 1.5, "kl": 0.01},
    {"phase": "rl", "step": 2, "loss": 0.1, "reward": 2.5, "kl": 0.02},
]


def test_the_panels_hold_what_was_logged_by_step():
    assert _series(DPO) == {
        "loss": [(1, 0.69), (2, 0.5)],
        "margin of chosen over rejected": [(1, 0.1), (2, 0.4)],
        "accuracy": [(1, 0.5), (2, 1.0)],
        "learning rate": [(1, 1e-5), (2, 5e-6)],
        "gradient norm": [(1, 2.0)],
    }
    found = _series(RL[1:])
    assert found["reward"] == [(1, 1.5), (2, 2.5)]
    assert found["KL from the reference"] == [(1, 0.01), (2, 0.02)]


def test_every_phase_has_a_small_figure_of_its_own():
    from matplotlib.image import imread

    plots = training_plots(RL, "training i01.3-rl $x_1")
    assert list(plots) == ["reward_model", "rl"]
    for png in plots.values():
        assert imread(io.BytesIO(png)).shape[1] == 560
        assert len(png) < 60_000


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"phase": st.sampled_from(["sft", "dpo"]), "step": st.integers(0, 9)},
            optional={
                name: st.none() | st.floats() for name in ("loss", "kl", "reward", "grad_norm")
            },
        ),
        max_size=6,
    )
)
def test_missing_metrics_and_numbers_that_are_none_break_no_figure(metrics):
    plots = training_plots(metrics, "t")
    assert set(plots) <= {"sft", "dpo"}
    assert all(png.startswith(b"\x89PNG") for png in plots.values())
