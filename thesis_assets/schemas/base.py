"""What all file models have in common."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator


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


class WithoutEmptyKeys(FileModel):
    """A file that has some keys only where they say something: without them it stays, byte for byte, as it was before they came."""

    left_out_empty: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_empty_keys(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = written(self)
        return {
            key: each for key, each in values.items() if key not in self.left_out_empty or each not in (None, {}, [])
        }
