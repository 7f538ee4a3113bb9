"""Print what an image consists of, as a CycloneDX bill of materials: `python - NAME VERSION` in a container of it.

All Python distributions of the interpreter that runs this, the interpreter, and Debian's packages. Two runs in one
image print the same: there is no time and no number in it.
"""

import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator

Component = dict[str, str]


def python_components() -> Iterator[Component]:
    """The interpreter, and the distributions that it finds."""
    yield _component("python", platform.python_version(), f"pkg:generic/python@{platform.python_version()}")
    for found in importlib.metadata.distributions():
        name = found.metadata["Name"].lower().replace("_", "-")
        yield _component(name, found.version, f"pkg:pypi/{name}@{found.version}")


def debian_components() -> Iterator[Component]:
    """The system's packages, where it is one of Debian's family."""
    if shutil.which("dpkg-query") is None:
        return
    command = ["dpkg-query", "--show", "--showformat", "${Package} ${Version} ${Architecture}\n"]
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        name, version, architecture = line.split()
        yield _component(name, version, f"pkg:deb/debian/{name}@{version}?arch={architecture}")


def _component(name: str, version: str, purl: str) -> Component:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def bill(name: str, version: str) -> dict[str, object]:
    """The bill of the image of that name and version, as the JSON of CycloneDX 1.6."""
    found = {component["purl"]: component for component in (*python_components(), *debian_components())}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name, "version": version}},
        "components": [found[purl] for purl in sorted(found)],
    }


if __name__ == "__main__":
    json.dump(bill(*sys.argv[1:]), sys.stdout, indent=1)
