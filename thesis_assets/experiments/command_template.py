"""What all parts of an experiment file have in common, and templates of the user's own commands in it.

Templates are words with placeholders, filled in so that no value can become more than its word. Does not belong here: running a
command (`launch`), or where its values come from.
"""

import os
import shlex
from collections.abc import Collection, Mapping, Sequence, Set
from string import Formatter

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


_SHELL_WORDS = frozenset({"&&", "||", "|", ";", "&", ">", ">>", "<", "2>", "2>&1", "&>"})


def check_template(template: str, names: Collection[str]) -> None:
    """Refuse a template that `fill_template` could not fill from values of these names.

    Raises:
        ValueError: quotes or braces do not close, a placeholder is unknown, or a word belongs to a shell.
    """
    words = _words(template)
    if not words:
        raise ValueError("the command has no word")
    operators = [word for word in words if word in _SHELL_WORDS]
    if operators:
        raise ValueError(
            f"the command is one program with its arguments, not a shell line: `{operators[0]}` would be an argument; "
            "write a script, and name it here"
        )
    _refuse_unknown(placeholders(template), names)


def placeholders(template: str) -> set[str]:
    """The names in braces.

    Raises:
        ValueError: quotes or braces do not close, or a placeholder is no plain name.
    """
    return {name for word in _words(template) for _, name in _parts(word) if name is not None}


def fill_template(template: str, values: Mapping[str, str]) -> list[str]:
    """The words of the command. The template is split first, as a shell splits: a value stays inside its word.

    Raises:
        ValueError: the template is none.
        KeyError: a placeholder has no value.
    """
    return [fill_text(word, values) for word in _words(template)]


def in_environment(words: Sequence[str], environment: Environment) -> list[str]:
    """The words as they are executed where the user's command runs.

    A leading `python` is the interpreter that `environment.python` names. `setup` lines run before it, in the same bash, which
    then becomes the command; the first that fails ends it. After them the conda environment of the settings is activated, unless
    the experiment says itself where its command runs: by `python`, or by a line of `setup` that activates something.
    """
    lines = [*environment.setup, *([_ACTIVATE] if _wants_conda(environment) else [])]
    words = [environment.python if words[0] == "python" else words[0], *words[1:]]
    if not lines:
        return words
    script = "\n".join(["set -e", *lines, 'exec "$@"'])
    return ["bash", "-c", script, "bash", *words]


CONDA_ENV = "THESIS_CONDA_ENV"
"""The variable that names the conda environment of the user's commands; empty: none."""
_ACTIVATE = f"""\
conda_sh="${{CONDA_EXE%/bin/conda}}/etc/profile.d/conda.sh"
[ -f "$conda_sh" ] || conda_sh="$(conda info --base 2>/dev/null || true)/etc/profile.d/conda.sh"
if [ ! -f "$conda_sh" ]; then
  echo "{CONDA_ENV}=${CONDA_ENV}, and conda is not found here: there is no conda.sh by CONDA_EXE or \\`conda info --base\\`." \
    "Source it in a line of setup, name the interpreter by python, or unset {CONDA_ENV}." >&2
  exit 127
fi
source "$conda_sh"
conda activate "${CONDA_ENV}" || {{ echo "{CONDA_ENV}=${CONDA_ENV} cannot be activated; see \\`conda env list\\`." >&2; exit 1; }}"""


def _wants_conda(environment: Environment) -> bool:
    named = environment.env.get(CONDA_ENV, os.environ.get(CONDA_ENV, ""))
    own = environment.python != "python" or any("activate" in line for line in environment.setup)
    return bool(named) and not own


def check_text(template: str, names: Collection[str]) -> None:
    """Refuse a text with placeholders (a path) that `fill_text` could not fill from values of these names.

    Raises:
        ValueError: braces do not close, or a placeholder is unknown.
    """
    _refuse_unknown({name for _, name in _parts(template) if name is not None}, names)


def _refuse_unknown(found: Set[str], names: Collection[str]) -> None:
    unknown = sorted(found - set(names))
    if unknown:
        raise ValueError(
            f"unknown placeholder {{{unknown[0]}}}; there are {', '.join(f'{{{name}}}' for name in names)} "
            "(a brace of its own is written twice)"
        )


def fill_text(template: str, values: Mapping[str, str]) -> str:
    """A text with its placeholders filled in; it is not split into words. Errors as of `fill_template`."""
    return "".join(text + (values[name] if name is not None else "") for text, name in _parts(template))


def _words(template: str) -> list[str]:
    if "\0" in template:
        raise ValueError("the command has a zero byte")
    try:
        return shlex.split(template)
    except ValueError as error:
        raise ValueError(f"the command cannot be split into words: {error}") from error


def _parts(word: str) -> list[tuple[str, str | None]]:
    """Text, and the placeholder behind it. `str.format` alone would also look up attributes of the values."""
    parts: list[tuple[str, str | None]] = []
    for text, name, form, conversion in Formatter().parse(word):
        if form or conversion or (name is not None and not name.isidentifier()):
            raise ValueError(f"`{word}`: a placeholder is a plain name in braces (a brace of its own is written twice)")
        parts.append((text, name))
    return parts
