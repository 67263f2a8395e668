"""The worker: builds the stages, runs them, and ends the process in order, whichever way it ends."""

import asyncio
import gc
import signal
from collections.abc import Sequence

import structlog
from aiokafka.errors import KafkaError
from threadpoolctl import threadpool_limits

from farpoint.decompression import bound_decompression
from farpoint.delivery import FaustDelivery
from farpoint.detect_stage import DetectStage
from farpoint.embed_stage import EmbedStage
from farpoint.embedders import embedder_threads, open_and_try_embedder
from farpoint.errors import FarpointError
from farpoint.health import Check, HealthServer
from farpoint.kafka_clients import admin, kafka_errors
from farpoint.kafka_diagnosis import obstacle
from farpoint.kafka_rights import missing_rights, needed_rights
from farpoint.malloc import bound_malloc
from farpoint.metrics import Metrics
from farpoint.settings import Settings
from farpoint.stage import Stage
from farpoint.stage_app import StageApp
from farpoint.topic_admin import topic_statuses
from farpoint.topics import TopicNames, topics_table
from farpoint_models.cuda import driver_version
from farpoint_models.embedder import Embedder
from farpoint_models.images import limit_cv2_threads

# A partition is fetched again when what was fetched of it is taken: few records of many vectors at a time (0.3 MB each)
# would leave the detector waiting for the broker. Frames come from more partitions, and each takes longer.
FETCH_BYTES = {"embed": 2**20, "detect": 2**23}
LAG_SECONDS = 2.0
LAG_TIMEOUT_SECONDS = 5.0
STUCK_SECONDS = 120.0
STOP_SECONDS = 30.0

_log = structlog.get_logger(__name__)


async def run_worker(settings: Settings, stages: Sequence[str], *, rebuild: bool = False) -> signal.Signals:
    """Run the given stages until SIGTERM or SIGINT.

    Parameters
    ----------
    settings
        All of them.
    stages
        Their names, in the order of the way of a frame.
    rebuild
        Make the detectors anew from the embeddings log instead of restoring their checkpoints.

    Returns
    -------
    signal.Signals
        Which of them it was.

    Raises
    ------
    FarpointError
        Something that a person can mend: no broker, topics missing, model or device not to be had, port taken.
    ExceptionGroup
        A stage failed unexpectedly; the process must end, so that Kafka redelivers what was not done.
    """
    bound_malloc()
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[signal.Signals] = loop.create_future()

    def stop_once(name: signal.Signals) -> None:
        if not stop.done():
            stop.set_result(name)

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop_once, name)
    await asyncio.to_thread(_require_topics, settings, stages)
    worker = await Worker.build(settings, stages, rebuild=rebuild)
    try:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(worker.run())
            asked_by = await stop
            _log.info("stopping: finishing what was taken in", signal=asked_by.name)
            await worker.drain()
            running.cancel()
    finally:
        await worker.stop()
    return asked_by


class Worker:
    """The stages of one process with what they share. Use `build`."""

    def __init__(self, settings: Settings, apps: list[StageApp], metrics: Metrics, embedder: Embedder | None) -> None:
        self._settings = settings
        self._apps = apps
        self._metrics = metrics
        self._embedder = embedder
        self._kafka_answers = True
        self._health = HealthServer(settings.http, self._live, self._ready, metrics.registry)

    @classmethod
    async def build(cls, settings: Settings, stages: Sequence[str], *, rebuild: bool) -> "Worker":
        """Load the model, warm it up and build the stages; nothing is consumed yet."""
        metrics = Metrics(TopicNames(settings.topics.domain), stages, settings.metrics)
        bound_decompression(settings.media)
        limit_cv2_threads()
        # A batch is too small to share: with the other cores busy, BLAS threads wait for each other, 20 times longer
        # than one of them alone takes.
        threadpool_limits(limits=1, user_api="blas")
        embedder = await asyncio.to_thread(_open_embedder, settings, metrics) if "embed" in stages else None
        apps = []
        for name in stages:
            app = StageApp(settings, name, FETCH_BYTES[name])
            delivery = FaustDelivery(app.faust)
            stage: Stage
            if embedder is not None and name == "embed":
                stage = EmbedStage(embedder, embedder_threads(settings.embedder), settings, delivery, metrics)
            else:
                stage = DetectStage(settings, delivery, metrics, rebuild_group=app.group if rebuild else None)
            app.attach(stage)
            apps.append(app)
        return cls(settings, apps, metrics, embedder)

    async def run(self) -> None:
        """Run until cancelled; an exception means the process must end."""
        await self._health.start()
        async with asyncio.TaskGroup() as tasks:
            for app in self._apps:
                tasks.create_task(app.stage.run())
                tasks.create_task(app.run())
            tasks.create_task(self._watch_lag())
            await asyncio.gather(*(app.assigned.wait() for app in self._apps))
            # What the libraries brought along stays: looking through it at each full collection costs a batch.
            gc.freeze()
            print("worker ready", flush=True)  # noqa: T201 -- the line that supervisors and scripts wait for

    async def drain(self) -> None:
        """Finish what was taken in, in the order of the stages, and commit it."""
        try:
            async with asyncio.timeout(STOP_SECONDS):
                for app in self._apps:
                    if app.assigned.is_set():
                        await app.drain()
        except TimeoutError:
            raise FarpointError(
                f"could not finish within {STOP_SECONDS:.0f} s what was taken in; Kafka will redeliver it"
            ) from None

    async def stop(self) -> None:
        """Leave the groups and close the port."""
        for app in self._apps:
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await app.stop()
            except TimeoutError:
                _log.warning("could not leave the group in time; Kafka will notice", group=app.group)
        await self._health.stop()

    async def _watch_lag(self) -> None:
        while True:
            answered = all([await self._show_lag(app) for app in self._apps])
            self._metrics.kafka_up.set(answered)
            if answered != self._kafka_answers:
                self._kafka_answers = answered
                if answered:
                    _log.warning("Kafka answers again")
                else:
                    found = await asyncio.to_thread(obstacle, self._settings.kafka)
                    _log.warning("Kafka does not answer: waiting for it", why=found and found.said)
            await asyncio.sleep(LAG_SECONDS)

    async def _show_lag(self, app: StageApp) -> bool:
        # A lag that is not known, between two assignments or without Kafka, is not shown: the last one would be a lie.
        answered, lags = self._kafka_answers, {}
        if app.assigned.is_set():
            try:
                async with asyncio.timeout(LAG_TIMEOUT_SECONDS):
                    lags = await app.lag()
                answered = True
            except (TimeoutError, KafkaError):
                answered = False
        self._metrics.show_lag(app.stage.topics, lags if app.assigned.is_set() else {})
        return answered

    def _live(self) -> list[Check]:
        # That this answers shows that the loop turns; whether the work does, the stages' steps say.
        stuck = [app.stage.name for app in self._apps if app.stage.stuck_for() > STUCK_SECONDS]
        return [Check("stages", not stuck, f"stuck: {', '.join(stuck)}" if stuck else "at work or idle")]

    def _ready(self) -> list[Check]:
        checks = [
            Check(
                f"partitions.{app.stage.name}",
                app.assigned.is_set(),
                "assigned and restored" if app.assigned.is_set() else "waiting for the group",
            )
            for app in self._apps
        ]
        answers = self._kafka_answers
        checks.append(Check("kafka", answers, "answers" if answers else "does not answer; waiting for it"))
        if self._embedder is not None:
            provider = self._embedder.provider
            checks += [
                Check("model", True, f"{self._embedder.model_id}, {self._embedder.file.file}"),
                Check(
                    "execution_provider",
                    True,
                    f"{provider.name} (asked for: {provider.requested}); {provider.placement}",
                ),
            ]
        return checks


def _require_topics(settings: Settings, stages: Sequence[str]) -> None:
    names = TopicNames(settings.topics.domain)
    lacking: list[str] = []
    with kafka_errors(settings.kafka), admin(settings.kafka) as client:
        statuses = topic_statuses(client, topics_table(settings.topics, settings.media))
        missing = [status.wanted.name for status in statuses if status.found is None]
        if not missing:
            groups = [settings.kafka.group_of(stage) for stage in stages]
            lacking = missing_rights(client, needed_rights(names, stages), groups)
    if missing:
        raise FarpointError(f"missing topics: {', '.join(missing)}; create them with `farpoint topics apply`")
    if lacking:
        raise FarpointError(f"missing rights in Kafka: {', '.join(lacking)}; see docs/security.md")


def _open_embedder(settings: Settings, metrics: Metrics) -> Embedder:
    embedder, cosine = open_and_try_embedder(settings.embedder)
    card, provider = embedder.card, embedder.provider
    metrics.model.info({"name": card.name, "revision": str(card.revision), "sha256": embedder.file.sha256 or ""})
    metrics.execution_provider.info({"provider": provider.name, "requested": provider.requested})
    for name, nodes in provider.placement.nodes.items():
        metrics.model_nodes.labels(name).set(nodes)
    metrics.canary_similarity.set(cosine)
    metrics.canary_limit.set(embedder.least_canary_cosine)
    _log.info(
        "model ready",
        model=embedder.model_id,
        file=embedder.file.file,
        provider=provider.name,
        note=provider.note,
        placement=str(provider.placement),
        driver=driver_version(),
        threads=embedder_threads(settings.embedder),
    )
    return embedder
