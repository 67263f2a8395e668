"""Every metric of Farpoint, declared once; docs, dashboards and a golden test read this container.

Base units, `_total` on counters, `_ratio` for 0..1, timestamps rather than ages, and zeros exported for every label
value that is known beforehand, so that a rate exists before the first event.
"""

import math
from collections import Counter as Counts
from collections.abc import Iterable, Mapping
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.metrics import disable_created_metrics
from prometheus_client.process_collector import ProcessCollector

from farpoint.settings import MetricsSettings
from farpoint.topics import TopicNames
from farpoint_models.errors import InvalidReason

SKIP_REASONS = ("redelivered",)
CLUSTER_EVENT_TYPES = ("birth", "death", "merge", "split")
OTHER = "other"
"""The label value of all that is not on an allow-list."""

# Buckets, from what was measured on two cores, all CPU, int8 model: the demo (three cameras), 120 frames/s of 640x480,
# 3,000 waiting frames, 2,000 waiting records of 64 vectors. Steps are of about 2, so that a quantile read off them is
# wrong by less than that, from a third of the least that was seen (a GPU is quicker) to what is an outage.
#
#             least    1 %      50 % (by load)   99 % (by load)  most
# batch       1        1        3 to 32          15 to 32        32     frames
# decode      0.0014   0.0022   0.005 to 0.07    0.07 to 0.22    0.32   seconds a batch
# inference   0.006    0.011    0.03 to 0.19     0.21 to 0.56    0.77   seconds a batch
# scoring     0.00009  0.0001   0.0004 to 0.003  0.008 to 0.06   0.55   seconds a record; most: it founded the clusters
# latency     0.007    0.012    0.07 to 1.2      1.5 to 4        22     seconds; most: it had waited
# score       0        0.001    0.15 to 0.22     0.66 to 0.68    0.96
#
# Scoring and score were measured before the detector clustered by merges and splits and scored by the distance to mass;
# not measured again since.
_BATCH_FRAMES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_BATCH_SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
_SCORING_SECONDS = (
    0.00005,
    0.0001,
    0.0002,
    0.0005,
    0.001,
    0.002,
    0.004,
    0.008,
    0.016,
    0.03,
    0.06,
    0.125,
    0.25,
    0.5,
    1.0,
)
_LATENCY_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5.0, 10.0, 20.0, 60.0, 300.0, 1800.0)
# Finer where it matters: a false-alarm rate of 0.001 is a threshold of 0.75, and one of 0.0001 is 0.8.
_SCORE_RATIO = (0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)

disable_created_metrics()  # type: ignore[no-untyped-call]  # `_created` series double the exposition and tell nothing that the start time does not


class Metrics:
    """The metrics of one worker, in a registry of their own.

    Parameters
    ----------
    names
        The topics, for the label values that are known beforehand.
    stages
        Which stages run here.
    settings
        Which detectors and sources are counted by name.

    Examples
    --------
    >>> metrics = Metrics(TopicNames("vision"), ["detect"])
    >>> metrics.vectors_assigned.inc(64)
    >>> metrics.registry.get_sample_value("farpoint_vectors_assigned_total")
    64.0
    """

    def __init__(self, names: TopicNames, stages: Iterable[str], settings: MetricsSettings | None = None) -> None:
        stages = tuple(stages)
        settings = settings or MetricsSettings()
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # memory, CPU and start time, under the names of all Prometheus clients
        self._lag_shown: set[tuple[str, int]] = set()
        self.detector_names = AllowList(settings.detector_names)
        self.source_names = AllowList(settings.source_names)
        self.records_received = Counter(
            "farpoint_records_received_total", "Records taken from Kafka", ["topic"], registry=registry
        )
        self.frames_embedded = Counter(
            "farpoint_frames_embedded_total", "Pictures whose vector was delivered", ["topic"], registry=registry
        )
        self.vectors_assigned = Counter(
            "farpoint_vectors_assigned_total", "Vectors whose decision was delivered", registry=registry
        )
        self.frames_skipped = Counter(
            "farpoint_frames_skipped_total",
            "Vectors not decided again; redelivered: their frame was embedded twice after a crash or rebalance",
            ["reason"],
            registry=registry,
        )
        self.dead_lettered = Counter(
            "farpoint_records_dead_lettered_total",
            "Records that became dead letters",
            ["topic", "reason"],
            registry=registry,
        )
        self.alerts = Counter("farpoint_outlier_alerts_total", "Outlier alerts delivered", registry=registry)
        self.batch_frames = Histogram(
            "farpoint_batch_frames", "Frames in a device batch", buckets=_BATCH_FRAMES, registry=registry
        )
        self.decode_seconds = Histogram(
            "farpoint_decode_seconds", "Time to decode the frames of a batch", buckets=_BATCH_SECONDS, registry=registry
        )
        self.inference_seconds = Histogram(
            "farpoint_inference_seconds", "Time of a device batch", buckets=_BATCH_SECONDS, registry=registry
        )
        self.scoring_seconds = Histogram(
            "farpoint_scoring_seconds",
            "Time to score and learn one embeddings record",
            buckets=_SCORING_SECONDS,
            registry=registry,
        )
        self.decision_latency = Histogram(
            "farpoint_decision_latency_seconds",
            "Record timestamp to delivered decision, by the topic the item came in",
            ["topic"],
            buckets=_LATENCY_SECONDS,
            registry=registry,
        )
        self.outlier_score = Histogram(
            "farpoint_outlier_score_ratio", "Outlier scores given", buckets=_SCORE_RATIO, registry=registry
        )
        self.threshold = Gauge(
            "farpoint_outlier_threshold_ratio",
            "Score from which a vector is an outlier; the highest of all detectors",
            registry=registry,
        )
        self.clusters = Gauge("farpoint_clusters", "Live clusters of all detectors here", registry=registry)
        self.detectors = Gauge("farpoint_detectors", "Detectors kept here", registry=registry)
        self.detectors_warming_up = Gauge(
            "farpoint_detectors_warming_up", "Detectors that have not seen enough to score yet", registry=registry
        )
        self.false_alarm_rate = Gauge(
            "farpoint_false_alarm_rate_ratio",
            "Share of normal vectors that may be flagged, as the detectors were founded with; the highest of all",
            registry=registry,
        )
        self.cluster_events = Counter(
            "farpoint_cluster_events_total",
            "Births, deaths, merges and splits of clusters",
            ["type"],
            registry=registry,
        )
        self.detector_vectors = Counter(
            "farpoint_detector_vectors_assigned_total",
            "Vectors whose decision was delivered, by detector; all that are not on the allow-list: other",
            ["detector"],
            registry=registry,
        )
        self.detector_alerts = Counter(
            "farpoint_detector_outlier_alerts_total",
            "Outlier alerts delivered, by detector; all that are not on the allow-list: other",
            ["detector"],
            registry=registry,
        )
        self.source_vectors = Counter(
            "farpoint_source_vectors_assigned_total",
            "Vectors whose decision was delivered, by source; all that are not on the allow-list: other",
            ["source"],
            registry=registry,
        )
        self.source_alerts = Counter(
            "farpoint_source_outlier_alerts_total",
            "Outlier alerts delivered, by source; all that are not on the allow-list: other",
            ["source"],
            registry=registry,
        )
        self.source_alert_timestamp = Gauge(
            "farpoint_source_outlier_alert_timestamp_seconds",
            "When the last outlier alert was delivered, by source; 0: none since the start",
            ["source"],
            registry=registry,
        )
        self.consumer_lag = Gauge(
            "farpoint_consumer_lag_records",
            "Records of a partition whose outputs are not delivered yet; only of partitions that are read here now",
            ["topic", "partition"],
            registry=registry,
        )
        self.queue = Gauge(
            "farpoint_queue_records", "Records waiting inside the worker for a stage", ["stage"], registry=registry
        )
        self.rebalances = Counter(
            "farpoint_rebalances_total", "Times that a stage was given partitions", ["stage"], registry=registry
        )
        self.kafka_up = Gauge("farpoint_kafka_up", "1 while Kafka answers, else 0", registry=registry)
        self.checkpoint_timestamp = Gauge(
            "farpoint_checkpoint_timestamp_seconds", "When the last checkpoint was delivered", registry=registry
        )
        self.record_processed_timestamp = Gauge(
            "farpoint_record_processed_timestamp_seconds", "When a record was last finished", registry=registry
        )
        self.build = Info("farpoint_build", "What runs here", registry=registry)
        self.build.info({"version": version("farpoint"), "stages": ",".join(stages)})
        # An info metric without a value would claim a model where none is loaded.
        registry_or_none = registry if "embed" in stages else None
        self.model = Info("farpoint_model", "The model that embeds", registry=registry_or_none)
        self.execution_provider = Info(
            "farpoint_execution_provider",
            "What really runs the model, and what was asked for",
            registry=registry_or_none,
        )
        self.model_nodes = Gauge(
            "farpoint_model_nodes",
            "Nodes of the model's graph by the execution provider that really runs them",
            ["provider"],
            registry=registry_or_none,
        )
        self.canary_similarity = Gauge(
            "farpoint_canary_similarity_ratio",
            "Cosine of the canary picture's embedding now to the one on the model's card; NaN: not known yet",
            registry=registry_or_none,
        )
        self.canary_similarity.set(math.nan)  # 0 would say that the model computes something else
        self.canary_limit = Gauge(
            "farpoint_canary_limit_ratio",
            "Cosine of the canary below which the device is not believed, by the model's card; NaN: not known yet",
            registry=registry_or_none,
        )
        self.canary_limit.set(math.nan)
        self._export_zeros(names, stages)

    def show_lag(self, topics: Iterable[str], lags: Mapping[tuple[str, int], int]) -> None:
        """Show the lag of the partitions of `topics` that are read here now, and no longer that of any other.

        A partition that was given away must not keep its last value: its new owner shows it, and a sum would count it
        twice.
        """
        topics = set(topics)
        for topic, partition in {at for at in self._lag_shown if at[0] in topics} - set(lags):
            self.consumer_lag.remove(topic, str(partition))
            self._lag_shown.discard((topic, partition))
        for (topic, partition), lag in lags.items():
            self.consumer_lag.labels(topic, partition).set(lag)
            self._lag_shown.add((topic, partition))

    def _export_zeros(self, names: TopicNames, stages: Iterable[str]) -> None:
        inputs: list[str] = []
        if "embed" in stages:
            inputs += names.media
        if "detect" in stages:
            inputs.append(names.embeddings)
        for topic in inputs:
            self.records_received.labels(topic)
            for invalid in InvalidReason:
                self.dead_lettered.labels(topic, str(invalid))
        for topic in names.media:
            self.frames_embedded.labels(topic)
        for topic in names.inputs:
            self.decision_latency.labels(topic)
        for skip in SKIP_REASONS:
            self.frames_skipped.labels(skip)
        for kind in CLUSTER_EVENT_TYPES:
            self.cluster_events.labels(kind)
        for stage in stages:
            self.rebalances.labels(stage)
            self.queue.labels(stage)
        for detector in self.detector_names.labels:
            self.detector_vectors.labels(detector)
            self.detector_alerts.labels(detector)
        for source in self.source_names.labels:
            self.source_vectors.labels(source)
            self.source_alerts.labels(source)
            self.source_alert_timestamp.labels(source)


class AllowList:
    """Label values that others choose, bounded: a name on the list is its own label, every other is `other`.

    Examples
    --------
    >>> sources = AllowList(["cam-1", "cam-2"])
    >>> sources.count(["cam-1", "cam-9", "cam-8", "cam-1"])
    {'cam-1': 2, 'other': 2}
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)

    @property
    def labels(self) -> list[str]:
        """Every label value there can be."""
        return [*sorted(self._names - {OTHER}), OTHER]

    def label(self, name: str) -> str:
        """Return the label value that stands for a name."""
        return name if name in self._names else OTHER

    def count(self, names: Iterable[str]) -> dict[str, int]:
        """Count names by label value."""
        return dict(Counts(map(self.label, names)))
