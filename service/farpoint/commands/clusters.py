"""`farpoint clusters`: what is normal right now."""

import click

from farpoint.commands._setup import settings_and_log
from farpoint.console import print_json, print_table
from farpoint.topics import TopicNames


@click.command()
@click.option("--detector", metavar="D", help="Only this detector. Default: all of them.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per cluster and line, with its exemplars.")
def clusters(detector: str | None, as_json: bool) -> None:
    """Print the live clusters, largest first: id, label, size, last seen.

    They are read from the detectors' checkpoints, so they are as old as the last of these. The size counts vectors,
    older ones weighing less; the label names the item nearest to the centroid.
    """
    settings = settings_and_log()
    # Imported here: `--help` answers without Kafka's client.
    from farpoint.checkpoint import load_checkpoints
    from farpoint.errors import FarpointError

    checkpoints = load_checkpoints(settings.kafka, TopicNames(settings.topics.domain).detector_state)
    if detector is not None and detector not in {checkpoint.detector for checkpoint in checkpoints.values()}:
        raise FarpointError(f"there is no checkpoint of a detector {detector!a}")
    live = sorted(
        (
            (checkpoint.detector, note)
            for checkpoint in checkpoints.values()
            if detector in (None, checkpoint.detector)
            for note in checkpoint.clusters
        ),
        key=lambda row: (row[0], -row[1].size, row[1].cluster_id),
    )
    if as_json:
        for name, note in live:
            print_json(
                {
                    "detector": name,
                    "cluster_id": note.cluster_id,
                    "label": note.label,
                    "size": note.size,
                    "last_seen": note.last_seen,
                    "exemplars": note.exemplars,
                }
            )
        return
    if not live:
        click.echo("no clusters yet: no detector has warmed up and written a checkpoint", err=True)
        return
    print_table(
        ("detector", "id", "size", "last seen", "label"),
        [(name, note.cluster_id, note.size, note.last_seen, note.label) for name, note in live],
    )
