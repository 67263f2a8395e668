"""`farpoint alerts`: outlier alerts as they lie in Kafka, a line each."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click

from farpoint.commands._setup import settings_and_log
from farpoint.console import print_json, printable

_LAST = 20


@click.command()
@click.option("--from-beginning", is_flag=True, help=f"All that Kafka keeps. Default: the newest {_LAST}.")
@click.option("--follow", is_flag=True, help="Then go on with new ones as they come, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="The whole event, picture included, as one JSON line.")
@click.option(
    "--max-records",
    type=click.IntRange(1),
    metavar="N",
    help="End after N alerts: the newest N, or the oldest with --from-beginning.",
)
@click.option(
    "--save",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Also write the pictures into this folder, as JPEG named by time and id.",
)
def alerts(from_beginning: bool, follow: bool, as_json: bool, max_records: int | None, save: Path | None) -> None:
    """Print outlier alerts in order of time, each once: time, source, score, p-value, nearest cluster, subject.

    Work that was redone after a crash sends an alert again under the same id; it is shown once. The columns are
    separated by two spaces or more. With --follow, what comes late is printed as it comes.
    """
    settings = settings_and_log()
    # Imported here: `--help` answers without Kafka's client.
    from farpoint.alert_log import StoredAlert, read_alerts, save_picture
    from farpoint.topic_reader import TopicReader
    from farpoint.topics import TopicNames

    def found(reader: TopicReader) -> Iterator[StoredAlert]:
        return read_alerts(reader, last=None if from_beginning else max_records or _LAST, follow=follow)

    with TopicReader(settings.kafka, [TopicNames(settings.topics.domain).alerts]) as reader:
        for stored in islice(found(reader), max_records):
            if as_json:
                print_json(stored.event)
            else:
                click.echo(_line(stored.alert))
            if save is not None:
                save_picture(stored.alert, save)


def _line(alert: Any) -> str:
    nearest = alert.nearest_clusters[0] if alert.nearest_clusters else None
    where = f"{nearest.distance:.3f} from cluster {nearest.cluster_id}" if nearest else "no cluster"
    return "  ".join(
        (
            printable(alert.time, 40),
            f"{printable(alert.source, 60):<12}",
            f"score {alert.outlier_score:.3f}",
            f"p {alert.p_value:<8.3g}",
            f"{where:<25}",
            printable(alert.subject or "", 200),
        )
    ).rstrip()
