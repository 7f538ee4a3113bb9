"""Make `docs/leaderboard.md` of what runs have measured: their `report.json`, and `config.json` beside it.

    python -m tools.leaderboard runs -o docs/leaderboard.md             all runs in a folder
    python -m tools.leaderboard runs/a runs/b -o docs/leaderboard.md    these runs
    python -m tools.leaderboard runs                                    print the page

Runs that differ in their seed alone are one entry, with the standard error of its mean. A run enters if it was trained
on the MNIST that comes with Inkling.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inkling.train import data
from inkling.train.config import POLICIES, RECIPES, Augmentation, TrainConfig

GOAL = 0.995  # test accuracy, the mean over an entry's seeds, that counts for the first table
NEEDED = ("hardware", "timed_steps", "parameters")  # reports of earlier versions have none

HEAD = """# Leaderboard

What runs of `python -m train` on MNIST have measured, made of their `report.json` by
`python -m tools.leaderboard RUNS -o docs/leaderboard.md`. An entry is a setting on a machine; ± is the standard error
of the mean over its seeds, and – stands where there is one seed. What was measured before reports had what this takes
is in [Figures](figures.md).
"""

ENTER = """## How to enter

1. Train with at least three seeds on a quiet machine, from a commit without changes:
   `for seed in 0 1 2; do python -m train --seed $seed --name mine-$seed --no-publish; done`, with your flags.
2. `python -m tools.leaderboard RUNS... -o docs/leaderboard.md`, with the folders of all runs that are to be on the
   page: it is written anew.
3. Propose the change of the page, with the runs' `report.json` and `config.json`.

Seconds are those of training steps, compilation among them, without validation, checkpoints and the test set; runs that
went on from a checkpoint have none. Choose settings by the images that are held out of the training set
(`python -m train sweep`), never by the test set.
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run's settings and figures."""

    config: TrainConfig
    report: dict[str, Any]

    @property
    def is_timed(self) -> bool:
        """Whether its seconds are those of all its steps."""
        return bool(self.report["timed_steps"] == self.report["step"])


@dataclass(frozen=True, slots=True)
class Entry:
    """Runs that differ in their seed alone."""

    runs: Sequence[Measured]

    @property
    def first(self) -> Measured:
        """Any of them."""
        return self.runs[0]

    @property
    def accuracies(self) -> list[float]:
        """On the test set, 0 to 1, of each run."""
        return [run.report["test"]["accuracy"] for run in self.runs]

    @property
    def seconds(self) -> list[float]:
        """Of training, of each run that was timed whole."""
        return [run.report["training_seconds"] for run in self.runs if run.is_timed]

    @property
    def images_per_s(self) -> list[float]:
        """Of each run that took a step."""
        return [
            run.report["timed_steps"] * run.config.global_batch_size / run.report["training_seconds"]
            for run in self.runs
            if run.report["timed_steps"]
        ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write or print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs, or folders that hold these")
    parser.add_argument("-o", "--output", type=Path, help="file to write; printed if not given")
    flags = parser.parse_args(arguments)
    found = page(entries(measured(flags.runs)))
    if flags.output:
        flags.output.write_text(found)
    else:
        print(found, end="")


def measured(folders: Sequence[Path]) -> list[Measured]:
    """The runs on MNIST in these folders; says on stderr which are left out, and why."""
    mnist = data.load().checksum()
    found = []
    for path in sorted({path for folder in folders for path in _reports(folder)}):
        report = json.loads(path.read_text())
        settings = json.loads((path.parent / "config.json").read_text())
        if why := _why_not(report, settings, mnist):
            print(f"{path.parent} is left out: {why}", file=sys.stderr)
        else:
            found.append(Measured(TrainConfig.from_json(settings["train"]), report))
    return found


def _reports(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise SystemExit(f"{folder} is no folder; give folders of runs, or a folder such as runs/ that holds them")
    yield from folder.glob("report.json")
    yield from folder.glob("*/report.json")


def _why_not(report: dict[str, Any], settings: dict[str, Any], mnist: str) -> str:
    if settings["job"]["data_sha256"] != mnist:
        return "it was trained on other data than Inkling's MNIST"
    missing = [name for name in NEEDED if name not in report]
    return f"its report.json has no {missing[0]}: an earlier version wrote it" if missing else ""


def entries(runs: Sequence[Measured]) -> list[Entry]:
    """The runs, those that differ in their seed alone together."""
    together: dict[Any, list[Measured]] = {}
    for run in runs:
        settings = dataclasses.replace(run.config, seed=0)
        together.setdefault((settings, run.report["hardware"], run.report["git_revision"]), []).append(run)
    return [Entry(sorted(group, key=lambda run: run.config.seed)) for group in together.values()]


def page(found: Sequence[Entry]) -> str:
    """The whole page, as Markdown."""
    fast = [entry for entry in found if np.mean(entry.accuracies) >= GOAL and entry.seconds]
    timed = [entry for entry in found if entry.images_per_s]
    tables = [
        _table(
            f"Seconds to {100 * GOAL:g} %",
            f"Settings whose mean on the test set is {100 * GOAL:g} % or more, the fastest first.",
            ["seconds", "hardware", "accuracy"],
            [[_mean(e.seconds, "{:.1f}"), e.first.report["hardware"], _accuracy(e)] for e in _by(fast, "seconds")],
            _by(fast, "seconds"),
        ),
        _table(
            "Images per second",
            "While training, over all replicas.",
            ["images/s", "hardware", "parameters", "precision"],
            [
                [
                    _mean(e.images_per_s, "{:,.0f}"),
                    e.first.report["hardware"],
                    f"{e.first.report['parameters']:,}",
                    e.first.config.precision,
                ]
                for e in reversed(_by(timed, "images_per_s"))
            ],
            list(reversed(_by(timed, "images_per_s"))),
        ),
        _table(
            "Accuracy by parameters",
            "On the 10,000 test images.",
            ["parameters", "accuracy", "errors"],
            [
                [
                    f"{e.first.report['parameters']:,}",
                    _accuracy(e),
                    f"{(1 - np.mean(e.accuracies)) * e.first.report['test']['num_examples']:.1f}",
                ]
                for e in _by_parameters(found)
            ],
            _by_parameters(found),
        ),
    ]
    return "\n".join([HEAD, *tables, ENTER])


def _by(found: Sequence[Entry], figure: str) -> list[Entry]:
    return sorted(found, key=lambda entry: float(np.mean(getattr(entry, figure))))


def _by_parameters(found: Sequence[Entry]) -> list[Entry]:
    return sorted(found, key=lambda entry: (entry.first.report["parameters"], -np.mean(entry.accuracies)))


def _table(title: str, what: str, head: list[str], rows: list[list[str]], found: Sequence[Entry]) -> str:
    if not found:
        return f"## {title}\n\n{what} No entry yet.\n"
    head = [*head, "command", "seeds", "commit"]
    lines = [[*row, *_origin(entry)] for row, entry in zip(rows, found, strict=True)]
    shown = ["| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines]]
    return f"## {title}\n\n{what}\n\n" + "\n".join(shown) + "\n"


def _origin(entry: Entry) -> list[str]:
    seeds = ", ".join(str(run.config.seed) for run in entry.runs)
    return [f"`{command(entry.first.config)}`", seeds, str(entry.first.report["git_revision"] or "unknown")[:12]]


def _accuracy(entry: Entry) -> str:
    return _mean([100 * accuracy for accuracy in entry.accuracies], "{:.3f}") + " %"


def _mean(values: Sequence[float], form: str) -> str:
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else None
    return f"{form.format(np.mean(values))} ± {'–' if error is None else form.format(error)}"


def command(config: TrainConfig) -> str:
    """What to type for such a run, but for its seed."""
    base = RECIPES[config.recipe]()
    policy = config.augmentation.policy
    words = ["python -m train"] + ([f"--recipe {config.recipe}"] if config.recipe != TrainConfig().recipe else [])
    start = base.augmentation
    if policy != start.policy:
        words.append(f"--policy {policy}")
        start = POLICIES[policy]
    words += _flags(config, base, skip=("recipe", "seed", "augmentation"))
    return " ".join([*words, *_flags(config.augmentation, start, skip=("policy",))])


def _flags(settings: TrainConfig | Augmentation, base: TrainConfig | Augmentation, *, skip: Sequence[str]) -> list[str]:
    """The flags of the fields in which `settings` differ from `base`."""
    names = [field.name for field in dataclasses.fields(settings) if field.name not in skip]
    changed = {name: getattr(settings, name) for name in names if getattr(settings, name) != getattr(base, name)}
    return [_flag(name, value) for name, value in changed.items()]


def _flag(name: str, value: Any) -> str:
    flag = name.replace("_", "-")
    if isinstance(value, bool) and name not in ("onednn", "jit_compile"):  # these two take a value, as they may be None
        return f"--{'' if value else 'no-'}{flag}"
    values = value if isinstance(value, tuple) else (value,)
    return " ".join([f"--{flag}", *(f"{one:g}" if isinstance(one, float) else str(one) for one in values)])


if __name__ == "__main__":
    main()
