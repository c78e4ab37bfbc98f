"""What all sections of a profile share: no unknown key, and paths that lie beside their file."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from arena_assets.config.places import Located, places, present, resolve


def _located(path: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> str:
    """A path with the folder of the file that names it, where it was read from one.

    One that has its folder keeps it when settings are merged and checked again.
    """
    return path if isinstance(path, Located) else located(handler(path), info)


def located(path: str, info: ValidationInfo) -> str:
    """A path of a file that is read now, with its folder."""
    folder = (info.context or {}).get("folder")
    return Located.beside(path, folder) if folder else path


def _existing(path: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> str:
    return existing(_located(path, handler, info))


def existing(located: str) -> str:
    """A path; ValueError where it has a folder, and there is nothing of that name."""
    pattern = any(sign in located for sign in "*?[")  # whoever reads it says what does not fit
    if isinstance(located, Located) and not pattern and not present(resolve(located)):
        looked_for = " and ".join(str(place) for place in places(located))
        raise ValueError(f"{located}: no such file (looked for {looked_for})")
    return located


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]


# Both lie beside the file that names them, in the workspace, or among what comes with the program.
FilePath = Annotated[str, WrapValidator(_existing)]  # has to be there when the profile is read


DataPath = Annotated[str, WrapValidator(_located)]  # may come later; who reads it says so


class Settings(BaseModel):
    """Base of every section: unknown keys are errors, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)
