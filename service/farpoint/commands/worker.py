"""`farpoint worker`: the service."""

import asyncio
import signal
import sys

import click
import structlog

from farpoint.commands._setup import settings_and_log
from farpoint.errors import FarpointError
from farpoint.settings import Settings, effective_settings

_STAGES = ("embed", "detect")


def _stages(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
    unknown = [name for name in names if name not in _STAGES]
    if unknown or not names:
        raise click.BadParameter(
            f"{', '.join(unknown) or 'none given'}; choose from {', '.join(_STAGES)}", context, parameter
        )
    return names


@click.command()
@click.option(
    "--stages",
    default=",".join(_STAGES),
    show_default=True,
    callback=_stages,
    help="Which stages to run here: `embed` turns pictures into vectors, `detect` decides about vectors.",
)
@click.option(
    "--rebuild-state",
    is_flag=True,
    help="Make the detectors' state anew from the embeddings log, as far as it was decided before, instead of "
    "restoring it: after damage to the checkpoints, or an upgrade that cannot read them.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="How many workers to start, stop and watch together, each with an HTTP port of its own: PORT, PORT + 1, ...",
)
def worker(stages: tuple[str, ...], rebuild_state: bool, processes: int) -> None:
    """Run the service until SIGTERM or Ctrl-C.

    Prints `worker ready` once the model is warm, partitions are assigned and the detectors' state is restored. On
    SIGTERM it finishes what it has taken in, saves its state and leaves the group. An unexpected error ends it with a
    stack trace and exit 1: let a supervisor restart it, nothing is lost. Start several to share the work.
    """
    if rebuild_state and "detect" not in stages:
        raise click.UsageError("--rebuild-state is for the stage `detect`, which is not among --stages")
    settings = settings_and_log()
    if processes > 1:
        sys.exit(_several(settings, processes, stages, rebuild_state))
    # Asked to stop before it has begun, there is nothing to finish. `run_worker` takes this over.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # Imported here: `--help` and a bad option answer without loading Faust.
    from farpoint.worker import run_worker

    log = structlog.get_logger(__name__)
    log.info("settings", **effective_settings(settings))
    try:
        asked_by = asyncio.run(run_worker(settings, stages, rebuild=rebuild_state))
    except ExceptionGroup as errors:
        expected, unexpected = errors.split(FarpointError)
        if unexpected is None and expected is not None:
            raise _first(expected) from None
        log.exception("the worker failed; Kafka will redeliver what was not done")
        sys.exit(1)
    if asked_by == signal.SIGINT:
        sys.exit(130)


def _several(settings: Settings, processes: int, stages: tuple[str, ...], rebuild_state: bool) -> int:
    from farpoint.worker_processes import run_processes, worker_commands

    arguments = ["--stages", ",".join(stages), *(["--rebuild-state"] if rebuild_state else [])]
    return run_processes(*worker_commands(settings, processes, arguments))


def _first(errors: ExceptionGroup[FarpointError]) -> FarpointError:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error
