"""What is generated from the configuration's model: JSON Schema, reference page, the chart's schema.

`beamhub config schema` and `beamhub config reference` print them. `beamhub config write-reference`
writes them to their places in a checkout, and a test fails when one of them is stale.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from beamhub_core.config import FacilityConfig
from beamhub_core.config.agent import AgentConfig
from beamhub_core.config.reading import is_secret, sections, sections_of
from beamhub_core.errors import BeamhubError

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_FILE = Path("docs/reference/facility.schema.json")
REFERENCE_FILE = Path("docs/reference/facility.md")
AGENT_FILE = Path("docs/reference/agent.md")
CHART_SOURCE = Path("helm/beamhub/schema/chart.schema.json")
CHART_FILE = Path("helm/beamhub/values.schema.json")


class Stale(BeamhubError):
    """Generated files are not what the model says now."""

    def __init__(self, files: tuple[str, ...]) -> None:
        super().__init__(files)
        self.files = files

    def __str__(self) -> str:
        return f"Stale: {', '.join(self.files)}. Run: beamhub config write-reference"


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verbs `config schema`, `config reference` and `config write-reference`."""
    parser = subparsers.add_parser(
        "config",
        help="what the configuration may hold",
        epilog="Examples: beamhub config schema > facility.schema.json; beamhub config reference | less",
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    schema = verbs.add_parser("schema", help="print the JSON Schema of facility.yaml, for editors")
    schema.set_defaults(run=lambda _: _print(schema_text()))
    reference = verbs.add_parser("reference", help="print the reference page of facility.yaml")
    reference.set_defaults(run=lambda _: _print(reference_text()))
    write = verbs.add_parser("write-reference", help="write the generated files of a checkout")
    write.add_argument("--root", type=Path, default=Path(), help="the checkout (this folder)")
    write.add_argument("--check", action="store_true", help="write nothing; fail when a file is stale")
    write.set_defaults(run=lambda arguments: write_generated(arguments.root, check=arguments.check))


def _print(text: str) -> int:
    sys.stdout.write(text)
    return 0


def generated(root: Path) -> dict[Path, str]:
    """The files of a checkout that follow from the model, with the text each must have."""
    found = {SCHEMA_FILE: schema_text(), REFERENCE_FILE: reference_text(), AGENT_FILE: agent_reference_text()}
    if (root / CHART_SOURCE).exists():
        found[CHART_FILE] = chart_schema_text((root / CHART_SOURCE).read_text(encoding="utf-8"))
    return found


def write_generated(root: Path, *, check: bool) -> int:
    """Write the generated files that are stale, or with `check` raise `Stale`, which names them."""
    stale = [
        path
        for path, text in generated(root).items()
        if not (root / path).exists() or (root / path).read_text(encoding="utf-8") != text
    ]
    if check and stale:
        raise Stale(tuple(str(path) for path in stale))
    for path in stale:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(generated(root)[path], encoding="utf-8")
        sys.stderr.write(f"beamhub: wrote {path}\n")
    return 0


def schema_text() -> str:
    """JSON Schema of `facility.yaml` (draft 2020-12)."""
    schema = {"$schema": DIALECT, **_facility_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _facility_schema() -> dict[str, Any]:
    schema = FacilityConfig.model_json_schema()
    schema["title"] = "facility.yaml"
    return schema


def chart_schema_text(source: str) -> str:
    """The chart's `values.schema.json`: its own part, with the configuration's schema under `facility`.

    The definitions move to the top, where the references of JSON Schema look for them.
    """
    chart: dict[str, Any] = json.loads(source)
    facility = _facility_schema()
    chart.setdefault("$defs", {}).update(facility.pop("$defs"))
    chart["properties"]["facility"] = {
        **facility,
        "description": chart["properties"]["facility"]["description"],
    }
    return json.dumps(chart, indent=2, ensure_ascii=False) + "\n"


def reference_text() -> str:
    """The reference page: every section, every key with type, default and meaning."""
    lines = [
        "# `facility.yaml`",
        "",
        "The one configuration file of a facility, section by section. Written by",
        "`beamhub config write-reference`",
        "from the model in `beamhub_core.config`; do not edit it by hand. `beamhub check` reads a file and",
        "reports every problem at once. A key that is not listed here is an error; a secret is the path of",
        "a file. In a section's name `[]` stands for each item of a list.",
        "",
        "Text, numbers and `true` or `false` are told apart as in YAML 1.2: `no`, `010` and dates are text.",
        "Aliases may repeat a value; merge keys (`<<`), tags and keys that stand twice are refused.",
    ]
    return "\n".join([*lines, *_tables(sections())]) + "\n"


def agent_reference_text() -> str:
    """The reference page of `agent.yaml`."""
    lines = [
        "# `agent.yaml`",
        "",
        "The configuration of `beamhub agent` on one Docker host, or as storage keeper of one Kubernetes",
        "place, beside the facility's own. Written by `beamhub config write-reference` from the model in",
        "`beamhub_core.config.agent`; do not edit it by hand. What it is for stands in",
        "[Docker hosts](../operate/docker-hosts.md) and [Kubernetes](../operate/kubernetes.md). A key not",
        "listed here is an error; a secret is the path of a file.",
    ]
    return "\n".join([*lines, *_tables(sections_of(AgentConfig))]) + "\n"


def _tables(found: Iterable[tuple[str, type[BaseModel]]]) -> Iterator[str]:
    """A heading and a table of keys for each section."""
    for path, model in found:
        title = f"`{path}`" if path else "Top level"
        summary = (model.__doc__ or "").partition("\n")[0]
        yield from ("", f"## {title}", "", summary, "")
        yield from ("| Key | Type | Default | Meaning |", "| --- | --- | --- | --- |")
        for name, info in model.model_fields.items():
            yield _row(name, info, model)


def _row(name: str, info: FieldInfo, model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    described = schema["properties"][name]
    kind = ", ".join(dict.fromkeys(_kind(described, schema.get("$defs", {}))))
    if is_secret(info):
        kind = "path of a secret"
    default = "required" if info.is_required() else f"`{_default(info)}`"
    cells = (f"`{name}`", kind, default, info.description or _inner_summary(described, schema))
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined or value is None:
        return "null"
    return json.dumps(value, default=str, ensure_ascii=False)


def _inner_summary(described: dict[str, Any], schema: dict[str, Any]) -> str:
    reference = described.get("$ref") or described.get("items", {}).get("$ref")
    if reference is None:
        return ""
    summary: str = schema["$defs"][reference.rpartition("/")[2]].get("description", "")
    return summary.partition("\n")[0]


def _kind(described: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    """The type of a key in a reader's words."""
    if "anyOf" in described or "oneOf" in described:
        for one in described.get("anyOf") or described["oneOf"]:
            yield from _kind(one, definitions)
    elif "$ref" in described:
        yield from _kind(definitions[described["$ref"].rpartition("/")[2]], definitions)
    elif "enum" in described:
        yield " or ".join(f"`{value}`" for value in described["enum"])
    elif "const" in described:
        yield f"`{described['const']}`"
    elif described.get("type") == "array":
        inner = " or ".join(dict.fromkeys(_kind(described.get("items", {}), definitions)))
        yield "list of sections" if inner == "section" else f"list of {inner}"
    elif described.get("type") == "object":
        yield "section" if "properties" in described else "mapping"
    elif described.get("format") == "path":
        yield "absolute path"
    elif described.get("type") in ("integer", "number"):
        yield described["type"] + _bounds(described)
    elif described.get("type") == "null":
        return
    else:
        names = {"string": "text", "boolean": "`true` or `false`"}
        yield names.get(described.get("type", ""), "any value")


def _bounds(described: dict[str, Any]) -> str:
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {described[key]:.12g}" for key, sign in words.items() if key in described]
    return f" ({', '.join(found)})" if found else ""
