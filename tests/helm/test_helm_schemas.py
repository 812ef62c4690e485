"""The API server's own description fits every object of the chart: no unknown field, no wrong type."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from helm.chart_parts import TRIAL, find_helm, render, rendered
from helm.cluster_release import kubectl, need_cluster

pytestmark = pytest.mark.kubernetes

ALL_ON = (
    "--set-json",
    'sessions.resourceQuota={"pods": "20"}',
    "--set-json",
    'sessions.limitRange=[{"type": "Container", "max": {"cpu": "4"}}]',
)


def write_schemas(folder: Path, kinds: set[str]) -> None:
    """A file for each kind, as kubeconform looks for it, from the API server's own OpenAPI document.

    Source: Kubernetes' OpenAPI 2 document. Unknown fields are refused by closing what names its fields.
    """
    definitions: dict[str, Any] = json.loads(kubectl("get", "--raw", "/openapi/v2"))["definitions"]
    for found in definitions.values():
        if "properties" in found:
            found["additionalProperties"] = False
    quantity = definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"]
    quantity.clear()
    quantity["type"] = ["string", "number"]
    either = definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]
    either.clear()
    either["type"] = ["string", "integer"]
    for name, found in list(definitions.items()):
        for one in found.get("x-kubernetes-group-version-kind", []):
            if one["kind"] not in kinds:
                continue
            schema = {"$ref": f"#/definitions/{name}", "definitions": definitions}
            group = f"{one['group'].partition('.')[0]}-" if one["group"] else ""
            file = folder / f"{one['kind']}-{group}{one['version']}.json".lower()
            file.write_text(json.dumps(schema))


@pytest.mark.parametrize("values", [(), (*TRIAL, *ALL_ON)], ids=["own", "trial"])
def test_the_api_server_knows_every_field(values: tuple[str, ...], tmp_path: Path) -> None:
    need_cluster()
    if shutil.which("kubeconform") is None:
        pytest.skip("kubeconform is missing; shared/cluster/cluster build makes it")
    helm = find_helm()
    objects = rendered(helm, *values)
    write_schemas(tmp_path, {found["kind"] for found in objects})
    place = f"{tmp_path}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    command = ["kubeconform", "-strict", "-summary", "-output", "json", "-schema-location", place]
    done = subprocess.run(
        command, input=render(helm, *values).stdout, capture_output=True, text=True, check=False
    )
    said = json.loads(done.stdout)
    assert said.get("resources", []) == []
    assert said["summary"]["valid"] == len(objects)
    assert done.returncode == 0
