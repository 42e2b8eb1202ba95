"""What all parts of an experiment file have in common."""

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A part of an experiment file: immutable, and an unknown key is an error (it would be silently without effect)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Environment(Part):
    """Where a command of the user's runs: its own interpreter, working directory, variables and set-up lines."""

    python: str = "python"
    setup: tuple[str, ...] = ()
    cwd: str | None = None
    env: dict[str, str] = {}
