"""Print what extras of pyproject.toml need, one requirement a line: `python requirements.py serving`.

The Dockerfiles install it before they copy any source, so that a change of the code rebuilds no dependency.
"""

import sys
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]

wanted = [*project["dependencies"]]
for extra in sys.argv[1:]:
    wanted += project["optional-dependencies"][extra]
print(*(line for line in wanted if not line.startswith("inkling[")), sep="\n")
