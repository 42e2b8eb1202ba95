"""An entry of the ledger of models: on whose pictures a model was trained that others trained, and where that is written."""

from pydantic import field_validator

from thesis_assets.layout import check_key
from thesis_assets.schemas.base import FileModel

WHOLE_DATASET = "*"
"""In place of a group: all of them."""


class ModelEntry(FileModel):
    """`models/<id>.yaml`.

    Attributes:
        trained_on: by dataset, as scenes' names begin with it, the groups that it was trained on, or scenes; `*`: all of them. One that
            names nobody of ours is known to have seen nobody.
        source: where one can read that: a paper, a model card, a configuration.
    """

    trained_on: dict[str, tuple[str, ...]]
    source: str

    @field_validator("trained_on", mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {dataset: (WHOLE_DATASET,) if each == WHOLE_DATASET else each for dataset, each in value.items()}

    @field_validator("trained_on")
    @classmethod
    def _names_can_be_met(cls, trained_on: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for dataset, groups in trained_on.items():
            if "_" in dataset:
                raise ValueError(
                    f"`{dataset}` is no dataset: that is what stands before the first `_` of a scene's name"
                )
            for name in (dataset, *(group for group in groups if group != WHOLE_DATASET)):
                _checked(name)
        return trained_on

    @field_validator("source")
    @classmethod
    def _source_is_said(cls, source: str) -> str:
        if not source.strip():
            raise ValueError("where this can be read: a paper, a model card, a configuration")
        return source


def _checked(name: str) -> None:
    try:
        check_key(name, "group")
    except Exception as error:
        raise ValueError(f"`{name}` is neither a group, nor a scene, nor `{WHOLE_DATASET}`") from error
