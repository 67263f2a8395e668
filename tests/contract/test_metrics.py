"""The metrics as the contract lists them: names, types and labels; dashboards and alert rules stand on them."""

import re
from pathlib import Path

from prometheus_client import Metric

from farpoint.metrics import Metrics
from farpoint.metrics_doc import exported_metrics, exported_name, metrics_markdown
from farpoint.topics import TopicNames

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"

# Name, type, labels. Buckets and `_total` are the exposition's.
CONTRACT = {
    ("farpoint_records_received", "counter", ("topic",)),
    ("farpoint_frames_embedded", "counter", ("topic",)),
    ("farpoint_vectors_assigned", "counter", ()),
    ("farpoint_frames_skipped", "counter", ("reason",)),
    ("farpoint_records_dead_lettered", "counter", ("topic", "reason")),
    ("farpoint_outlier_alerts", "counter", ()),
    ("farpoint_batch_frames", "histogram", ()),
    ("farpoint_decode_seconds", "histogram", ()),
    ("farpoint_inference_seconds", "histogram", ()),
    ("farpoint_scoring_seconds", "histogram", ()),
    ("farpoint_decision_latency_seconds", "histogram", ("topic",)),
    ("farpoint_outlier_score_ratio", "histogram", ()),
    ("farpoint_outlier_threshold_ratio", "gauge", ()),
    ("farpoint_clusters", "gauge", ()),
    ("farpoint_detectors", "gauge", ()),
    ("farpoint_cluster_events", "counter", ("type",)),
    ("farpoint_consumer_lag_records", "gauge", ("topic", "partition")),
    ("farpoint_checkpoint_timestamp_seconds", "gauge", ()),
    ("farpoint_record_processed_timestamp_seconds", "gauge", ()),
    ("farpoint_model", "info", ("name", "revision", "sha256")),
    ("farpoint_execution_provider", "info", ("provider", "requested")),
    ("farpoint_model_nodes", "gauge", ("provider",)),
    ("farpoint_canary_limit_ratio", "gauge", ()),
    ("farpoint_canary_similarity_ratio", "gauge", ()),
}


def filled() -> Metrics:
    """Return the metrics of a worker that has a lag, a model and a provider."""
    metrics = Metrics(TopicNames("vision"), ["embed", "detect"])
    metrics.consumer_lag.labels("vision.frames.v1", 0).set(1)
    metrics.model.info({"name": "n", "revision": "1", "sha256": "0"})
    metrics.execution_provider.info({"provider": "p", "requested": "auto"})
    metrics.model_nodes.labels("p").set(1)
    return metrics


def ours() -> list[Metric]:
    """Return the families of `/metrics` that are Farpoint's own."""
    return [family for family in filled().registry.collect() if not family.name.startswith("process_")]


def test_names_types_and_labels() -> None:
    """Everything that the contract lists is there, as it says."""
    found = set()
    for family in ours():
        labels = {name for sample in family.samples for name in sample.labels if name != "le"}
        found.add((family.name, family.type, frozenset(labels)))
    assert {(name, kind, frozenset(labels)) for name, kind, labels in CONTRACT} <= found


def test_the_page_is_not_stale() -> None:
    """The committed page, with every name, type, label, bucket and help text, is what the metrics say now."""
    assert PAGE.read_text(encoding="utf-8") == metrics_markdown()


def test_the_page_is_complete() -> None:
    """Each family that a worker exposes has its row, and no other."""
    suffix = {"counter": "_total", "info": "_info"}
    assert {exported_name(metric) for metric in exported_metrics()} == {
        family.name + suffix.get(family.type, "") for family in ours()
    }


def test_the_conventions_are_kept() -> None:
    """Base units, counters with `_total`, ratios called so, a help text each, no `_created` series."""
    for family in ours():
        assert re.fullmatch(r"farpoint_[a-z]+(_[a-z]+)*", family.name)
        assert len(family.documentation) > 10
        assert not family.documentation.endswith(".")
        for sample in family.samples:
            assert not sample.name.endswith("_created")
            if family.type == "counter":
                assert sample.name.endswith("_total")
        assert not re.search(r"_(ms|millis|milliseconds|minutes|percent|kb|mb)(_|$)", family.name)


def test_ratios_have_buckets_up_to_one() -> None:
    """A score lies between 0 and 1, and the buckets say so."""
    (family,) = [family for family in filled().registry.collect() if family.name == "farpoint_outlier_score_ratio"]
    bounds = [float(sample.labels["le"]) for sample in family.samples if "le" in sample.labels]
    assert bounds[-2:] == [1.0, float("inf")]
