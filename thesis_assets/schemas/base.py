"""What all file models have in common."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator


class FileModel(BaseModel):
    """A value in a file of ours: immutable, and a key that the schema does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OlderKeys(FileModel):
    """A file that held keys in an earlier version that nobody reads any more: they are passed over."""

    older_keys: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _without_older_keys(cls, value: Any) -> Any:
        return (
            {key: each for key, each in value.items() if key not in cls.older_keys}
            if isinstance(value, dict)
            else value
        )
