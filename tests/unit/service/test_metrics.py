"""The container of the metrics: zeros before the first event, and no series about what does not run here."""

import math

import pytest
from tests.unit.service.stage_kit import NAMES

from farpoint.metrics import CLUSTER_EVENT_TYPES, SKIP_REASONS, Metrics
from farpoint.settings import MetricsSettings
from farpoint_models.errors import InvalidReason


def test_known_labels_start_at_zero() -> None:
    """A rate exists before the first event of every kind that is known beforehand."""
    value = Metrics(NAMES, ["embed", "detect"]).registry.get_sample_value
    for topic in NAMES.inputs:
        assert value("farpoint_records_received_total", {"topic": topic}) == 0
        assert value("farpoint_decision_latency_seconds_count", {"topic": topic}) == 0
        for reason in InvalidReason:
            assert value("farpoint_records_dead_lettered_total", {"topic": topic, "reason": reason}) == 0
    for topic in NAMES.media:
        assert value("farpoint_frames_embedded_total", {"topic": topic}) == 0
    assert all(value("farpoint_frames_skipped_total", {"reason": reason}) == 0 for reason in SKIP_REASONS)
    assert all(value("farpoint_cluster_events_total", {"type": kind}) == 0 for kind in CLUSTER_EVENT_TYPES)
    assert value("farpoint_vectors_assigned_total") == value("farpoint_outlier_alerts_total") == 0


@pytest.mark.parametrize(("stages", "there"), [(["embed"], True), (["detect"], False)])
def test_no_model_is_claimed_where_none_is_loaded(stages: list[str], there: bool) -> None:
    """Only a worker that embeds has the info metrics of model and execution provider."""
    names = {family.name for family in Metrics(NAMES, stages).registry.collect()}
    assert ("farpoint_model" in names) is there
    assert ("farpoint_execution_provider" in names) is there


def test_two_workers_in_one_process_do_not_share() -> None:
    """Each container has a registry of its own."""
    one, other = Metrics(NAMES, ["detect"]), Metrics(NAMES, ["detect"])
    one.alerts.inc()
    assert other.registry.get_sample_value("farpoint_outlier_alerts_total") == 0


def test_a_partition_given_away_shows_no_lag() -> None:
    """Only the partitions named last have a lag; those of other topics are left alone."""
    metrics = Metrics(NAMES, ["embed", "detect"])

    def lag(topic: str, partition: int) -> float | None:
        at = {"topic": topic, "partition": str(partition)}
        return metrics.registry.get_sample_value("farpoint_consumer_lag_records", at)

    metrics.show_lag([NAMES.embeddings], {(NAMES.embeddings, 0): 7})
    metrics.show_lag(NAMES.media, {(NAMES.frames, 0): 1, (NAMES.frames, 1): 2})
    metrics.show_lag(NAMES.media, {(NAMES.frames, 1): 3, (NAMES.images, 0): 0})
    assert (lag(NAMES.frames, 0), lag(NAMES.frames, 1), lag(NAMES.images, 0)) == (None, 3, 0)
    metrics.show_lag(NAMES.media, {})
    assert (lag(NAMES.frames, 1), lag(NAMES.images, 0)) == (None, None)
    assert lag(NAMES.embeddings, 0) == 7


def test_names_from_outside_are_bounded() -> None:
    """Only what is on the allow-list is a label value; the rest is counted together, and zeros are there for both."""
    metrics = Metrics(NAMES, ["detect"], MetricsSettings(sources="cam-1, cam-2"))
    assert metrics.source_names.labels == ["cam-1", "cam-2", "other"]
    assert metrics.source_names.count(["cam-1", "evil", "cam-1", "other"]) == {"cam-1": 2, "other": 2}
    value = metrics.registry.get_sample_value
    assert value("farpoint_source_outlier_alerts_total", {"source": "cam-2"}) == 0
    assert value("farpoint_source_outlier_alerts_total", {"source": "other"}) == 0
    assert value("farpoint_detector_outlier_alerts_total", {"detector": "shared"}) == 0
    assert value("farpoint_detector_outlier_alerts_total", {"detector": "other"}) == 0


def test_a_canary_that_was_not_looked_at_is_no_drift() -> None:
    """Before the first look the similarity is not a number, which no comparison of a rule takes for a low one."""
    value = Metrics(NAMES, ["embed"]).registry.get_sample_value("farpoint_canary_similarity_ratio")
    assert value is not None
    assert math.isnan(value)


def test_memory_and_start_time_are_exported() -> None:
    """The process's own metrics are there under the names of all Prometheus clients."""
    value = Metrics(NAMES, ["embed"]).registry.get_sample_value
    assert (value("process_resident_memory_bytes") or 0) > 2**20
    assert value("process_start_time_seconds")
