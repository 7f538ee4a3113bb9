"""`python -m train sweep`: flags in, trials, and the table out."""

import argparse
import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import tyro

from .. import config as configs
from .. import data, quiet
from ..config import TrainConfig
from ..progress import Display, Message
from ..tracking.trackers import check_installed
from . import effects, table
from . import sweep as sweeps
from .space import parse
from .sweep import State, Sweep, SweepConfig

HELP = """Train many settings on Ray Tune, and compare them on training images that are held out.

    python -m train sweep --over learning_rate=log:1e-3:1e-2 --over shift_px=0:4 --trials 20
    python -m train sweep --over policy=none,digits --over dropout=0.2x0.3,0.3x0.5 --seeds 3
    python -m train sweep --resume NAME               go on with a sweep that was stopped
    python -m train sweep --resume NAME --trials 40   go on, with more of them
    python -m train --resume NAME-007                 finish one of its runs: test set, report, published model

What --over takes:

    FIELD=A,B,C         one of these values; 32x32x64x64 is one of four numbers
    FIELD=LOW:HIGH      a number between the two; of whole numbers, either of them too
    FIELD=log:LOW:HIGH  the same, evenly on a logarithmic scale
    policy=none,digits  one of the augmentation's policies, whole

All other settings are flags, as of `python -m train`, and the same for all trials."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepFlags:
    """All flags of a sweep."""

    sweep: SweepConfig
    train: TrainConfig


def flags_of(arguments: Sequence[str]) -> SweepFlags:
    """The flags of a sweep, with its name filled in.

    Raises: ValueError if they make no sense; SystemExit as tyro does, for --help above all.
    """
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--recipe", choices=configs.RECIPES)
    early.add_argument("--policy", choices=configs.POLICIES)
    early.add_argument("--address", default=os.environ.get("RAY_ADDRESS", "local"))
    known, _ = early.parse_known_args(arguments)
    base = dataclasses.replace(configs.RECIPES[known.recipe or "quick"](), onednn=quiet.trains_by_onednn())
    if known.address == "local" and quiet.trains_in_bfloat16():
        base = dataclasses.replace(base, precision="bfloat16")
    if known.policy:
        base = dataclasses.replace(base, augmentation=configs.POLICIES[known.policy])
    flags = tyro.cli(
        tyro.conf.OmitArgPrefixes[SweepFlags],
        args=list(arguments),
        default=SweepFlags(sweep=SweepConfig(address=known.address), train=base),
        prog=f"{configs.program()} sweep",
        description=HELP.replace("python -m train", configs.program()),
    )
    ours = flags.sweep
    if ours.resume and (ours.over or ours.data or known.recipe or flags.train != base):
        raise ValueError("--resume goes on with the sweep's own settings and data; leave the flags for these out")
    name = ours.resume or ours.name or f"sweep-{datetime.now():%Y%m%d-%H%M%S}"
    return dataclasses.replace(flags, sweep=dataclasses.replace(ours, name=name))


def run(arguments: Sequence[str]) -> None:
    """Sweep, and print the table.

    Raises: KeyboardInterrupt, after saying how to go on; what `sweep.begin` and `trials.train_all` raise.
    """
    flags = flags_of(arguments)
    check_installed(flags.sweep.track)
    if not flags.sweep.resume:
        parse(flags.sweep.over, flags.train)  # before the data are read
    begun = None
    with Display(bar=False) as display:
        try:
            begun = sweeps.begin(flags.train, flags.sweep, display.show)
            dataset = data.load(begun.config.data, begun.config)
            sweeps.check_data(begun, dataset.checksum())
            for note in dataset.notes:
                display.show(Message(f"{dataset.source}: {note}"))
            display.show(Message(_first_line(begun)))
            quiet.import_tensorflow(onednn=begun.base.onednn, verbose=flags.sweep.verbose)
            from . import trials  # with Ray, seconds that --help and a mistake need not cost

            trials.train_all(begun, dataset, display.show)
        except KeyboardInterrupt:
            told = f"stopped; go on with: {flags.sweep.resume_command()}" if begun else "stopped before it began"
            display.show(Message(told))
            raise
    _conclude(begun)


def _first_line(sweep: Sweep) -> str:
    each = sweep.trials()
    names = ", ".join(each[0].values)
    return f"sweep {sweep.folder.name}: {len(each)} runs over {names}, files in {sweep.folder}/"


def _conclude(sweep: Sweep) -> None:
    states = sweeps.states(sweep)
    found = table.rows(states)
    table.write(sweep, states)
    print(table.text(found))
    if not any(state.epochs for state in states):
        raise RuntimeError(f"no trial has finished an epoch; the first one says: {_why(states)}")
    from . import picture

    space = parse(sweep.config.over, sweep.base)
    sweep.folder.write("parallel_coordinates.png", picture.parallel_coordinates(found, space, sweep.folder.name))
    if moved := effects.effects(states, space):
        print(f"\n{effects.text(moved, sum(state.status == 'done' for state in states))}")
    best = found[0].states[0].trial.run
    elsewhere = f" --storage {sweep.config.storage}" if sweep.config.storage != SweepConfig().storage else ""
    print(f"\ntable    {sweep.folder}/table.csv")
    print(f"best     {best}; test, report and publish it: {configs.program()} --resume {best}{elsewhere}")


def _why(states: Sequence[State]) -> str:
    return next((state.why for state in states if state.why), "nothing")
