"""From media to a publisher: each source in a thread of its own, so that three cameras publish at once.

What shares a source goes one after another, in order. Times and ids of what comes from a file are a function of the
file (see `picture`); of live media, and where a recording plays the camera (`loop`), the time is that of reading.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from farpoint.publishing.media_sources import ImageFile, Medium, Video
from farpoint.publishing.pace import Pace
from farpoint.publishing.picture import MediaTopic, Picture, Recording, now, read_image
from farpoint.publishing.publisher import Publisher, RecordTooLargeError, check_size
from farpoint.publishing.video import Frame, UnreadableVideoError, VideoReader, encode_jpeg
from farpoint.settings import MediaSettings
from farpoint_models.errors import InvalidRecord

_RECORDINGS_AT_ONCE = 8
_RECONNECT_SECONDS = 2.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class FeedOptions:
    """How media are published.

    Attributes
    ----------
    fps
        Pictures a second of each source; None: recordings as fast as the broker takes them, cameras as they come.
    every
        Only each so many-th frame.
    loop
        Start over when all of a source is published; streams are opened again when they end.
    topic
        Where everything goes; None: pictures to `images`, frames to `frames`.
    quality
        Of the JPEGs that frames become, 1 to 100.
    """

    fps: float | None = None
    every: int = 1
    loop: bool = False
    topic: MediaTopic | None = None
    quality: int = 90


class MediaFeed:
    """Publish media, all sources at once.

    Parameters
    ----------
    publisher
        Where to.
    settings
        Bounds on what is taken in.
    options
        How.
    report
        Called with the name of what could not be published and the reason, once for each; from any thread.

    Attributes
    ----------
    expected
        How many pictures there will be, as far as is known by now; None: nobody knows.
    """

    def __init__(
        self,
        publisher: Publisher,
        settings: MediaSettings,
        options: FeedOptions,
        report: Callable[[str, str], None],
    ) -> None:
        self._publisher = publisher
        self._settings = settings
        self._options = options
        self._report = report
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        # One for each thread. `Thread.join` will not do: Python 3.11 and 3.12 take a thread for ended when a signal
        # interrupts the join (`_wait_for_tstate_lock`), and to leave with a thread inside OpenCV aborts the process.
        self._ended: list[threading.Event] = []
        self.expected: int | None = None if options.loop else 0

    def run(self, media: Sequence[Medium], tick: Callable[[], None] = lambda: None) -> None:
        """Publish until all is sent (not yet acknowledged: see `Publisher.flush`), calling `tick` now and then.

        Raises
        ------
        FarpointError
            Kafka went away or lacks the topic. What is wrong with a medium is reported instead.
        """
        sources: dict[str, list[Medium]] = {}
        for medium in media:
            sources.setdefault(medium.source, []).append(medium)
        waiting: queue.SimpleQueue[list[Medium]] = queue.SimpleQueue()
        recordings = 0
        for of_source in sources.values():
            if self._options.loop or any(isinstance(m, Video) and m.kind != "file" for m in of_source):
                self._start(self._play, of_source)  # without an end, so it cannot wait its turn
            else:
                waiting.put(of_source)
                recordings += 1
        for _ in range(min(recordings, _RECORDINGS_AT_ONCE)):
            self._start(self._play_waiting, waiting)
        for ended in self._ended:
            while not ended.wait(0.1):
                tick()
        if self._error:
            raise self._error

    def stop(self, timeout: float = 5) -> None:
        """End early; a thread that waits for a dead camera is left behind."""
        self._stop.set()
        deadline = time.monotonic() + timeout
        for ended in self._ended:
            ended.wait(max(0, deadline - time.monotonic()))

    def _start(self, play: Callable[..., None], *arguments: object) -> None:
        ended = threading.Event()

        def run() -> None:
            try:
                play(*arguments)
            except BaseException as error:
                self._error = self._error or error
                self._stop.set()
            finally:
                ended.set()

        self._ended.append(ended)
        threading.Thread(target=run, daemon=True).start()

    def _play_waiting(self, waiting: "queue.SimpleQueue[list[Medium]]") -> None:
        while not self._stop.is_set():
            try:
                self._play(waiting.get_nowait())
            except queue.Empty:
                return

    def _play(self, media: list[Medium]) -> None:
        pace = Pace(self._options.fps, sleep=self._stop.wait)
        round_ = 0
        while media and not self._stop.is_set():
            media = [medium for medium in media if self._publish(medium, round_, pace)]
            if not self._options.loop:
                return
            round_ += 1

    def _publish(self, medium: Medium, round_: int, pace: Pace) -> bool:
        """Publish a medium; say whether another round makes sense."""
        if self._stop.is_set():
            return False
        try:
            if isinstance(medium, ImageFile):
                self._publish_image(medium, round_, pace)
            else:
                self._publish_video(medium, round_, pace)
        except (UnreadableVideoError, RecordTooLargeError, InvalidRecord, OSError) as error:
            if not (self._options.loop and isinstance(error, UnreadableVideoError) and _reopens(medium, round_, error)):
                self._fail(medium, error)
                return False
            log.warning("camera_lost", name=medium.name, reason=str(error), retry_seconds=_RECONNECT_SECONDS)
            self._stop.wait(_RECONNECT_SECONDS)
        return True

    def _fail(self, medium: Medium, error: Exception) -> None:
        match error:
            case InvalidRecord():
                reason = error.message
            case OSError():
                reason = (error.strerror or type(error).__name__).lower()
            case _:
                reason = str(error)
        self._report(medium.name, reason)

    def _publish_image(self, image: ImageFile, round_: int, pace: Pace) -> None:
        check_size(image.path.stat().st_size, self._publisher.max_record_bytes)  # before it is read
        picture = read_image(image, self._settings.max_pixels, round_)
        self._expect(1)
        pace.wait()
        if self._options.loop:
            picture = replace(picture, time=now())
        self._publisher.publish(picture, self._options.topic or "images", name=image.name)

    def _publish_video(self, video: Video, round_: int, pace: Pace) -> None:
        with VideoReader(video) as reader:
            frames = 0
            every = self._options.every
            self._expect(-(-reader.frame_count // every) or None)

            def wanted(index: int) -> bool:
                return index % every == 0 and (not reader.live or pace.due())

            recording = Recording(video, reader.duration) if video.kind == "file" else None
            oversized = False
            for frame in reader.frames(wanted, self._stop):
                if not reader.live:
                    pace.wait()
                try:
                    self._publish_frame(video, recording, frame, round_)
                except RecordTooLargeError as error:
                    if not oversized and round_ == 0:
                        self._report(video.name, f"frame {frame.index}: {error}")
                    oversized = True
                frames += 1
            if reader.live and not self._stop.is_set():
                log.warning("stream_ended", name=video.name, frames=frames)
                if self._options.loop:
                    self._stop.wait(_RECONNECT_SECONDS)

    def _publish_frame(self, video: Video, recording: Recording | None, frame: Frame, round_: int) -> None:
        picture = Picture(
            encode_jpeg(frame.picture, self._options.quality),
            source=video.source,
            id=recording.frame_id(frame.index, round_) if recording else None,
            time=recording.time(frame.seconds) if recording and not self._options.loop else now(),
            subject=video.subject,
            frame_index=frame.index,
            content_type="image/jpeg",
        )
        self._publisher.publish(picture, self._options.topic or "frames", name=video.name)

    def _expect(self, pictures: int | None) -> None:
        with self._lock:
            self.expected = None if pictures is None or self.expected is None else self.expected + pictures


def _reopens(medium: Medium, round_: int, error: UnreadableVideoError) -> bool:
    # A camera that has worked will work again; one that never did is a mistake in its address.
    return isinstance(medium, Video) and medium.kind != "file" and (round_ > 0 or error.frames > 0)
