"""Options that were resolved when something was made, against those of an experiment's file now.

An option that the file does not set keeps the value it was made with: a default that changed makes no work.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

Options = Mapping[str, Any]
Part = TypeVar("Part", bound=BaseModel)


def options_of(parts: Mapping[str, BaseModel]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parts of an experiment as options: every default resolved, and those that the file sets.

    Args:
        parts: by dotted key in the experiment's file: `evaluation.nvs`.
    """
    options: dict[str, Any] = {}
    given: dict[str, Any] = {}
    for key, part in parts.items():
        _put(options, key, part.model_dump(mode="json"))
        _put(given, key, part.model_dump(mode="json", exclude_unset=True))
    return options, given


def kept_part(key: str, part: Part, then: Options) -> Part:
    """The part of an experiment to make something by that was made before, see `kept_options`.

    Args:
        key: its dotted key, under which it stands in the record's options.
    """
    place: Any = then
    for word in key.split("."):
        place = place.get(word, {})
    kept = kept_options(place, part.model_dump(mode="json"), part.model_dump(mode="json", exclude_unset=True))
    return type(part).model_validate(kept)


def _put(options: dict[str, Any], key: str, value: Any) -> None:
    *folders, last = key.split(".")
    for word in folders:
        options = options.setdefault(word, {})
    options[last] = value


def differences(then: Options, now: Options, given: Options | None, before: Options) -> Iterator[str]:
    """In words, each option that the file sets and that was another one then.

    Args:
        then: as recorded.
        now: every default resolved.
        given: those that the file sets, in the same form; None: all of them.
        before: by dotted key: what the step did before it had the option, for records that do not have it.
    """
    old, new = dict(_flat(then)), dict(_flat(now))
    for key in sorted(old.keys() | new.keys()):
        if given is not None and not _is_given(given, key) and not _is_left_out(given, now, key):
            continue
        was, is_now = old.get(key, before.get(key)), new.get(key)
        if was != is_now:
            yield f"`{key}` was {_said(was)}, is {_said(is_now)}"


def kept_defaults(then: Options, now: Options, given: Options) -> Iterator[str]:
    """In words, each option that the file does not set, and that was another one than today's default: it stays as it was.

    Args:
        then: as recorded; what of it is not in `now` says nothing.
        now: the file with every default resolved.
        given: what it sets.
    """
    new = dict(_flat(now))
    for key, was in _flat(then):
        default = new.get(key)
        both_empty = not was and not default  # a table without rows is written as a list of none
        if default is not None and default != was and not both_empty and not _is_given(given, key):
            yield f"`{key}` stays {_said(was)}: the file does not set it (the default is {_said(default)})"


def kept_options(then: Options, now: Options, given: Options | None) -> dict[str, Any]:
    """The options to make something by that was made before: as the file sets them, else as recorded, else today's default."""
    if given is None:
        return dict(now)
    kept: dict[str, Any] = {}
    for key, value in now.items():
        was = then.get(key)
        if isinstance(value, Mapping) and isinstance(was, Mapping) and isinstance(given.get(key, {}), Mapping):
            kept[key] = kept_options(was, value, given.get(key, {}))
            if key not in given:
                kept[key] = {**was, **kept[key]}
        else:
            kept[key] = value if key in given or key not in then else was
    return kept


def _flat(options: Options, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in options.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _is_given(given: Options, key: str) -> bool:
    """Whether the file sets the dotted key, or a value that it is a part of."""
    place: Any = given
    for part in key.split("."):
        if not isinstance(place, Mapping):
            return True
        if part not in place:
            return False
        place = place[part]
    return True


def _is_left_out(given: Options, now: Options, key: str) -> bool:
    """Whether the file sets the whole table that the key stood in, without it: `weights` with one strategy less."""
    folders = key.split(".")[:-1]
    for word in folders:
        if not isinstance(given, Mapping) or word not in given or word not in now:
            return False
        given, now = given[word], now[word]
    return bool(folders) and given == now


def _said(value: object) -> str:
    text = "not set" if value is None else value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
