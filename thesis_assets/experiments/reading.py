"""Reading experiment files: bounded, safe YAML; errors name file, line and key.

Aliases are refused: no experiment needs them, and a few lines of nested ones expand to gigabytes.
"""

from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from thesis_assets.errors import InvalidExperiment, InvalidKey
from thesis_assets.experiments.spec import ExperimentSpec
from thesis_assets.layout import check_key

MAX_EXPERIMENT_BYTES = 1024 * 1024


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


def read_yaml(path: Path) -> tuple[object, yaml.Node | None]:
    """The value of a YAML file and its node tree (for line numbers).

    Raises:
        InvalidExperiment: it is missing, too large, or not plain YAML.
    """
    try:
        size = path.stat().st_size
        if size > MAX_EXPERIMENT_BYTES:
            raise InvalidExperiment(
                "the file is too large", file=path, found=f"{size} bytes", wanted=f"at most {MAX_EXPERIMENT_BYTES}"
            )
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InvalidExperiment("there is no such experiment file", file=path) from error
    except UnicodeDecodeError as error:
        raise InvalidExperiment("the file is not UTF-8 text", file=path, found=str(error)) from error
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        value = loader.construct_document(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise InvalidExperiment(
            f"the file cannot be read: {error.problem}", file=f"{path}:{line}" if line else path
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InvalidExperiment("the file cannot be read", file=path, found=str(error)[:300]) from error
    finally:
        loader.dispose()
    return value, node


def _line_of(node: yaml.Node | None, location: tuple[int | str, ...]) -> int | None:
    """The line of the deepest node on the way to `location` that the file has."""
    line = None
    for part in location:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value == str(part):
                    line, node = key.start_mark.line + 1, value
                    break
            else:
                break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def read_experiment(path: Path) -> ExperimentSpec:
    """Read and validate one experiment file.

    Raises:
        InvalidExperiment: it is not one; the message has every offending line and key.
    """
    value, node = read_yaml(path)
    if not isinstance(value, dict):
        raise InvalidExperiment("the file does not hold a mapping", file=path, found=type(value).__name__)
    try:
        spec = ExperimentSpec.model_validate(value)
    except ValidationError as error:
        problems = error.errors()
        first = problems[0]
        line = _line_of(node, first["loc"])
        others = [f"{_key(problem['loc'])}: {problem['msg']}" for problem in problems[1:6]]
        raise InvalidExperiment(
            f"the experiment file is not valid: {first['msg'].removeprefix('Value error, ')}",
            file=f"{path}:{line}" if line else path,
            key=_key(first["loc"]),
            found=repr(first.get("input"))[:200],
            remedy=("also: " + "; ".join(others)) if others else None,
        ) from error
    if spec.exp_name != path.stem:
        raise InvalidExperiment(
            "the file's name and its exp_name differ",
            file=f"{path}:{_line_of(node, ('exp_name',))}",
            key="exp_name",
            found=spec.exp_name,
            wanted=path.stem,
            remedy="rename one of them: exp_name becomes a folder and a partition key",
        )
    return spec


def _key(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)


@dataclass(frozen=True)
class ExperimentFolder:
    """The directory of experiment files."""

    directory: Path

    def names(self) -> list[str]:
        """Names of all experiment files, sorted; a file whose name is no key is not one."""
        names = []
        for path in sorted(self.directory.glob("*.yaml")):
            try:
                names.append(check_key(path.stem, "exp_name"))
            except InvalidKey as error:
                raise InvalidExperiment("the file's name cannot become a key", file=path, found=str(error)) from error
        return names

    def path(self, exp_name: str) -> Path:
        return self.directory / f"{check_key(exp_name, 'exp_name')}.yaml"

    def read(self, exp_name: str) -> ExperimentSpec:
        """Read one experiment.

        Raises:
            InvalidExperiment: there is no such file (the message lists those there are), or it is not valid.
        """
        path = self.path(exp_name)
        if not path.is_file():
            raise InvalidExperiment(
                "there is no such experiment",
                file=path,
                found=exp_name,
                wanted=", ".join(self.names()) or "at least one experiment file",
                remedy="write the file, then `thesis-assets sync`",
            )
        return read_experiment(path)
