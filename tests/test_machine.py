"""Which number type a machine gets, and what `arena doctor` says of it."""

from __future__ import annotations

import pytest

from arena_assets.cli.doctor import examine
from arena_assets.config.profile import Profile, load_profile
from arena_assets.models.machine import number_type, of_cpu, of_gpu

ZEN4, SAPPHIRE = {"avx512_bf16": True}, {"avx512_bf16": True, "amx_bf16": True}


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True}, "float32"),
        ({"avx2": True, "avx512_f": True, "avx512_vnni": True}, "float32"),
        (ZEN4, "bfloat16"),
        (SAPPHIRE, "bfloat16"),
        ({"neon": True}, "float32"),
        ({"neon": True, "bf16": True}, "bfloat16"),
    ],
)
def test_a_cpu_computes_in_bfloat16_only_with_instructions_for_it(capabilities, expected):
    assert of_cpu(capabilities).name == expected


@pytest.mark.parametrize("limit", ["AVX2", "avx512_core", "AVX512_CORE_VNNI"])
def test_a_cpu_that_plays_a_slower_one_gets_the_slower_ones_type(limit):
    assert of_cpu(ZEN4, limit).name == "float32"
    assert limit in of_cpu(ZEN4, limit).reason


def test_a_gpu_computes_in_what_its_capability_has():
    assert of_gpu((9, 0), "generation").name == of_gpu((8, 0), "training").name == "bfloat16"
    assert of_gpu((7, 5), "generation").name == "float16"
    assert of_gpu((7, 5), "training").name == "float32"


def test_what_the_profile_says_is_taken():
    assert number_type("float32", "training").name == "float32"


def with_changes(**changes) -> Profile:
    return Profile.model_validate(load_profile().model_dump() | changes)


def found(arena: Profile, tmp_path, what: str):
    (finding,) = [f for f in examine(arena, tmp_path / "lake", tmp_path) if f.what == what]
    return finding


def test_a_sound_profile_has_nothing_that_fails(tiny_model, tmp_path):
    states = {f.what: f.state for f in examine(load_profile(), tmp_path / "lake", tmp_path)}
    assert {"processor", "libraries", "vLLM", "memory", "disk"} <= set(states)
    assert "fails" not in states.values()


def test_a_missing_key_folder_or_package_is_told_before_anything_is_paid(tmp_path, monkeypatch):
    monkeypatch.delenv("NOT_SET", raising=False)
    served = {"urls": ["http://127.0.0.1:9/v1"], "model": "m", "api_key_env": "NOT_SET"}
    models = {
        "tiny": {"path": str(tmp_path / "nothing")},
        "served": {"endpoint": served},
        "packaged": {"package": "no-such-package"},
    }
    arena = with_changes(models=models)
    for what, words in (
        ("model tiny", "has no config.json"),
        ("model served", "NOT_SET is not set"),
        ("model packaged", "no-such-package is not installed"),
    ):
        finding = found(arena, tmp_path, what)
        assert finding.state == "fails" and words in finding.found and finding.advice


def test_too_little_room_is_told(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr("arena_assets.cli.doctor.available_memory", lambda: 1000)
    monkeypatch.setattr("arena_assets.cli.doctor.free_disk", lambda folder: 1000)
    for what in ("memory", "disk"):
        assert found(load_profile(), tmp_path, what).state == "fails"


def test_a_number_type_that_is_emulated_is_slow(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    engine = load_profile().generation.engine | {"dtype": "bfloat16"}
    finding = found(
        with_changes(generation={"engine": engine}), tmp_path, "number type of generation"
    )
    assert finding.state == "slow" and "auto" in finding.advice
