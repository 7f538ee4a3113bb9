"""Builds the wheels of the three distributions from what git knows of, so that nothing is left in the working tree."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def tracked(package: str) -> list[str]:
    """The files of `package` in the working tree, relative to its folder; not those that git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "."]
    found = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT / package).stdout
    return sorted(name for name in set(found.split("\0")) if name and (ROOT / package / name).exists())


def copy_source(package: str, target: Path) -> Path:
    """A copy of the folder of `package` in `target`."""
    for name in tracked(package):
        (target / package / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / package / name, target / package / name)
    return target / package


def build(package: str, target: Path) -> Path:
    """The wheel of `package`, built in `target` with the setuptools of this environment, without a network."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(target)]
    done = subprocess.run([*command, str(copy_source(package, target))], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = target.glob("*.whl")
    return wheel
