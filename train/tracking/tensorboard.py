"""TensorBoard's events, in the run's folder."""

import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..progress import Drawn, Published
from .tracker import Measured, Status


def is_installed() -> bool:
    """Whether TensorBoard is here; an image of one's own for a cluster's jobs need not have it."""
    return importlib.util.find_spec("tensorboard") is not None


class TensorBoard:
    """Scalars for `tensorboard --logdir runs`. Written without TensorFlow, whose devices are the workers'."""

    name = "tensorboard"

    def __init__(self, folder: Path) -> None:
        """Args: folder: to write events into; it need not exist."""
        self._folder = folder

    def open(self) -> str:
        """Begin a file of events."""
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(self._folder))
        return ""

    def log(self, events: Sequence[Measured]) -> None:
        """Write figures as scalars."""
        for event in events:
            self._writer.add_event(_event_of(event))
        self._writer.flush()

    def picture(self, event: Drawn) -> None:
        """Do nothing: pictures lie in the run's folder."""

    def published(self, event: Published) -> None:
        """Do nothing."""

    def close(self, status: Status) -> None:
        """Close the file."""
        self._writer.close()


def _event_of(event: Measured) -> Any:
    from tensorboard.compat.proto import event_pb2, summary_pb2

    values = [summary_pb2.Summary.Value(tag=name, simple_value=value) for name, value in event.figures.items()]
    return event_pb2.Event(wall_time=time.time(), step=event.step, summary=summary_pb2.Summary(value=values))
