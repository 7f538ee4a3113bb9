"""What a start without model flags serves: the models in a folder."""

from pathlib import Path


def model_names(folder: Path) -> list[str]:
    """The models in `folder`: the folders that have version folders."""
    if not folder.is_dir():
        return []
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() and any(child.name.isdecimal() and child.is_dir() for child in path.iterdir())
    )
