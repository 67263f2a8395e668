"""`farpoint topics`: make the cluster's topics agree with our table, or show how they stand."""

from collections.abc import Mapping
from datetime import timedelta

import click

from farpoint.commands._setup import settings_and_log
from farpoint.console import print_json, print_table, printable
from farpoint.topics import topics_table


@click.group()
def topics() -> None:
    """Create or show the topics.

    How many partitions and copies, and what the names begin with, say FARPOINT_TOPICS__PARTITIONS,
    __REPLICATION_FACTOR and __DOMAIN.
    """


@topics.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object per topic and line.")
@click.pass_context
def apply(ctx: click.Context, as_json: bool) -> None:
    """Create what is missing, widen what is too narrow, bring settings in line.

    Doing it twice changes nothing. Partitions are never taken away, since Kafka cannot: where there are too many, or
    the cluster cannot give what is asked, the others are done all the same, and the exit status is 1.
    """
    settings = settings_and_log()
    # Imported here: `--help` answers without Kafka's client.
    from farpoint.kafka_clients import admin, kafka_errors
    from farpoint.topic_admin import apply_topics

    with kafka_errors(settings.kafka), admin(settings.kafka) as client:
        applied = apply_topics(client, topics_table(settings.topics, settings.media))
    for done in applied:
        if as_json:
            print_json({"topic": done.topic, "changes": done.changes, "problems": done.problems})
        elif not done.problems:
            click.echo(f"{done.topic}: {printable(', '.join(done.changes)) or 'unchanged'}")
        else:
            click.echo(printable(f"{done.topic}: {'; '.join([*done.changes, *done.problems])}"))
    failed = [done.topic for done in applied if done.problems]
    if failed:
        click.echo(f"farpoint: not as they should be: {', '.join(failed)}", err=True)
        ctx.exit(1)


@topics.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object per topic and line.")
def show(as_json: bool) -> None:
    """Show each topic as it is and what differs from how it should be."""
    settings = settings_and_log()
    from farpoint.kafka_clients import admin, kafka_errors
    from farpoint.topic_admin import record_counts, topic_statuses

    with kafka_errors(settings.kafka), admin(settings.kafka) as client:
        statuses = topic_statuses(client, topics_table(settings.topics, settings.media))
        records = record_counts(client, statuses)
    if as_json:
        for status in statuses:
            found = status.found
            print_json(
                {
                    "topic": status.wanted.name,
                    "exists": found is not None,
                    "partitions": found and found.partitions,
                    "replication_factor": found and found.replication_factor,
                    "records": records.get(status.wanted.name),
                    "config": found and dict(found.config),
                    "differences": status.differences,
                }
            )
        return
    print_table(
        ("topic", "partitions", "copies", "records", "kept", "state"),
        [
            (
                status.wanted.name,
                status.found and status.found.partitions,
                status.found and status.found.replication_factor,
                records.get(status.wanted.name),
                _kept(status.found.config) if status.found else None,
                "; ".join(status.differences) or "as it should be",
            )
            for status in statuses
        ],
    )


def _kept(config: Mapping[str, str]) -> str:
    if config.get("cleanup.policy") == "compact":
        return "last of each key"
    milliseconds = int(config.get("retention.ms", -1))
    kept = "for ever" if milliseconds < 0 else _days(timedelta(milliseconds=milliseconds))
    limit = int(config.get("retention.bytes", -1))
    return kept if limit < 0 else f"{kept}, {limit / 2**30:g} GB a partition"


def _days(kept: timedelta) -> str:
    hours = kept / timedelta(hours=1)
    return f"{hours:g} h" if hours < 48 else f"{hours / 24:g} days"
