"""A progress bar on stderr, shown only on a terminal: results on stdout and logs in files stay clean."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

Update = Callable[[int, int | None], None]


class _RateColumn(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {self._unit}/s", style="progress.data.speed")


@contextmanager
def progress(description: str, unit: str = "frames", console: Console | None = None) -> Iterator[Update]:
    """Show how far something is, and how fast it goes.

    Parameters
    ----------
    description
        What is being done, such as `publishing`.
    unit
        What is counted.
    console
        Where to show it; default: stderr.

    Yields
    ------
    callable
        To be called with how many are done and how many there will be (None where nobody knows).

    Examples
    --------
    >>> with progress("counting") as update:
    ...     for done in range(3):
    ...         update(done + 1, 3)
    """
    console = console or Console(file=sys.stderr)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(unit),
        TimeElapsedColumn(),
    )
    # transient: what remains on the screen is the command's result.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=None)

        def update(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        yield update
