"""What all sections of a profile share: no unknown key, and paths that lie beside their file."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from arena_assets.config.places import Located, places, present, resolve


def located(path: str, info: ValidationInfo) -> str:
    """A path with the folder of the file that names it, where it was read from one."""
    folder = (info.context or {}).get("folder")
    return Located.beside(path, folder) if folder else path


def _existing(path: str, info: ValidationInfo) -> str:
    found = located(path, info)
    pattern = any(sign in path for sign in "*?[")  # whoever reads it says what does not fit
    if isinstance(found, Located) and not pattern and not present(resolve(found)):
        looked_for = " and ".join(str(place) for place in places(found))
        raise ValueError(f"{path}: no such file (looked for {looked_for})")
    return found


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]


# Both lie beside the file that names them, in the workspace, or among what comes with the program.
FilePath = Annotated[str, AfterValidator(_existing)]  # has to be there when the profile is read


DataPath = Annotated[str, AfterValidator(located)]  # may come later; who reads it says so


class Settings(BaseModel):
    """Base of every section: unknown keys are errors, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)
