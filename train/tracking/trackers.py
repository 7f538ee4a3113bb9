"""Which trackers a run has, and events on their way to them."""

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from ..progress import Event, Message
from ..runs import Run
from ..storage import RunFolder
from . import tensorboard
from .feed import Feed
from .mlflow import MLflow, known_uri, remember
from .tensorboard import TensorBoard
from .traces import trace_of
from .tracker import Status, Tracker

CLOSE_S = 30.0  # for a tracker to take the last events of a finished run, its model among them
STOP_S = 5.0  # of one that was stopped: a person waits


def check_installed(track: str) -> None:
    """Raise ValueError if `--track` names a tracker whose client is not installed."""
    if track and importlib.util.find_spec("mlflow") is None:
        raise ValueError(
            f"--track {track} needs MLflow's client, which is not installed: pip install 'inkling-train[tracking]', or "
            "'./train[tracking]' in a checkout; or leave --track out"
        )


@contextmanager
def tracked(
    run: Run, emit: Callable[[Event], None], *, origin: Mapping[str, str], tensorboard: bool = True
) -> Iterator[Callable[[Event], None]]:
    """While the context lasts, what is emitted goes to `emit` and to the run's trackers.

    Args:
        emit: takes events for the display.
        origin: what the run was started from, for trackers to show: names and values.
        tensorboard: write TensorBoard's events, if the run's folder is on a disk.

    Yields: what takes events instead of `emit`.
    """
    trace = trace_of(run, os.environ, lambda line: emit(Message(line)))
    feeds = feeds_of(run, emit, origin, tensorboard=tensorboard)

    def fan_out(event: Event) -> None:
        emit(event)
        trace.put(event)
        for feed in feeds:
            feed.put(event)

    status: Status = "failed"
    try:
        yield fan_out
        status = "finished"
    except KeyboardInterrupt:
        status = "stopped"
        raise
    finally:
        trace.close(status)
        for feed in feeds:
            feed.close(status, timeout_s=CLOSE_S if status == "finished" else STOP_S)


def feeds_of(run: Run, emit: Callable[[Event], None], origin: Mapping[str, str], *, tensorboard: bool) -> list[Feed]:
    """What hands the run's events to each of its trackers; arguments as of `tracked`."""
    return [Feed(tracker, lambda line: emit(Message(line))) for tracker in _trackers(run, emit, origin, tensorboard)]


def _trackers(
    run: Run, emit: Callable[[Event], None], origin: Mapping[str, str], with_tensorboard: bool
) -> Iterator[Tracker]:
    if with_tensorboard and run.folder.local and tensorboard.is_installed():
        yield TensorBoard(run.folder.local / "tensorboard")
    track = run.job.track or _as_before(run.folder)
    if not track:
        return
    try:
        check_installed(track)
    except ValueError as error:  # only of a run that was tracked elsewhere: the command line was checked
        emit(Message(f"not tracked any more: {error}"))
        return
    uri = track.partition(":")[2]
    if run.job.track:
        remember(run.folder, uri)
    yield MLflow(uri, run, origin)


def _as_before(folder: RunFolder) -> str:
    """`--track` of a run that goes on, if it was tracked."""
    uri = known_uri(folder)
    return "" if uri is None else f"mlflow:{uri}"
