"""Reading `facility.yaml`: every problem at once, each with its path, its line and a hint."""

from __future__ import annotations

import errno
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from beamhub_core.config.document import Document, DocumentRefused, Location, read_document
from beamhub_core.config.facility import FacilityConfig, disagreements, nearest
from beamhub_core.config.section import HoldsSecret
from beamhub_core.errors import ConfigInvalid

MAX_CONFIG_BYTES = 1_000_000
MAX_PROBLEMS = 100
KIND = "kind"
"""The key that tells sections apart which may stand in one place."""

Problem = tuple[Location, str]


def read_config(path: Path) -> FacilityConfig:
    """The configuration in a YAML file.

    Raises
    ------
    ConfigInvalid
        With every problem of the file, each with its path in the configuration, its line and, for
        an unknown key, the nearest known one.
    """
    try:
        document = read_document(_text(path))
    except OSError as error:
        raise ConfigInvalid(str(path), (f"cannot be read: {error.strerror or error}",)) from error
    except UnicodeDecodeError as error:
        raise ConfigInvalid(str(path), (f"is not UTF-8 (byte {error.start})",)) from error
    except DocumentRefused as error:
        raise ConfigInvalid(str(path), (str(error),)) from None
    if not isinstance(document.data, dict):
        raise ConfigInvalid(str(path), ("holds no mapping of sections; see docs/reference/facility.md",))
    config, problems = _validated(document.data)
    problems = [*document.problems, *problems]
    if config is None or problems:
        raise ConfigInvalid(str(path), tuple(_rendered(problems, document)))
    return config


def _text(path: Path) -> str:
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
        raise OSError(errno.EINVAL, "is not a regular file")
    with path.open("rb") as file:
        raw = file.read(MAX_CONFIG_BYTES + 1)
    if len(raw) > MAX_CONFIG_BYTES:
        raise OSError(errno.EFBIG, f"the file is larger than {MAX_CONFIG_BYTES} bytes")
    return raw.decode("utf-8-sig")


def _validated(data: dict[str, Any]) -> tuple[FacilityConfig | None, list[Problem]]:
    """Validate as JSON, strictly: YAML told text and numbers apart already, so `"8"` is no number."""
    try:
        return FacilityConfig.model_validate_json(json.dumps(data), strict=True), []
    except ValidationError as error:
        problems = [(_without_tags(location), message) for location, message in _problems(error)]
    sections = dict(_sections_that_are_well(data))
    if len(sections) < len(FacilityConfig.model_fields):  # else the model compared them itself
        problems += disagreements(sections)
    return None, problems


def _sections_that_are_well(data: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, info in FacilityConfig.model_fields.items():
        try:
            adapter = TypeAdapter[Any](cast(Any, info.annotation))
            yield name, adapter.validate_json(json.dumps(data.get(name)), strict=True)
        except ValidationError:
            continue


def _problems(error: ValidationError) -> Iterator[Problem]:
    for item in error.errors(include_url=False):
        location: Location = item["loc"]
        if item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"]:
            continue  # pydantic counts the well items only; the others are reported themselves
        if item["type"] == "extra_forbidden":
            yield location, f"unknown key{_hint_for_unknown(location)}"
        elif item["type"] == "missing":
            yield location, f"is missing{_meaning(location)}"
        elif item["type"] == "union_tag_not_found":
            yield (*location, KIND), "is missing (it says which other keys there are)"
        elif item["type"] == "union_tag_invalid":
            yield (
                (*location, KIND),
                f"input should be {' or '.join(item['ctx']['expected_tags'].split(', '))}",
            )
        elif item["type"] == "value_error":
            yield location, item["msg"].removeprefix("Value error, ")
        elif item["type"] == "sections_disagree":
            yield from item["ctx"]["found"]
        else:
            value = "" if _is_secret(location) else f" (got {_short(item['input'])})"
            yield location, item["msg"][:1].lower() + item["msg"][1:] + value


def _rendered(problems: list[Problem], document: Document) -> Iterator[str]:
    """In the order of the file, each once."""
    known = {problem: document.line_of(problem[0]) or 0 for problem in problems}
    ordered = sorted(known, key=lambda problem: known[problem])
    for location, message in ordered[:MAX_PROBLEMS]:
        line = f", line {known[location, message]}" if known[location, message] else ""
        yield f"{_dotted(location)}: {message}{line}"
    if len(ordered) > MAX_PROBLEMS:
        yield f"... and {len(ordered) - MAX_PROBLEMS} more"


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _dotted(location: Location) -> str:
    text = ""
    for part in location:
        word = str(part) if isinstance(part, int) or str(part).isprintable() else repr(part)
        word = word if len(word) <= 80 else word[:77] + "..."
        text += f"[{word}]" if isinstance(part, int) else (f".{word}" if text else word)
    return text or "(top)"


def _hint_for_unknown(location: Location) -> str:
    word = str(location[-1])[:80]
    section = section_at(location[:-1])
    hint = nearest(word, section.model_fields if section is not None else ())
    if hint:
        return hint
    elsewhere = [path for path, model in sections() if word in model.model_fields and path]
    return f" (it stands under {' or '.join(repr(path) for path in elsewhere)})" if elsewhere else ""


def _meaning(location: Location) -> str:
    section = section_at(location[:-1])
    info = section.model_fields.get(str(location[-1])) if section is not None else None
    if info is None:
        return ""
    meaning = info.description or _summary(_sections_in(info.annotation))
    return f" ({meaning[:-1] if meaning.endswith('.') else meaning})" if meaning else ""


def _summary(found: tuple[type[BaseModel], ...]) -> str:
    return (found[0].__doc__ or "").partition("\n")[0] if found else ""


def is_secret(info: FieldInfo) -> bool:
    """Whether a key names a file that holds a secret."""
    return any(isinstance(mark, HoldsSecret) for mark in info.metadata)


def _is_secret(location: Location) -> bool:
    for end in range(len(location), 0, -1):
        section = section_at(location[: end - 1])
        info = section.model_fields.get(str(location[end - 1])) if section is not None else None
        if info is not None:
            return is_secret(info) or "url" in str(location[end - 1])  # a database URL may hold a password
    return False


def section_at(location: Location) -> type[BaseModel] | None:
    """The model of the section at a place in the file, if there is one; pydantic's places name kinds too."""
    found: tuple[type[BaseModel], ...] = (FacilityConfig,)
    names_follow = False  # of sections by names of their own, as volumes by pools
    for part in location:
        if names_follow:
            names_follow = False
        elif isinstance(part, str):
            tagged = _tagged(found, part)
            info = found[0].model_fields.get(part) if len(found) == 1 else None
            found = tagged or (_sections_in(info.annotation) if info is not None else ())
            names_follow = info is not None and get_origin(info.annotation) is dict and bool(found)
    return found[0] if len(found) == 1 else None


def _without_tags(location: Location) -> Location:
    """A place as the file has it, without the kinds that pydantic put between."""
    return tuple(
        part
        for i, part in enumerate(location)
        if not (isinstance(part, str) and _tagged(_choices_at(location[:i]), part))
    )


def _choices_at(location: Location) -> tuple[type[BaseModel], ...]:
    for end in range(len(location) - 1, -1, -1):
        if isinstance(location[end], str):
            section = section_at(location[:end])
            info = section.model_fields.get(str(location[end])) if section is not None else None
            return _sections_in(info.annotation) if info is not None else ()
    return ()


def _tagged(models: tuple[type[BaseModel], ...], word: str) -> tuple[type[BaseModel], ...]:
    """Of several kinds of one section, the one that a word names."""
    return tuple(model for model in models if len(models) > 1 and kind_of(model) == word)


def kind_of(model: type[BaseModel]) -> str:
    """The value of `kind` by which a section is told from others that may stand in its place."""
    return str(get_args(model.model_fields[KIND].annotation)[0])


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section of the file with its path, `[]` standing for each item of a list; the top is ''."""
    return sections_of(FacilityConfig)


def sections_of(top: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section of a model, as `sections` has those of the file."""
    pending: list[tuple[str, type[BaseModel]]] = [("", top)]
    while pending:
        path, model = pending.pop(0)
        yield path, model
        for name, info in model.model_fields.items():
            inner = _sections_in(info.annotation)
            suffix = "[]" if "tuple" in str(info.annotation) else ""
            here = f"{path}.{name}{suffix}".lstrip(".")
            for one in inner:
                pending.append((here if len(inner) == 1 else f"{here} ({KIND}: {kind_of(one)})", one))


def _sections_in(annotation: Any) -> tuple[type[BaseModel], ...]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return tuple(found for argument in get_args(annotation) for found in _sections_in(argument))
