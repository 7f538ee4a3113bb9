"""What a run tells while it goes on, and the display of it: live on a terminal, plain lines anywhere else.

Everything that happens is an `Event`, and whoever wants to know takes events: the display here, the trackers of
`train/tracking/`.
"""

import sys
import time
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

PLAIN_INTERVAL_S = 15.0  # between two plain lines


@dataclass(frozen=True, slots=True)
class Advance:
    """Steps were taken."""

    step: int
    total_steps: int
    epoch: float  # epochs done, with the fraction
    epochs: int
    images_per_s: float  # over all replicas
    loss: float  # nats
    accuracy: float  # on augmented training images, 0 to 1
    learning_rate: float
    seconds_left: float

    @property
    def figures(self) -> dict[str, float]:
        """What `metrics.jsonl` has of it."""
        return {
            "loss": self.loss,
            "accuracy": self.accuracy,
            "learning_rate": self.learning_rate,
            "images_per_s": round(self.images_per_s, 1),
        }


@dataclass(frozen=True, slots=True)
class Validated:
    """An epoch is over, and the averaged weights were measured on the held-out training images."""

    step: int
    epoch: int  # which one, from 1
    epochs: int
    training_loss: float  # nats, of the last steps
    loss: float  # nats
    accuracy: float  # 0 to 1

    @property
    def figures(self) -> dict[str, float]:
        """What `metrics.jsonl` has of it."""
        return {"validation_loss": self.loss, "validation_accuracy": self.accuracy}


@dataclass(frozen=True, slots=True)
class Logged:
    """A line of another process' `metrics.jsonl`."""

    step: int
    figures: dict[str, float]


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint was written."""

    step: int
    seconds: float  # that it took


@dataclass(frozen=True, slots=True)
class Tested:
    """The finished model was measured on the test set."""

    step: int
    figures: dict[str, float]  # `test_accuracy` and the like


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture was written into the run's folder."""

    name: str  # of the file
    content: bytes  # of a PNG file


@dataclass(frozen=True, slots=True)
class Published:
    """The model was published as a version."""

    model_name: str
    place: str  # the version's folder or URI, which ends in its number

    @property
    def version(self) -> int:
        """The version's number in the model repository."""
        return int(self.place.rpartition("/")[2])


@dataclass(frozen=True, slots=True)
class Message:
    """Something worth a line of its own."""

    text: str


Event = Advance | Validated | Logged | Saved | Tested | Drawn | Published | Message


class Display:
    """Shows events on stderr; a context manager. `show` is its only other method."""

    def __init__(self, console: Console | None = None, *, bar: bool = True) -> None:
        """Args: bar: show how far one run has come; without, lines alone."""
        self._has_bar = bar
        self.console = console or Console(file=sys.stderr, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            console=self.console,
            expand=True,
        )
        self._task = self._bar.add_task("starting", total=None)
        self._figures = Text(style="dim")
        self._live = Live(Group(self._bar, self._figures), console=self.console, transient=True, refresh_per_second=4)
        self._last_line = -PLAIN_INTERVAL_S

    def __enter__(self) -> "Display":
        if self.console.is_terminal and self._has_bar:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live.is_started:
            self._live.stop()

    def show(self, event: Event) -> None:
        """Show one event, from any thread."""
        if isinstance(event, Message):
            self.console.print(event.text, markup=False, soft_wrap=True)
        elif isinstance(event, Validated):
            self.console.print(describe_epoch(event), markup=False, soft_wrap=True)
        elif not isinstance(event, Advance):
            return  # of what comes after training the command prints the result
        elif self._live.is_started:
            epoch = min(int(event.epoch) + 1, event.epochs)
            self._bar.update(
                self._task,
                description=f"epoch {epoch}/{event.epochs}",
                completed=event.step,
                total=event.total_steps,
            )
            self._figures.plain = describe(event)
        elif time.monotonic() - self._last_line >= PLAIN_INTERVAL_S or event.step >= event.total_steps:
            self._last_line = time.monotonic()
            self.console.print(f"epoch {event.epoch:.1f}/{event.epochs}  {describe(event)}", soft_wrap=True)


def describe(event: Advance) -> str:
    """The figures of `event` in one line."""
    minutes, seconds = divmod(round(event.seconds_left), 60)
    return (
        f"step {event.step:,}/{event.total_steps:,}  {event.images_per_s:,.0f} images/s  loss {event.loss:.4f}  "
        f"training accuracy {event.accuracy:.2%}  learning rate {event.learning_rate:.1e}  {minutes}:{seconds:02d} left"
    )


def describe_epoch(event: Validated) -> str:
    """The figures of an epoch in one line."""
    return (
        f"epoch {event.epoch:>{len(str(event.epochs))}}/{event.epochs}  loss {event.training_loss:.4f}  "
        f"validation loss {event.loss:.4f}  validation accuracy {event.accuracy:.2%}"
    )
