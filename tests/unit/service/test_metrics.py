"""The container of the metrics: zeros before the first event, and no series about what does not run here."""

import pytest
from tests.unit.service.stage_kit import NAMES

from farpoint.metrics import CLUSTER_EVENT_TYPES, SKIP_REASONS, Metrics
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
