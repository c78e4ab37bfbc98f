"""An ablation: one round under several recipes and seeds, everything else being equal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from arena_assets.config.places import Located, places, present, profile_path, resolve
from arena_assets.config.profile import Profile, load_profile
from arena_assets.config.recipe import RoundSettings
from arena_assets.config.settings import FilePath, Name, Settings
from arena_assets.config.settings_files import ProfileError, explain, merged, read_settings


class Ablation(Settings):
    """Variants of one round's recipe, each trained with every seed; the first one is compared with.

    A variant says what it changes of the round's settings; `battles` changes those of the profile.
    """

    profile: FilePath | None = Field(None, description="default: the profile in use")
    round: str
    seeds: tuple[int, ...] = Field((1, 2, 3), min_length=1, description="of training")
    variants: dict[Name, dict[str, Any]] = Field(min_length=2)

    @field_validator("seeds")
    @classmethod
    def seeds_are_others(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"every seed once, got {', '.join(map(str, seeds))}")
        return seeds

    @model_validator(mode="after")
    def variants_change_a_recipe(self) -> Ablation:
        known = {*RoundSettings.model_fields, "battles"} - {"slice"}
        for name, changes in self.variants.items():
            for key in changes:
                if key not in known:
                    raise ValueError(
                        f"variants.{name}.{key}: no setting of a round's recipe "
                        f"(valid: {', '.join(sorted(known))})"
                    )
        return self

    @property
    def profile_place(self) -> Path:
        return resolve(self.profile) if self.profile else profile_path()


def load_ablation(path: Path) -> Ablation:
    """Read and check an ablation with each of its variants.

    Raises ProfileError that names the file, the key and what would be valid.
    """
    ablation = read_settings(path, Ablation, "ablation")
    profile = load_profile(ablation.profile_place)
    if ablation.round not in profile.rounds:
        there = ", ".join(profile.rounds)
        raise ProfileError(f"{path}: round: {ablation.round!r} is not in the profile ({there})")
    for name in ablation.variants:
        try:
            variant_profile(profile, ablation, name, ablation.seeds[0])
        except ValidationError as error:
            told = "; ".join(explain(problem, Profile, "profile") for problem in error.errors())
            raise ProfileError(f"{path}: variants.{name}: {told}") from None
    return ablation


def variant_profile(profile: Profile, ablation: Ablation, name: str, seed: int) -> Profile:
    """The profile with what a variant changes, trained by a seed. Raises ValidationError."""
    changes = dict(ablation.variants[name])
    battles = changes.pop("battles", {})
    recipe = merged(changes, {"training": {"seed": seed}})
    settings = {"battles": battles, "rounds": {ablation.round: recipe}}
    return Profile.model_validate(merged(profile.model_dump(), settings))


def write_profile(profile: Profile, place: Path) -> None:
    """Write a profile to a file of its own; paths in it stand for the files that they stood for."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(yaml.safe_dump(_plain(profile.model_dump()), sort_keys=False), "utf-8")


def _plain(value: Any) -> Any:
    """Settings as YAML has them, with absolute paths."""
    if isinstance(value, Located):
        return _absolute(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value


def _absolute(path: Located) -> str:
    if "://" in path:
        return str(path)
    there = (p for p in places(path) if present(p) or any(p.parent.glob(p.name)))
    return str(next(there, places(path)[0]))
