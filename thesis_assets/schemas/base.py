"""What all file models have in common."""

from pydantic import BaseModel, ConfigDict


class FileModel(BaseModel):
    """A value in a file of ours: immutable, and a key that the schema does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
