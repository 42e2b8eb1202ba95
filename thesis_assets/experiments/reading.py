"""Reading experiment files: bounded, safe YAML; errors name file, line and key.

Aliases are refused: no experiment needs them, and a few lines of nested ones expand to gigabytes. Words, numbers and switches are
those of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema): `2e-5` is a number; `yes`, `no`, `1:30` and `1_000` are texts.
"""

import functools
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from thesis_assets.errors import InvalidExperiment, InvalidKey, Undeclared, near_names
from thesis_assets.experiments.spec import ExperimentSpec
from thesis_assets.layout import ARCHIVED, check_key

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MAX_EXPERIMENT_BYTES = 256 * 1024
MAX_DIGITS = 18
"""Of a whole number: none of an experiment needs more, and thousands cannot even be shown."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases and with duplicate keys refused."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not read", problem_mark=event.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key `{key.value}` stands twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_scalar_number(self, node: yaml.ScalarNode) -> int | float:
        """A number as YAML 1.2 writes it."""
        text = node.value.lower()
        if _WHOLE.fullmatch(text) is None:
            return float(text.replace(".inf", "inf").replace(".nan", "nan"))
        if len(text) > MAX_DIGITS:
            raise yaml.MarkedYAMLError(
                problem=f"a number of more than {MAX_DIGITS} digits", problem_mark=node.start_mark
            )
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would read as something else."""


_WHOLE = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-f]+")
_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
_NUMBER_TAG, _SWITCH_TAG = "tag:yaml.org,2002:float", "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {}
for _tag, _form, _starts in (
    (_SWITCH_TAG, r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (_NUMBER_TAG, rf"{_FLOAT}|0o[0-7]+|0x[0-9a-fA-F]+", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_form})$"), list(_starts))
    _Dumper.add_implicit_resolver(_tag, re.compile(rf"^(?:{_form})$"), list(_starts))
_Loader.add_constructor(_NUMBER_TAG, _Loader.construct_scalar_number)


def to_yaml(value: object) -> str:
    """The text of a value: read back here, and by tools that read YAML 1.1, it is the same."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False)
    return text


def read_yaml(path: Path) -> tuple[object, yaml.Node | None]:
    """The value of a YAML file and its node tree (for line numbers).

    Raises:
        InvalidExperiment: it is missing, too large, or not plain YAML.
    """
    try:
        text = _bounded_bytes(path).decode("utf-8")
    except FileNotFoundError as error:
        raise InvalidExperiment("there is no such experiment file", file=path) from error
    except PermissionError as error:
        raise InvalidExperiment(
            "the file may not be read", file=path, remedy="give yourself read permission"
        ) from error
    except IsADirectoryError as error:
        raise InvalidExperiment("this is a folder, not an experiment file", file=path) from error
    except UnicodeDecodeError as error:
        raise InvalidExperiment("the file is not UTF-8 text", file=path, found=str(error)) from error
    return parse_yaml(text, path)


def _bounded_bytes(path: Path) -> bytes:
    """The bytes of a plain file. A pipe or a device under an experiment's name would be read for ever."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as opened:
        status = os.fstat(opened.fileno())
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError
        if not stat.S_ISREG(status.st_mode):
            raise InvalidExperiment("this is not a plain file", file=path, wanted="a text file")
        content = opened.read(MAX_EXPERIMENT_BYTES + 1)
    if len(content) > MAX_EXPERIMENT_BYTES:
        raise InvalidExperiment(
            "the file is too large",
            file=path,
            found=f"{status.st_size} bytes",
            wanted=f"at most {MAX_EXPERIMENT_BYTES}",
        )
    return content


def parse_yaml(text: str, path: Path) -> tuple[object, yaml.Node | None]:
    """As `read_yaml`, of the text of `path`. Its nodes' marks count the characters of `text`."""
    try:
        return _parse(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise InvalidExperiment(
            f"the file cannot be read: {error.problem}", file=f"{path}:{line}" if line else path
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InvalidExperiment("the file cannot be read", file=path, found=str(error)[:300]) from error


def _parse(text: str) -> tuple[object, yaml.Node | None]:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return (loader.construct_document(node) if node is not None else None), node
    finally:
        loader.dispose()


def read_experiment(path: Path) -> ExperimentSpec:
    """Read and validate one experiment file.

    Raises:
        InvalidExperiment: it is not one; the message has every offending line and key.
    """
    return _validated(*read_yaml(path), path)


def parse_experiment(text: str, path: Path) -> ExperimentSpec:
    """Validate the text of an experiment file before it is written to `path`.

    Raises:
        InvalidExperiment: as `read_experiment`.
    """
    return _validated(*parse_yaml(text, path), path)


def _validated(value: object, node: yaml.Node | None, path: Path) -> ExperimentSpec:
    if not isinstance(value, dict):
        raise InvalidExperiment("the file does not hold a mapping", file=path, found=type(value).__name__)
    try:
        spec = ExperimentSpec.model_validate(value)
    except ValidationError as error:
        first, *others = error.errors()
        line, key = _place(node, first)
        also = [f"{_place(node, other)[1]}: {_message(other)}" for other in others[:5]]
        raise InvalidExperiment(
            f"the experiment file is not valid: {_message(first)}",
            file=f"{path}:{line}" if line else path,
            key=key,
            # Not the whole part where a key is missing from it.
            found=None if first["type"] == "missing" else repr(first["input"])[:200],
            remedy="; ".join([*_remedy(first), *(["also: " + "; ".join(also)] if also else [])]) or None,
        ) from error
    if spec.exp_name != path.stem:
        raise InvalidExperiment(
            "the file's name and its exp_name differ",
            file=f"{path}:{_walk(node, ('exp_name',))[0]}",
            key="exp_name",
            found=spec.exp_name,
            wanted=path.stem,
            remedy="rename one of them: exp_name becomes a folder and a partition key",
        )
    return spec


def place_in_file(path: Path, key: str) -> str:
    """`<path>:<line>` of a key of an experiment file (`generation.scenes`); the path alone where the file does not have it."""
    line, found = _walk(read_yaml(path)[1], tuple(key.split(".")))
    return f"{path}:{line}" if line is not None and found else str(path)


def _place(node: yaml.Node | None, problem: "ErrorDetails") -> tuple[int | None, str | None]:
    """Line and key of a problem, as they stand in the file."""
    location = problem["loc"]
    line, parts = _walk(node, location)
    if problem["type"] == "missing":
        parts = [*parts, str(location[-1])]
    return line, ".".join(parts) or None


def _walk(node: yaml.Node | None, location: tuple[int | str, ...]) -> tuple[int | None, list[str]]:
    """The line of the deepest node on the way to `location`, and the parts of `location` that the file has.

    The schema's own parts (which form of a union was tried) are passed over.
    """
    line, parts = (node.start_mark.line + 1 if node is not None else None), []
    for part in location:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value == str(part):
                    line, node = key.start_mark.line + 1, value
                    parts.append(str(part))
                    break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
            parts.append(str(part))
    return line, parts


def _message(problem: "ErrorDetails") -> str:
    if problem["type"] == "extra_forbidden":
        return "there is no such key"
    return problem["msg"].removeprefix("Value error, ")


def _remedy(problem: "ErrorDetails") -> list[str]:
    if problem["type"] == "extra_forbidden":
        *above, key = problem["loc"]
        return [f"correct the name ({near_names(_known_keys(above), [str(key)])}), or take it out"]
    return [str(problem["ctx"]["remedy"])] if "remedy" in problem.get("ctx", {}) else []


def _known_keys(location: Sequence[int | str]) -> list[str]:
    """The keys of the part of an experiment that a problem is in."""
    model: type[BaseModel] = ExperimentSpec
    for part in location:
        field = model.model_fields.get(str(part))
        model = next(_parts(field.annotation), model) if field is not None else model
    return list(model.model_fields)


def _parts(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _parts(inner)


def _nothing_begun(exp_name: str, run_name: str) -> bool:
    del exp_name, run_name
    return False


@dataclass(frozen=True)
class ExperimentFolder:
    """The directory of experiment files. `begun`: whether a run of an experiment was begun, which stays one where a sweep takes its name."""

    directory: Path
    begun: Callable[[str, str], bool] = _nothing_begun

    @property
    def archive(self) -> "ExperimentFolder":
        """The experiments that were laid aside: nothing reads them but what brings them back."""
        return ExperimentFolder(self.directory / ARCHIVED)

    def names(self) -> list[str]:
        """Names of the experiment files, sorted; a file whose name cannot become a key is passed over (`misnamed`)."""
        return [path.stem for path in self._files() if _name_problem(path) is None]

    def misnamed(self) -> dict[str, str]:
        """By file: why its name cannot become a key."""
        return {ascii(path.name): problem for path in self._files() if (problem := _name_problem(path)) is not None}

    def _files(self) -> list[Path]:
        return sorted(path for path in self.directory.glob("*.yaml") if not path.name.startswith("."))

    def path(self, exp_name: str) -> Path:
        return self.directory / f"{check_key(exp_name, 'exp_name')}.yaml"

    def exclusions(self, exp_name: str) -> Path:
        """Where the samples stand that a person leaves out of an experiment."""
        return self.directory / f"{check_key(exp_name, 'exp_name')}.exclude.csv"

    def read(self, exp_name: str) -> ExperimentSpec:
        """Read one experiment.

        Raises:
            Undeclared: there is no such file; the message lists those there are, and which are near.
            InvalidExperiment: it is not valid.
        """
        path = self.path(exp_name)
        if not path.is_file() and self.archive.path(exp_name).is_file():
            raise Undeclared(
                "the experiment is archived",
                file=self.archive.path(exp_name),
                found=exp_name,
                remedy=f"bring it back: `thesis-assets archive --exp {exp_name} --back`",
            )
        if not path.is_file():
            names = self.names()
            correct = f"correct the name ({near_names(names, [exp_name])}), or " if names else ""
            raise Undeclared(
                "there is no such experiment",
                file=path,
                found=exp_name,
                wanted=", ".join(names) or "at least one experiment file",
                remedy=f"{correct}write the file: `thesis-assets experiment new {exp_name}`",
            )
        status = path.stat()
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        spec = _read_once(path, stamp)
        begun = frozenset(name for name in spec.sweeps.unswept if self.begun(exp_name, name))
        return _read_once(path, stamp, begun) if begun else spec


@functools.lru_cache(maxsize=512)
def _read_once(path: Path, stamp: tuple[int, int, int], begun: frozenset[str] = frozenset()) -> ExperimentSpec:
    """A file that did not change is parsed once a process: a table over thousands of cells asks for it thousands of times."""
    return _read_once(path, stamp).with_begun(begun) if begun else read_experiment(path)


def _name_problem(path: Path) -> str | None:
    try:
        check_key(path.stem, "exp_name")
    except InvalidKey as error:
        return str(InvalidExperiment("the file's name cannot become a key", file=ascii(str(path)), found=str(error)))
    return None
