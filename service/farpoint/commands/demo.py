"""`farpoint demo`: the whole product on one machine, on real video."""

import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from farpoint.commands._setup import settings_and_log

_SAY_EVERY_SECONDS = 5.0


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("farpoint-demo"),
    show_default=True,
    help="Folder for the alerts' pictures, the contact sheet and the worker's log; a new one in it for each run.",
)
@click.option("--keep", is_flag=True, help="Leave all running at the end, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print alerts and summary as JSON, one object a line.")
def demo(output: Path, keep: bool, as_json: bool) -> None:
    """Run the whole product on one machine, on real video, and end with a summary.

    Starts a Kafka and a worker of its own, publishes three cameras, each a real clip looped with the variation of a
    real camera, plants a few frames of the other clips in one, and prints every alert as it comes. Everything it
    started is gone afterwards. Takes about a minute; the first time longer, since Kafka is downloaded.
    """
    settings = settings_and_log()
    # Imported here: `--help` answers without them.
    from farpoint.console import print_json, printable
    from farpoint.demo.run import Demo
    from farpoint.errors import FarpointError
    from farpoint.progress import progress
    from farpoint.wire import OutlierAlert

    signal.signal(signal.SIGTERM, _exit_in_order)
    folder = output / time.strftime("%Y-%m-%dT%H-%M-%S")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise FarpointError(
            f"cannot make the folder {folder}: {error.strerror}; choose another with --output"
        ) from None
    console = Console(file=sys.stderr)

    def say(line: str) -> None:
        console.print(line, style="dim", highlight=False)

    def on_alert(alert: OutlierAlert, picture: Path | None) -> None:
        if as_json:
            print_json({"alert": alert.id, "outlier_score": alert.outlier_score, "picture": str(picture)})
            return
        near = alert.nearest_clusters[0] if alert.nearest_clusters else None
        near_text = f"  {near.distance:.2f} from cluster {near.cluster_id}" if near else ""
        click.echo(
            f"ALERT  {printable(alert.source)}  frame {printable(alert.id).rpartition('/')[2]}  "
            f"score {alert.outlier_score:.3f}  p {alert.p_value:.2g}{near_text}  {picture}"
        )

    with Demo(settings, folder, say, on_alert) as running:
        with progress("frames decided", console=console) as update:
            said = time.monotonic()

            def on_progress(done: int, total: int) -> None:
                nonlocal said
                update(done, total)
                if not console.is_terminal and time.monotonic() - said > _SAY_EVERY_SECONDS:
                    said = time.monotonic()
                    say(f"{done} of {total} frames decided")

            summary = running.play(on_progress)
        if as_json:
            print_json(summary.as_json())
        else:
            share = summary.other_alerts / max(1, summary.published)
            first = summary.seconds_to_first_alert
            click.echo(
                f"\n"
                f"frames      {summary.published} published, {summary.embedded} embedded, {summary.assigned} assigned\n"
                f"clusters    {summary.clusters} in {summary.detectors} detectors, one for each camera\n"
                f"planted     {summary.planted_found} of {summary.planted} outliers found\n"
                f"others      {summary.other_alerts} alerts besides ({share:.2%} of frames)\n"
                f"speed       {summary.frames_per_second:.0f} frames per second"
                + (f", first alert after {first:.0f} s\n" if first is not None else "\n")
                + f"pictures    {folder / 'alerts'}\n"
                f"contact     {summary.contact_sheet}"
            )
        if keep:
            kafka, http = running.settings.kafka, running.settings.http
            click.echo(
                f"\nstill running until Ctrl-C:\n"
                f"Kafka       FARPOINT_KAFKA__BOOTSTRAP_SERVERS={kafka.bootstrap_servers}\n"
                f"health      http://{http.host}:{http.port}/readyz\n"
                f"metrics     http://{http.host}:{http.port}/metrics"
            )
            threading.Event().wait()
    if not summary.ok:
        raise FarpointError(f"the demo did not go as it should; the worker's log is {folder / 'worker.log'}")


def _exit_in_order(signum: int, frame: Any) -> None:
    del frame
    signal.signal(signum, signal.SIG_IGN)  # ending has begun; asking again does not hurry it
    sys.exit(143)
