"""`farpoint dead-letters`: look at them, and send them back once their cause is mended."""

import click

from farpoint.commands._setup import settings_and_log
from farpoint.console import print_json, print_table, printable
from farpoint.settings import Settings
from farpoint.topics import DLQ_SUFFIX, TopicNames

_NEWEST = 20

_topic = click.option(
    "--topic", metavar="T", help="Only those of this topic, such as vision.frames.v1. Default: of all."
)


@click.group()
def dead_letters() -> None:
    """Look at dead letters, or send them back.

    A record that cannot be processed, whatever one does, lies in <topic>.dlq as it came, with headers that say why.
    """


@dead_letters.command()
@_topic
@click.option(
    "--max-records", type=click.IntRange(1), default=_NEWEST, show_default=True, metavar="N", help="The newest N."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per dead letter and line.")
def show(topic: str | None, max_records: int, as_json: bool) -> None:
    """Show the newest dead letters: where each came from, why it failed, and whether it was sent back."""
    settings = settings_and_log()
    # Imported here: `--help` answers without Kafka's client.
    from farpoint.dead_letters import newest_dead_letters, replayed_up_to, was_replayed
    from farpoint.topic_reader import TopicReader

    topics = [name + DLQ_SUFFIX for name in _topics(settings, topic)]
    with TopicReader(settings.kafka, topics) as reader:
        letters = newest_dead_letters(reader, max_records)
    replayed = replayed_up_to(settings.kafka) if letters else {}
    if as_json:
        for letter in letters:
            ref = letter.record.ref
            print_json(
                {
                    "topic": letter.topic,
                    "partition": letter.partition,
                    "offset": letter.offset,
                    "reason": letter.reason,
                    "message": letter.message,
                    "failed_at": letter.failed_at,
                    "key": _text(letter.record.key),
                    "size": letter.size,
                    "headers": {name: _text(value) for name, value in letter.original_headers},
                    "dead_letter": {"topic": ref.topic, "partition": ref.partition, "offset": ref.offset},
                    "replayed": was_replayed(letter, replayed),
                }
            )
        return
    if not letters:
        click.echo("no dead letters", err=True)
        return
    print_table(
        ("failed at", "topic", "partition", "offset", "reason", "key", "bytes", "replayed", "message"),
        [
            (
                letter.failed_at[:40],
                letter.topic and letter.topic[:249],
                letter.partition,
                letter.offset,
                letter.reason[:60],
                None if letter.record.key is None else printable(_text(letter.record.key) or "", 40),
                letter.size,
                "yes" if was_replayed(letter, replayed) else "no",
                letter.message[:300],
            )
            for letter in letters
        ],
    )


@dead_letters.command()
@_topic
@click.option("--max-records", type=click.IntRange(1), metavar="N", help="Take at most N. Default: all.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object at the end.")
@click.pass_context
def replay(ctx: click.Context, topic: str | None, max_records: int | None, as_json: bool) -> None:
    """Send dead letters back to the topic and partition they came from, oldest first, each once.

    Key, value and headers are the original ones. Kafka keeps how far this got, under the group
    <group_id>-dead-letters-replay, so a second run goes on behind the first; a cluster forgets the place of a group
    that was not used for its offsets.retention.minutes, by default a week. The dead letters themselves stay.
    """
    settings = settings_and_log()
    from farpoint import dead_letters as letters

    inputs = TopicNames(settings.topics.domain).inputs
    done = letters.replay(
        settings.kafka, settings.media, inputs, topics=_topics(settings, topic), max_records=max_records
    )
    if as_json:
        print_json({"sent": done.sent, "refused": len(done.refused)})
    else:
        click.echo(f"{done.sent} dead letters sent back" if done.sent != 1 else "1 dead letter sent back")
    if done.refused:
        first = done.refused[0]
        ref = first.record.ref
        click.echo(
            f"farpoint: {len(done.refused)} passed over, because their dlq.topic is none of {', '.join(inputs)}: the "
            f"first is {ref.topic} partition {ref.partition} offset {ref.offset}, {first.topic!a}",
            err=True,
        )
        ctx.exit(1)


def _topics(settings: Settings, topic: str | None) -> list[str]:
    inputs = TopicNames(settings.topics.domain).inputs
    if topic is None:
        return list(inputs)
    name = topic.removesuffix(DLQ_SUFFIX)
    if name not in inputs:
        raise click.BadParameter(f"{topic!a} is none of {', '.join(inputs)}", param_hint="--topic")
    return [name]


def _text(raw: bytes | None) -> str | None:
    # A key or header may be the very thing that is broken: what is not UTF-8 shows as escapes.
    return None if raw is None else raw.decode(errors="backslashreplace")
