"""Settings as frozen models: parsed once at the edge, trusted inside.

A settings file comes from a person, or from another institution, so it is read as hostile text:
YAML's safe subset, no aliases (they can grow without bound), no repeated keys, at most
`MAX_FILE_BYTES` and `MAX_DEPTH` levels. What is wrong with it is told in one sentence that names
the file and the key.
"""

import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final, Protocol, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from clients import spelling
from privacy.errors import InputError

MAX_FILE_BYTES: Final = 2**20
MAX_DEPTH: Final = 32

# libyaml is twenty times as fast; where PyYAML was built without it, its own parser reads the same
_LOADER: Final = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader

Settings = TypeVar("Settings", bound=BaseModel)
Key = str | int


class Frozen(BaseModel):
    """Immutable; an unknown key or a wrong type is an error, never a guess.

    Sequences are declared as `tuple[...]`; a YAML list is read as one.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )


def read_yaml(model: type[Settings], path: Path) -> Settings:
    """Read one settings file.

    Raises:
        InputError: The file is missing, unreadable, too large, not UTF-8, or does not parse as
            `model`; one sentence that names the file and the key.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path.") from None
    except OSError as failure:
        why = failure.strerror or "unknown reason"
        raise InputError(f"{path}: cannot be read ({why}); check the path.") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        # a cut through the limit may split a character, so the limit speaks first
        if len(raw) > MAX_FILE_BYTES:
            raise _too_large(str(path)) from None
        raise InputError(f"{path}: is not UTF-8 text; save it as UTF-8.") from None
    return parse_yaml(model, text, str(path))


def parse_yaml(model: type[Settings], text: str, where: str) -> Settings:
    """Parse settings.

    Args:
        model: A pydantic model whose sequences are tuples.
        text: The YAML text.
        where: What error sentences start with, for example the file's path.

    Raises:
        InputError: One sentence that names `where`, the key's path and what is expected.
    """
    if len(text.encode(errors="replace")) > MAX_FILE_BYTES:
        raise _too_large(where)
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise InputError(f"{where}: is nested too deeply; make it flatter.")
            if isinstance(event, yaml.AliasEvent):
                raise InputError(
                    f"{where}: {_line(event.start_mark)}aliases (*name) are not read here; write "
                    f"the value out."
                )
        value = _value(text, where)
    except yaml.MarkedYAMLError as failure:
        line = _line(failure.problem_mark)
        why = failure.problem or "unreadable"
        raise InputError(f"{where}: {line}is not YAML ({why}); correct that line.") from None
    except (yaml.YAMLError, ValueError):
        # also raised for a well-formed impossible date such as 2024-13-01
        raise InputError(f"{where}: is not YAML that can be read; correct the file.") from None
    return parse_settings(model, value, where)


def parse_settings(model: type[Settings], value: object, where: str) -> Settings:
    """Parse settings that are already mappings, lists, texts, numbers and booleans.

    Raises:
        InputError: As `parse_yaml`.
    """
    plain = _plain(value, where, ())
    if not isinstance(plain, dict):
        raise InputError(f"{where}: expected `key: value` lines at the top.")
    try:
        return model.model_validate(plain)
    except ValidationError as failure:
        raise InputError(_sentence(model, failure, plain, where)) from None


nearest = spelling.nearest


def _too_large(where: str) -> InputError:
    return InputError(f"{where}: is larger than {MAX_FILE_BYTES // 2**20} MiB; make it smaller.")


def _value(text: str, where: str) -> object:
    loader = _LOADER(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_repeated_keys(node, where)
        return loader.construct_document(node)
    finally:
        loader.dispose()


class _Mark(Protocol):
    @property
    def line(self) -> int: ...


def _line(mark: _Mark | None) -> str:
    return "" if mark is None else f"line {mark.line + 1}: "


def _refuse_repeated_keys(node: yaml.Node, where: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise InputError(
                        f"{where}: {_line(key.start_mark)}key {key.value} is given twice; keep one."
                    )
                seen.add(key.value)
            _refuse_repeated_keys(value, where)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeated_keys(value, where)


def _plain(value: object, where: str, at: tuple[Key, ...]) -> object:
    """Lists become tuples, which strict models take; what no model takes is refused by name."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InputError(
                    f"{where}: {_path(at)}a key is no text; put quotes around keys such as "
                    f"yes, no and numbers."
                )
        return {key: _plain(item, where, (*at, key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(_plain(item, where, (*at, place)) for place, item in enumerate(value))
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise InputError(
        f"{where}: {_path(at)}expected text, a number, true or false; put quotes around dates."
    )


def _path(at: Iterable[Key]) -> str:
    text = ""
    for key in at:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return f"{text}: " if text else ""


def _sentence(model: type[BaseModel], failure: ValidationError, value: object, where: str) -> str:
    error = failure.errors(include_url=False, include_input=False)[0]
    kind, context = error["type"], error.get("ctx", {})
    at = _within(error["loc"], value, missing=kind == "missing")
    if kind == "extra_forbidden":
        key = str(at[-1])
        known = sorted(_known_keys(model, error["loc"][:-1]))
        guess = nearest(key, known)
        advice = f"did you mean {guess}?" if guess else f"known here are {', '.join(known)}."
        return f"{where}: {_path(at[:-1])}unknown key {key}; {advice}"
    if kind == "value_error":
        return f"{where}: {_path(at)}{str(context['error']).rstrip('.')}."
    expected = {
        "missing": "is missing; add it",
        "string_type": "expected text; put quotes around it",
        "int_type": "expected a whole number",
        "int_from_float": "expected a whole number",
        "float_type": "expected a number; YAML reads 1e-5 as text, so write 1.0e-5",
        "bool_type": "expected true or false",
        "tuple_type": "expected a list",
        "dict_type": "expected keys and values below it",
        "model_type": "expected keys and values below it",
        "model_attributes_type": "expected keys and values below it",
        "finite_number": "expected a finite number",
        "union_tag_not_found": "kind is missing; add it",
    }.get(kind)
    if expected is None and kind in {"literal_error", "union_tag_invalid"}:
        choices = context.get("expected") or context.get("expected_tags")
        tag = "kind: " if kind == "union_tag_invalid" else ""
        expected = f"{tag}expected {str(choices).replace(chr(39), '')}"
    if expected is None:
        message = error["msg"].rstrip(".")
        expected = message.replace("Input should", "should").replace("String should", "should")
    return f"{where}: {_path(at)}{expected}."


def _within(loc: tuple[Key, ...], value: object, *, missing: bool) -> tuple[Key, ...]:
    """The places of `loc` that the file has; pydantic mixes the names of union branches in.

    Where a key is missing, the last place is kept although the file does not have it.
    """
    kept: list[Key] = []
    here = value
    for place, key in enumerate(loc):
        if _has(here, key):
            here = here[key]  # type: ignore[index]  # `_has` says so
        elif not missing or place < len(loc) - 1:
            continue
        kept.append(key)
    return tuple(kept)


def _has(value: object, key: Key) -> bool:
    if isinstance(value, Mapping):
        return key in value
    return isinstance(value, tuple) and isinstance(key, int) and key < len(value)


def _known_keys(model: type[BaseModel], loc: tuple[Key, ...]) -> set[str]:
    """Keys that the model, or models, at `loc` take."""
    here = _models_and_more(model)
    for key in loc:
        inner: list[object] = []
        for kind in here:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                fields = {field.alias or name: field for name, field in kind.model_fields.items()}
                if isinstance(key, str) and key in fields:
                    inner += _models_and_more(fields[key].annotation)
            elif get_origin(kind) in {tuple, dict}:
                inner += [part for item in get_args(kind) for part in _models_and_more(item)]
        branches: list[object] = [
            kind
            for kind in here
            if isinstance(kind, type)
            and issubclass(kind, BaseModel)
            and "kind" in kind.model_fields
            and key in get_args(kind.model_fields["kind"].annotation)
        ]
        here = inner or branches or here
    return {
        field.alias or name
        for kind in here
        if isinstance(kind, type) and issubclass(kind, BaseModel)
        for name, field in kind.model_fields.items()
    }


def _models_and_more(annotation: object) -> list[object]:
    """What is left of an annotation once Annotated and unions are taken apart."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _models_and_more(get_args(annotation)[0])
    if origin in {Union, types.UnionType}:
        return [part for item in get_args(annotation) for part in _models_and_more(item)]
    return [annotation]
