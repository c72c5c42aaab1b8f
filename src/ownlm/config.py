"""Configuration: frozen pydantic models read from YAML, dotted overrides, and errors that name the nearest key."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from .config_lines import line_of
from .errors import ConfigError, nearest
from .files import read_text


class Config(BaseModel):
    """The base of every configuration object: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, values: Any) -> Any:
        """YAML reads yes and on as true, which would count as 1."""
        given = values if isinstance(values, Mapping) else {}
        for name, field in cls.model_fields.items():
            key = field.alias or name
            if isinstance(given.get(key), bool) and _plain_types(field.annotation) in _NUMBERS:
                # An error of the field's own, so that its key is known.
                values = {**values, key: str(given[key]).lower()}
        return values


C = TypeVar("C", bound=Config)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's mapping.

    Raises:
        ConfigError: not YAML (with the line), a key that stands twice, or not a mapping.
    """
    if path.suffix.lower() in _DATA_SUFFIXES and _is_file(path):
        raise ConfigError("this is data, not a file of settings", where=str(path), hint="name a YAML file")
    if _is_file(path / "config.yaml"):
        hint = f"name the file in it: {path / 'config.yaml'}"
        raise ConfigError("this is a folder, a file was expected", where=str(path), hint=hint)
    try:
        value = _load(read_text(path))
    except _TwiceError as error:
        raise ConfigError(str(error.problem), where=f"{path}{_line(error)}", hint=error.note) from None
    except yaml.MarkedYAMLError as error:
        way_out = next((hint for sign, hint in _YAML_HINTS.items() if sign in str(error.problem)), None)
        raise ConfigError(
            f"this is not valid YAML: {error.problem}", where=f"{path}{_line(error)}", hint=way_out
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"this is not valid YAML: {error}", where=str(path)) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        hint = "write a key and its value in each line, such as 'out: runs/mine'"
        raise ConfigError("a mapping of keys to values was expected", where=str(path), hint=hint)
    return value


def _is_file(path: Path) -> bool:
    """Whether a file stands there, as far as one may know."""
    try:
        return path.is_file()
    except PermissionError:
        return False


# What hold texts, and are named for a config by mistake.
_DATA_SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".md")

# What YAML's library says, and what its reader should do.
_YAML_HINTS = {
    "'\\t'": "indent with spaces, not with tabs",
    "could not find expected ':'": "write 'key: value', with a colon and a space",
    "mapping values are not allowed here": "keys of one level begin in the same column; a text with ': ' needs quotes",
    "expected <block end>": "keys of one level begin in the same column",
}


def _line(error: yaml.MarkedYAMLError) -> str:
    # A key without its colon is noticed at the next line's beginning only.
    mark = error.context_mark if error.context == "while scanning a simple key" else error.problem_mark
    return f":{mark.line + 1}" if mark else ""


class _TwiceError(yaml.composer.ComposerError):
    """A mapping has one key twice, of which YAML's library would silently take the last."""


class _Loader(yaml.SafeLoader):
    """Reads YAML as the library's safe loader does, and lets no key stand twice in a mapping (YAML 1.2, 3.2.1.1)."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], int] = {}
        # Looked at here, since a merge ('<<') puts keys beside those that replace them later.
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if (key.tag, key.value) in first:
                there = f"it stands in line {first[key.tag, key.value]} already; keep one of the two"
                raise _TwiceError(None, None, f"the key '{key.value}' stands twice", key.start_mark, there)
            first[key.tag, key.value] = key.start_mark.line + 1
        return node


def _load(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def parse_override(text: str) -> tuple[str, Any]:
    """``optimizer.lr=3e-4`` as ``("optimizer.lr", 0.0003)``; the value is read as YAML is, with plain floats too."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        hint = "write key.sub=value without spaces around '=', for example optimizer.lr=3e-4"
        raise ConfigError(f"'{text}' is not an override", hint=hint)
    return key, _parse_value(value)


def _parse_value(value: str) -> Any:
    if value.lower() == "none":
        return None
    try:
        # YAML 1.1 reads 3e-4 as text; a user who types it means a number.
        return float(value) if any(c in value for c in ".eE") else int(value)
    except ValueError:
        pass
    try:
        return _load(value)
    except _TwiceError as error:
        raise ConfigError(str(error.problem), where=f"'{value}'") from None
    except yaml.YAMLError:
        return value


def merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with dotted ``overrides`` set; the inputs stay as they are."""
    result = {key: dict(value) if isinstance(value, Mapping) else value for key, value in base.items()}
    for dotted, value in overrides.items():
        *parents, last = dotted.split(".")
        place = result
        for parent in parents:
            inner = place.get(parent)
            place[parent] = dict(inner) if isinstance(inner, Mapping) else {}
            place = place[parent]
        place[last] = value
    return result


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested values as (dotted key, value) rows, in order; the opposite of ``merge``."""
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            rows.extend(flatten(value, f"{prefix}{key}."))
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            rows.extend(flatten({str(number): item for number, item in enumerate(value)}, f"{prefix}{key}."))
        else:
            rows.append((f"{prefix}{key}", value))
    return rows


def validate(kind: type[C], values: Mapping[str, Any], *, source: str | None = None) -> C:
    """Builds a configuration object.

    Raises:
        ConfigError: the first wrong key, with its dotted path, its line where ``source`` is a YAML file, and the nearest known name.
    """
    try:
        return kind.model_validate(_plain_floats(values))
    except ValidationError as error:
        first = _telling(error.errors())
        # Where one of several kinds may stand, the kind is a step of the way, but none of the user's.
        kinds = _names_of_models(kind)
        location = [str(part) for part in first["loc"] if part not in kinds and not _STEP.match(str(part))]
        if len(location) > 1 and location[-1] in ("bool", "int", "float", "str"):
            # One of several plain types that may stand there.
            location.pop()
        source = _with_line(source, location, first["input"])
        where = " in ".join(part for part in (".".join(location), source) if part)
        if first["type"] == "extra_forbidden":
            hint = _elsewhere(kind, location) or nearest(location[-1], _keys_at(kind, location[:-1]))
            raise ConfigError(f"unknown key '{location[-1]}'", where=where, hint=hint) from None
        if first["type"] == "union_tag_invalid":
            given, choices = str(first["ctx"]["tag"]), _choices(first["ctx"]["expected_tags"])
            where = f"{'.'.join(location)}.{str(first['ctx']['discriminator']).strip(chr(39))}"
            where += f" in {source}" if source else ""
            raise ConfigError(
                f"'{given}' is not one of the choices", where=where, hint=nearest(given, choices)
            ) from None
        if first["type"] in ("literal_error", "enum"):
            hint = nearest(str(first["input"]), _choices(first["ctx"]["expected"]))
            raise ConfigError(f"'{first['input']}' is not one of the choices", where=where, hint=hint) from None
        if first["type"] == "missing":
            if isinstance(first["loc"][-1], int):
                where = " in ".join(part for part in (".".join(location[:-1]), source) if part)
                raise ConfigError("a value is missing from this list", where=where) from None
            raise ConfigError(f"'{location[-1]}' is missing", where=where, hint=_meaning(kind, location)) from None
        message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        if first["type"] in _WORDS:
            message = _WORDS[first["type"]].format(**first.get("ctx", {}))
        given = first["input"]
        shown = "" if isinstance(given, (dict, list)) else f" (got {'nothing' if given is None else repr(given)})"
        written = _as_mapping(kind, location, given) if first["type"] in _NO_MAPPING else None
        raise ConfigError(message[0].lower() + message[1:] + shown, where=where or None, hint=written) from None


def _with_line(source: str | None, location: Sequence[str], given: Any) -> str | None:
    """A YAML file's name with the line that a wrong key stands in, where it is found there."""
    if source is None or not source.lower().endswith((".yaml", ".yml")):
        return source
    line = line_of(Path(source), location, lambda value: bool(_plain_floats(value) == given))
    return source if line is None else f"{source}:{line}"


# A value stands where a mapping is expected.
_NO_MAPPING = ("model_type", "model_attributes_type")


def _as_mapping(kind: type[BaseModel], location: Sequence[str], given: Any) -> str | None:
    """How a section is written whose one value was given."""
    keys = sorted(_keys_at(kind, location))
    if not location or not keys:
        return None
    if "kind" in keys and isinstance(given, str):
        return f"write {location[-1]}: {{kind: {given}}}"
    return f"write {location[-1]}: {{KEY: VALUE}}, where KEY is one of: {', '.join(keys)}"


def _elsewhere(kind: type[BaseModel], location: Sequence[str]) -> str | None:
    """Names an unknown key that is known in another section, as ``lr`` for ``optimizer.lr``."""
    keys = dict.fromkeys(key for key, *_ in describe(kind) if key.split(".")[-1] == location[-1])
    # One that many sections have, such as kind, says nothing.
    return f"did you mean {' or '.join(map(repr, keys))}?" if 0 < len(keys) <= 3 else None


def _meaning(kind: type[BaseModel], location: Sequence[str]) -> str | None:
    """What a key is for, as its description says."""
    found = next((text for key, _, _, text in describe(kind) if key == ".".join(location)), "")
    return " ".join(found.split()) or None


# What a field for numbers allows.
_NUMBERS = ({int}, {float}, {int, float})


def _plain_types(annotation: Any) -> set[Any]:
    """What an annotation allows besides nothing: types, and what it is itself where it is no type."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _plain_types(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return set().union(*map(_plain_types, typing.get_args(annotation)))
    return set() if annotation is types.NoneType else {annotation}


def _choices(expected: Any) -> list[str]:
    return [choice.strip("' ") for choice in str(expected).replace(" or ", ", ").split(",")]


# What pydantic calls a step of its own within a union.
_STEP = re.compile(r"(function-(after|before|wrap|plain)|list|tuple|dict|literal|constrained-\w+)\[")

# For a user a tuple is a list, and an object is a mapping.
_WORDS = {
    "tuple_type": "should be a list",
    "list_type": "should be a list",
    "dict_type": "should be a mapping of keys to values",
    "model_type": "should be a mapping of keys to values",
    "model_attributes_type": "should be a mapping of keys to values",
    "int_parsing": "should be a whole number",
    "int_type": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_parsing": "should be a valid number",
    "string_type": "should be text",
    "bool_parsing": "should be true or false",
    "bool_type": "should be true or false",
    "invalid_key": "a key should be text; YAML reads numbers, and words such as yes and on, as something else",
    "too_long": "should have at most {max_length} of them, not {actual_length}",
    "too_short": "should have at least {min_length} of them, not {actual_length}",
}


def _telling(errors: Sequence[Any]) -> Any:
    """Of several errors the one that says what the user got wrong."""
    first = errors[0]
    if first["type"] in ("string_type", "literal_error") and isinstance(first["input"], Mapping | list):
        # A text or a mapping may stand there, and this is meant as the mapping.
        return errors[min(1, len(errors) - 1)]
    if first["type"] == "missing":
        # With an unknown key beside it, it was misspelt.
        beside = (e for e in errors if e["type"] == "extra_forbidden" and e["loc"][:-1] == first["loc"][:-1])
        return next(beside, first)
    return first


def _names_of_models(kind: type[BaseModel]) -> set[str]:
    """What pydantic calls the models under a model in the way to a wrong key: by class, or by the value of ``kind``."""
    inner = (model for field in kind.model_fields.values() for model in _models_of(field.annotation))
    names = {kind.__name__}.union(*map(_names_of_models, inner))
    for field in kind.model_fields.values():
        if field.discriminator is not None:
            models = _models_of(field.annotation)
            names.update(str(model.model_fields[str(field.discriminator)].default) for model in models)
    return names


def _plain_floats(value: Any) -> Any:
    """YAML 1.1 keeps ``3e-4`` as text; turn such text into the number it is, everywhere."""
    if isinstance(value, Mapping):
        return {key: _plain_floats(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain_floats(inner) for inner in value]
    if isinstance(value, str) and value[:1].isdigit() and "e" in value.lower():
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _models_of(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in _models_of(argument)]


def _keys_at(kind: type[BaseModel], location: Sequence[str]) -> set[str]:
    """Every known key at a dotted place, following unions and lists of models."""
    models: list[type[BaseModel]] = [kind]
    for part in location:
        fields = [f for model in models for name, f in model.model_fields.items() if part == (f.alias or name)]
        inner = [model for field in fields for model in _models_of(field.annotation)]
        # A union's or a list's own steps ("0", "LoraConfig") name no field: stay where we are.
        models = inner or models
    return {field.alias or name for model in models for name, field in model.model_fields.items()}


def describe(kind: type[BaseModel], prefix: str = "") -> list[tuple[str, str, str, str]]:
    """Every field as (dotted key, type, default, description), in order."""
    rows = []
    for name, field in kind.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        default = "required" if field.is_required() else _shown(field.get_default(call_default_factory=True))
        inner = _models_of(field.annotation)
        rows.append((key, _type_name(field.annotation), "" if inner else default, field.description or ""))
        for model in inner:
            rows.extend(describe(model, f"{key}."))
    return rows


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(item) for item in value) or "empty"
    return str(value)


def _type_name(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return " | ".join(str(choice) for choice in typing.get_args(annotation))
    if origin is typing.Annotated:
        return _type_name(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_type_name(a) for a in typing.get_args(annotation) if a is not type(None))
    if origin in (list, tuple, dict):
        return f"{origin.__name__} of {', '.join(_type_name(a) for a in typing.get_args(annotation) if a is not ...)}"
    return getattr(annotation, "__name__", str(annotation))


def editor_schema(config: type[BaseModel], sections: Mapping[str, type[Config]] | None = None) -> dict[str, Any]:
    """A JSON Schema (2020-12) of what a file of this config may hold, by which editors complete and check it.

    It is a little wider than the config: a lone value stands for a list of one, and what depends on other keys is not
    checked.

    Args:
        config: the config.
        sections: keys that are free mappings in it, and the config whose keys they have, none of them needed.
    """
    schema = config.model_json_schema()
    for key, section in (sections or {}).items():
        inner = section.model_json_schema()
        schema["$defs"] |= inner.pop("$defs", {})
        schema["$defs"][section.__name__] = inner | {"required": []}
        own = schema["properties"][key]
        kept = {name: own[name] for name in ("description", "default", "title") if name in own}
        schema["properties"][key] = {"anyOf": [{"$ref": f"#/$defs/{section.__name__}"}, {"type": "null"}], **kept}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_widened(schema)}


def _widened(schema: Any) -> Any:
    """Lists of texts may be one of them, and their texts numbers; of several kinds of section one is enough."""
    if isinstance(schema, list):
        return [_widened(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {("anyOf" if key == "oneOf" else key): _widened(value) for key, value in schema.items()}
    if result.get("type") == "array" and result.get("items") == {"type": "string"}:
        one = {"type": ["string", "number", "boolean"]}
        kept = {key: value for key, value in result.items() if key not in ("type", "items")}
        return {"anyOf": [{"type": "array", "items": one}, one], **kept}
    if result.get("type") == "array" and "enum" in result.get("items", {}):
        kept = {key: value for key, value in result.items() if key not in ("type", "items")}
        return {"anyOf": [{"type": "array", "items": result["items"]}, result["items"]], **kept}
    return result
