"""Says what is in an image: `python images/sbom.py IMAGE` prints a CycloneDX document.

Python distributions, Debian and npm packages as the image itself lists them, sorted, without a date or a
serial number: two builds with the same content give the same document. Needs a Docker engine.
Source: CycloneDX 1.6, ECMA-424; package URLs, ECMA-427.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

PYTHON = """
import importlib.metadata, json
print(json.dumps(sorted({(d.name, d.version) for d in importlib.metadata.distributions()})))
"""
DEBIAN = "dpkg-query -W -f '${source:Package} ${Version}\\n' | sort -u"
NPM = """
find /opt/proxy -path '*/node_modules/*/package.json' -not -path '*/test/*' 2>/dev/null || true
"""


def said(image: str, *command: str) -> str:
    """What a command in a container of the image prints; the container may do nothing else."""
    words = ["docker", "run", "--rm", "--network", "none", "--read-only", "--user", "65532:65532"]
    return subprocess.run(
        [*words, "--entrypoint", command[0], image, *command[1:]], check=True, capture_output=True, text=True
    ).stdout


def normal(name: str) -> str:
    """A distribution's name as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def packages(image: str) -> list[PackageURL]:
    """Every package of an image, sorted."""
    found = set()
    for line in said(image, "sh", "-c", DEBIAN).splitlines():
        name, version = line.split()
        found.add(PackageURL("deb", "debian", name, version))
    if said(image, "sh", "-c", "command -v python || true").strip():
        for name, version in json.loads(said(image, "python", "-P", "-c", PYTHON)):
            found.add(PackageURL("pypi", None, normal(name), version))
    for path in said(image, "sh", "-c", NPM).splitlines():
        about = json.loads(said(image, "cat", path))
        if "name" in about and "version" in about:
            namespace, _, name = about["name"].rpartition("/")
            found.add(PackageURL("npm", namespace or None, name, about["version"]))
    return sorted(found, key=str)


def document(image: str) -> str:
    """The CycloneDX document of an image, as JSON."""
    name = image.partition(":")[0]
    bom = Bom()
    bom.metadata.component = Component(name=name, type=ComponentType.CONTAINER, bom_ref=name)
    for package in packages(image):
        bom.components.add(
            Component(
                name=package.name,
                group=package.namespace if package.type == "npm" else None,
                version=package.version,
                purl=package,
                bom_ref=str(package),
                type=ComponentType.LIBRARY,
            )
        )
    bom.register_dependency(bom.metadata.component, bom.components)
    told = json.loads(JsonV1Dot6(bom).output_as_string())
    told.pop("serialNumber", None)
    told["metadata"].pop("timestamp", None)
    return json.dumps(told, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python images/sbom.py IMAGE")
    sys.stdout.write(document(sys.argv[1]))
