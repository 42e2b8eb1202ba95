"""Reading the ledger of models, `models/<id>.yaml`: the same plain YAML as an experiment's file."""

from pydantic import ValidationError

from thesis_assets.errors import InvalidExperiment, InvalidFile
from thesis_assets.experiments.reading import place_in_file, read_yaml
from thesis_assets.layout import ModelLedger
from thesis_assets.schemas.models import ModelEntry

_WANTED = "`trained_on: {<dataset>: [<group>, ...]}` and `source: <where that is written>`"


def read_model_entry(ledger: ModelLedger, model_id: str) -> ModelEntry | None:
    """What the ledger says of a model; None where it has no file of it.

    Raises:
        InvalidKey: the id cannot be a file's name.
        InvalidFile: the file cannot be read, or is no entry; the message has its line and key.
    """
    path = ledger.entry(model_id)
    if not path.exists():
        return None
    try:
        value, _ = read_yaml(path)
    except InvalidExperiment as error:
        raise InvalidFile(
            "the ledger's entry of a model cannot be read",
            file=error.file,
            found=f"{error.problem}{'' if error.found is None else f' ({error.found})'}",
            wanted=_WANTED,
            remedy="correct the file",
        ) from error
    try:
        return ModelEntry.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        message = "there is no such key" if first["type"] == "extra_forbidden" else first["msg"]
        raise InvalidFile(
            f"the ledger's entry of a model is not valid: {message.removeprefix('Value error, ')}",
            file=place_in_file(path, key),
            key=key or None,
            found=None if first["type"] == "missing" else ascii(first["input"])[:200],
            wanted=_WANTED,
            remedy="correct the file",
        ) from error
