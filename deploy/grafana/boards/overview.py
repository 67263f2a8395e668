"""Overview: is it healthy, what is strange right now, does it keep up."""

from boards.panels import Panel, graph, heat, number, rows, words
from boards.promql import Query, in_step, metric, per_second, quantile, quantiles

TITLE = "Overview"
DESCRIPTION = "Is Farpoint healthy, what is strange right now, does it keep up."

_GOOD_IF_ONE = ((None, "red"), (1.0, "green"))

_ALERTS = """Prometheus counts alerts; the alerts themselves, with picture, score and nearest clusters, are on the topic
`vision.outlier-alerts.v1`:

```
farpoint alerts --follow            # a line each, as they come
farpoint alerts --from-beginning --json
```

Alerts and vectors are counted by name only for the detectors and sources that are listed in
`FARPOINT_METRICS__DETECTORS` and `FARPOINT_METRICS__SOURCES`; all others together are `other`."""


def panels() -> list[tuple[str, list[Panel]]]:
    """Return the rows."""
    return [
        ("Is it healthy?", _healthy()),
        ("What is strange right now?", _strange()),
        ("Does it keep up?", _keeps_up()),
    ]


def _healthy() -> list[Panel]:
    return [
        number(
            "Workers that answer",
            "Share of the workers known to Prometheus that it reaches.",
            Query(f"sum({metric('up')}) / count({metric('up')})"),
            unit="percentunit",
            steps=_GOOD_IF_ONE,
            runbook="worker-down",
        ),
        number(
            "Alerts that fire",
            "Farpoint's own alert rules that fire now, of the chosen jobs.",
            Query('count(ALERTS{alertstate="firing", alertname=~"Farpoint.+", job=~"$job"}) or vector(0)'),
            unit="short",
            steps=((None, "green"), (1.0, "red")),
        ),
        number(
            "Kafka",
            "Whether Kafka answers every worker.",
            Query(f"min({metric('farpoint_kafka_up')})"),
            unit="short",
            steps=_GOOD_IF_ONE,
            words={"1": "answers", "0": "does not answer"},
            runbook="kafka-unreachable",
        ),
        number(
            "Waiting",
            "Records of all topics whose outputs are not delivered yet.",
            Query(f"sum({metric('farpoint_consumer_lag_records')})"),
            unit="short",
            steps=((None, "green"), (500.0, "orange"), (10_000.0, "red")),
            runbook="lag",
        ),
        number(
            "Decided within",
            "From a record's timestamp to its delivered decision: 95 % take less.",
            Query(quantile(0.95, "farpoint_decision_latency_seconds")),
            unit="s",
            steps=((None, "green"), (5.0, "orange"), (30.0, "red")),
            runbook="lag",
        ),
        number(
            "Last record finished",
            "How long ago any worker finished a record.",
            Query(f"time() - max({metric('farpoint_record_processed_timestamp_seconds')} > 0)"),
            unit="s",
            decimals=0,
        ),
        number(
            "Device",
            "What really runs the model.",
            Query(f"count by (provider) ({metric('farpoint_execution_provider_info')})", "{{provider}}"),
            unit="short",
            name=True,
            runbook="execution-provider",
        ),
        number(
            "Version",
            "What the workers run.",
            Query(f"count by (version) ({metric('farpoint_build_info')})", "{{version}}"),
            unit="short",
            name=True,
        ),
    ]


def _strange() -> list[Panel]:
    return [
        graph(
            "Outlier alerts by detector",
            "Alerts in each step. Detectors that are not on the allow-list count together as `other`.",
            [Query(in_step("farpoint_detector_outlier_alerts_total", "detector"), "{{detector}}")],
            unit="short",
            span=12,
            bars=True,
            runbook="outlier-storm",
        ),
        graph(
            "Share of outliers",
            "Of all vectors that were scored, the share that was flagged, beside the share of normal ones that may be.",
            [
                Query(
                    f"{per_second('farpoint_outlier_alerts_total')}"
                    f" / ({per_second('farpoint_outlier_score_ratio_count')} > 0)",
                    "flagged",
                ),
                Query(f"max({metric('farpoint_false_alarm_rate_ratio')})", "asked for"),
            ],
            unit="percentunit",
            span=12,
            runbook="outlier-storm",
        ),
        heat(
            "Outlier scores",
            "How many vectors had which score. 0.5 is one normal vector in ten, 0.75 one in a thousand.",
            Query(in_step("farpoint_outlier_score_ratio_bucket", "le"), "{{le}}"),
            unit="short",
        ),
        graph(
            "Score and threshold",
            "The highest threshold of all detectors, and how far below it the scores are.",
            [
                Query(f"max({metric('farpoint_outlier_threshold_ratio')} > 0)", "threshold"),
                *quantiles("farpoint_outlier_score_ratio", 0.5, 0.99),
            ],
            unit="short",
            span=12,
            most=1,
        ),
        rows(
            "Latest alerts by source",
            "When the last alert of each listed source was, and how many in the chosen time.",
            [
                Query(
                    f"max by (source) ({metric('farpoint_source_outlier_alert_timestamp_seconds')} > 0) * 1000",
                ),
                Query(f"round(sum by (source) (increase({metric('farpoint_source_outlier_alerts_total')}[$__range])))"),
                Query(f"sum by (source) ({metric('farpoint_source_vectors_assigned_total')})"),
            ],
            [("last alert", "dateTimeFromNow"), ("alerts", "short"), ("vectors since start", "short")],
            labels={"source": "source"},
            span=12,
        ),
        words("The alerts themselves", "Where to see each alert.", _ALERTS, span=12),
    ]


def _keeps_up() -> list[Panel]:
    return [
        graph(
            "Throughput",
            "What comes in, is embedded and decided. A vector of a picture is one of a record of many.",
            [
                Query(per_second("farpoint_records_received_total", topic="~.+[.](images|frames)[.]v1"), "pictures in"),
                Query(per_second("farpoint_frames_embedded_total"), "pictures embedded"),
                Query(per_second("farpoint_vectors_assigned_total"), "vectors decided"),
            ],
            unit="reqps",
            runbook="nothing-decided",
        ),
        graph(
            "Decision latency",
            "From the record's timestamp to the delivered decision, all topics.",
            quantiles("farpoint_decision_latency_seconds", 0.5, 0.95, 0.99),
            unit="s",
            limit=30,
            runbook="lag",
        ),
        graph(
            "Waiting records by topic",
            "Records whose outputs are not delivered yet. What no worker reads has no lag: see the board Kafka.",
            [Query(f"sum by (topic) ({metric('farpoint_consumer_lag_records')})", "{{topic}}")],
            unit="short",
            limit=500,
            runbook="lag",
        ),
    ]
