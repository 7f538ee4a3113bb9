"""What a person sees while a run goes on: a live display on a terminal, plain lines anywhere else."""

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


@dataclass(frozen=True, slots=True)
class Message:
    """Something worth a line of its own."""

    text: str


Event = Advance | Message


class Display:
    """Shows events on stderr; a context manager. `show` is its only other method."""

    def __init__(self, console: Console | None = None) -> None:
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
        if self.console.is_terminal:
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
