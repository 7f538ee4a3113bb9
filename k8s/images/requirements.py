"""Print what the project of ./pyproject.toml needs, with the extras named, a requirement a line.

The Dockerfiles install it before they copy any source, so that a change of the code rebuilds no dependency.
"""

import re
import sys
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]

wanted = [*project["dependencies"]]
extras = sys.argv[1:]
while extras:
    for line in project["optional-dependencies"][extras.pop()]:
        if own := re.fullmatch(rf"{project['name']}\[(.*)\]", line):
            extras += own[1].split(",")
        else:
            wanted.append(line)
print(*wanted, sep="\n")
