"""Every metric of Farpoint, declared once; docs, dashboards and a golden test read this container.

Base units, `_total` on counters, `_ratio` for 0..1, timestamps rather than ages, and zeros exported for every label
value that is known beforehand, so that a rate exists before the first event.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.metrics import disable_created_metrics

from farpoint.topics import TopicNames
from farpoint_models.errors import InvalidReason

SKIP_REASONS = ("redelivered",)
CLUSTER_EVENT_TYPES = ("birth", "death", "merge", "split")

_STEP_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_LATENCY_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_BATCH_FRAMES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SCORE_RATIO = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)

disable_created_metrics()  # type: ignore[no-untyped-call]  # `_created` series double the exposition and tell nothing that the start time does not


class Metrics:
    """The metrics of one worker, in a registry of their own.

    Parameters
    ----------
    names
        The topics, for the label values that are known beforehand.
    stages
        Which stages run here.

    Examples
    --------
    >>> metrics = Metrics(TopicNames("vision"), ["detect"])
    >>> metrics.vectors_assigned.inc(64)
    >>> metrics.registry.get_sample_value("farpoint_vectors_assigned_total")
    64.0
    """

    def __init__(self, names: TopicNames, stages: Iterable[str]) -> None:
        self.registry = registry = CollectorRegistry()
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
            "farpoint_decode_seconds", "Time to decode the frames of a batch", buckets=_STEP_SECONDS, registry=registry
        )
        self.inference_seconds = Histogram(
            "farpoint_inference_seconds", "Time of a device batch", buckets=_STEP_SECONDS, registry=registry
        )
        self.scoring_seconds = Histogram(
            "farpoint_scoring_seconds",
            "Time to score and learn one embeddings record",
            buckets=_STEP_SECONDS,
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
            "Score above which a vector is an outlier; the highest of all detectors",
            registry=registry,
        )
        self.clusters = Gauge("farpoint_clusters", "Live clusters of all detectors here", registry=registry)
        self.detectors = Gauge("farpoint_detectors", "Detectors kept here", registry=registry)
        self.cluster_events = Counter(
            "farpoint_cluster_events_total",
            "Births, deaths, merges and splits of clusters",
            ["type"],
            registry=registry,
        )
        self.consumer_lag = Gauge(
            "farpoint_consumer_lag_records",
            "Records of a partition whose outputs are not delivered yet",
            ["topic", "partition"],
            registry=registry,
        )
        self.checkpoint_timestamp = Gauge(
            "farpoint_checkpoint_timestamp_seconds", "When the last checkpoint was delivered", registry=registry
        )
        self.record_processed_timestamp = Gauge(
            "farpoint_record_processed_timestamp_seconds", "When a record was last finished", registry=registry
        )
        # An info metric without a value would claim a model where none is loaded.
        registry_or_none = registry if "embed" in stages else None
        self.model = Info("farpoint_model", "The model that embeds", registry=registry_or_none)
        self.execution_provider = Info(
            "farpoint_execution_provider",
            "What really runs the model, and what was asked for",
            registry=registry_or_none,
        )
        self._export_zeros(names, stages)

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
