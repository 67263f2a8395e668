"""`farpoint publish`: pictures, folders, videos, cameras and streams to Kafka."""

import json
import signal
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from farpoint.errors import FarpointError

if TYPE_CHECKING:
    from farpoint.publishing.publisher import Publisher

_LAST_ANSWERS_SECONDS = 10  # after Ctrl-C


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--source",
    metavar="ID",
    help="Source of everything published. Default: of a video its file name without extension, of a camera camera-0, "
    "of a stream its host and path, of pictures the name of their folder.",
)
@click.option(
    "--fps",
    type=click.FloatRange(0, min_open=True),
    metavar="N",
    help="Pictures a second of each source. Default: files as fast as Kafka takes them, cameras as they come.",
)
@click.option("--every", type=click.IntRange(1), default=1, metavar="N", help="Only each Nth frame of a video.")
@click.option(
    "--loop", is_flag=True, help="Start over until Ctrl-C, with the present as capture time; reopen lost streams."
)
@click.option(
    "--topic",
    type=click.Choice(["images", "frames"]),
    help="Where everything goes. Default: lone pictures to images, frames of videos and cameras to frames.",
)
@click.option(
    "--quality",
    type=click.IntRange(1, 100),
    default=90,
    show_default=True,
    metavar="Q",
    help="JPEG quality of frames; picture files are published byte for byte.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def publish(
    paths: tuple[str, ...],
    source: str | None,
    fps: float | None,
    every: int,
    loop: bool,
    topic: Any,
    quality: int,
    as_json: bool,
) -> int:
    """Publish pictures, folders, videos, cameras and streams.

    PATH is a picture or video file, a folder (all that is in it), a pattern in quotes ('night/*.jpg'), a camera
    (camera:0, /dev/video0) or an address (rtsp://, http://, ...). Sources are published at the same time.

    Ends when Kafka has acknowledged everything, and says how many. What cannot be read is named and makes exit 1; the
    rest is published all the same.
    """
    if source is not None and not 0 < len(source) <= 1024:
        raise click.BadParameter("1 to 1024 characters", param_hint="--source")
    # Imported here: `--help` answers without them.
    from farpoint.commands._setup import settings_and_log
    from farpoint.progress import progress
    from farpoint.publishing.media_feed import FeedOptions, MediaFeed
    from farpoint.publishing.media_sources import Unreadable, find_media
    from farpoint.publishing.publisher import Publisher

    settings = settings_and_log()
    result = _Result()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a container is stopped as with Ctrl-C
    publisher = Publisher(settings)
    feed = MediaFeed(publisher, settings.media, FeedOptions(fps, every, loop, topic, quality), result.fail)
    interrupted = False
    error: FarpointError | None = None
    try:
        with progress("publishing", "pictures") as update:
            found = find_media(paths, source)
            for one in found:
                if isinstance(one, Unreadable):
                    result.fail(one.name, one.reason)
            media = [one for one in found if not isinstance(one, Unreadable)]
            feed.run(media, lambda: update(publisher.acknowledged.total(), feed.expected))
            publisher.flush()
    except KeyboardInterrupt:
        interrupted = True
    except FarpointError as failure:
        error = failure
    finally:
        # A second Ctrl-C ends it at once.
        feed.stop()
        with suppress(FarpointError):
            publisher.close(_LAST_ANSWERS_SECONDS)
    result.add_unanswered(publisher)
    click.echo(result.as_json(publisher) if as_json else result.as_text(publisher))
    if error:
        raise error
    return 130 if interrupted else int(bool(result.failed))


class _Result:
    def __init__(self) -> None:
        self.failed: list[dict[str, str]] = []
        self._started = time.monotonic()

    def fail(self, name: str, reason: str) -> None:
        """Name what failed, at once."""
        self.failed.append({"path": name, "reason": reason})
        shown = name if name.isprintable() else ascii(name)  # a file name may hold what moves a terminal's cursor
        click.echo(f"farpoint: {shown}: {reason}", err=True)

    def add_unanswered(self, publisher: "Publisher") -> None:
        """Name what was sent and not acknowledged: once for each name, however many frames it was."""
        reasons = {lost.name: lost.reason for lost in publisher.lost}
        for name, count in Counter(lost.name for lost in publisher.lost).items():
            self.fail(name, f"{count} not acknowledged: {reasons[name]}")
        if publisher.in_flight:
            self.fail("Kafka", f"{publisher.in_flight} sent and not acknowledged when it was stopped")

    def as_text(self, publisher: "Publisher") -> str:
        counts = [f"{publisher.acknowledged[topic]} {topic}" for topic in ("frames", "images")]
        text = "published " + (", ".join(count for count in counts if not count.startswith("0 ")) or "nothing")
        return f"{text}; {len(self.failed)} failed" if self.failed else text

    def as_json(self, publisher: "Publisher") -> str:
        acknowledged = publisher.acknowledged
        return json.dumps(
            {
                "published": acknowledged.total(),
                "frames": acknowledged["frames"],
                "images": acknowledged["images"],
                "failed": self.failed,
                "seconds": round(time.monotonic() - self._started, 3),
            }
        )
