"""What dbt gives its templates, as far as ours ask for it: sqlfluff renders them without dbt."""

from typing import Any

_VARS = {
    "lake": "lake",
    "round": "i02.3-rl",
    "stage": "rl",
    "minimum_gap": 1.0,
    "selection": "pair-judge",
    "rounds_so_far": ["i01.3-rl", "i02.3-rl"],
    "trains_on": ["i01.3-rl", "i02.3-rl"],
    "flips": "inconsistent",
    "quorum": 0.5,
}


def var(name: str, default: Any = None) -> Any:
    """A variable with a value of its kind, so that lists are lists; KeyError for an unknown one."""
    return _VARS[name]


class adapter:
    """dbt's adapter."""

    @staticmethod
    def external_root() -> str:
        return "lake"
