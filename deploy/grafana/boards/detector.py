"""Detector: what it holds for normal, how it scores, and whether that is worth anything."""

from boards.panels import Panel, graph, heat, number
from boards.promql import Query, in_step, metric, per_second, quantiles

TITLE = "Detector"
DESCRIPTION = "What the detectors hold for normal, how they score, and whether false alarms are as many as asked for."


def panels() -> list[tuple[str, list[Panel]]]:
    """Return the rows."""
    return [("Now", _now()), ("Scores", _scores()), ("Clusters", _clusters()), ("By name", _by_name())]


def _now() -> list[Panel]:
    return [
        number("Detectors", "Detectors kept.", Query(f"sum({metric('farpoint_detectors')})"), unit="short", span=4),
        number(
            "Warming up",
            "Detectors that have not seen enough to score yet: they decide nothing.",
            Query(f"sum({metric('farpoint_detectors_warming_up')})"),
            unit="short",
            steps=((None, "green"), (1.0, "orange")),
            span=4,
            runbook="warming-up",
        ),
        number("Clusters", "Live clusters.", Query(f"sum({metric('farpoint_clusters')})"), unit="short", span=4),
        number(
            "Threshold",
            "Score from which a vector is an outlier; the highest of all detectors.",
            Query(f"max({metric('farpoint_outlier_threshold_ratio')} > 0)"),
            unit="short",
            decimals=2,
            span=4,
        ),
        number(
            "False alarms asked for",
            "Share of normal vectors that may be flagged, as set.",
            Query(f"max({metric('farpoint_false_alarm_rate_ratio')})"),
            unit="percentunit",
            span=4,
        ),
        number(
            "Canary above its limit",
            "How far the canary's cosine is above the least that the model's card allows; the least of all workers.",
            Query(f"min({metric('farpoint_canary_similarity_ratio')} - {metric('farpoint_canary_limit_ratio')})"),
            unit="short",
            decimals=5,
            steps=((None, "red"), (0.0, "green")),
            span=4,
            runbook="embedding-drift",
        ),
    ]


def _scores() -> list[Panel]:
    return [
        heat(
            "Outlier scores",
            "How many vectors had which score. 0.5 is one normal vector in ten, 0.75 one in a thousand.",
            Query(in_step("farpoint_outlier_score_ratio_bucket", "le"), "{{le}}"),
            unit="short",
        ),
        graph(
            "Score quantiles",
            "A score is 0.5 for one normal vector in ten, whatever the data; the median stays near 0.2.",
            [
                *quantiles("farpoint_outlier_score_ratio", 0.5, 0.9, 0.99, 0.999),
                Query(f"max({metric('farpoint_outlier_threshold_ratio')} > 0)", "threshold"),
            ],
            unit="short",
            span=12,
            most=1,
        ),
        graph(
            "False alarms asked for, and share flagged",
            "Where nothing strange is in the stream the two are alike. Flagged over an hour, since they are few.",
            [
                Query(
                    f"sum(rate({metric('farpoint_outlier_alerts_total')}[1h]))"
                    f" / (sum(rate({metric('farpoint_outlier_score_ratio_count')}[1h])) > 0)",
                    "flagged",
                ),
                Query(f"max({metric('farpoint_false_alarm_rate_ratio')})", "asked for"),
            ],
            unit="percentunit",
            span=12,
            runbook="outlier-storm",
        ),
        graph(
            "Canary",
            "Cosine of the canary picture's embedding to the one on the model's card. Below the card's limit "
            "the model computes something else than it did.",
            [
                Query(f"min by (instance) ({metric('farpoint_canary_similarity_ratio')})", "{{instance}}"),
                Query(f"max by (instance) ({metric('farpoint_canary_limit_ratio')})", "limit of {{instance}}"),
            ],
            unit="short",
            span=12,
            most=1,
            runbook="embedding-drift",
        ),
    ]


def _clusters() -> list[Panel]:
    return [
        graph(
            "Clusters",
            "Live clusters of all detectors of a worker.",
            [Query(f"sum by (instance) ({metric('farpoint_clusters')})", "{{instance}}")],
            unit="short",
        ),
        graph(
            "Births, deaths, merges, splits",
            "Cluster events in each step. A birth is something new that stayed: what is normal has changed.",
            [Query(in_step("farpoint_cluster_events_total", "type"), "{{type}}")],
            unit="short",
            bars=True,
        ),
        graph(
            "Detectors",
            "Kept by a worker, and how many of them warm up.",
            [
                Query(f"sum({metric('farpoint_detectors')})", "kept"),
                Query(f"sum({metric('farpoint_detectors_warming_up')})", "warming up"),
            ],
            unit="short",
            runbook="warming-up",
        ),
    ]


def _by_name() -> list[Panel]:
    return [
        graph(
            "Vectors by detector",
            "Vectors decided. Detectors that are not on the allow-list count together as `other`.",
            [Query(per_second("farpoint_detector_vectors_assigned_total", "detector"), "{{detector}}")],
            unit="reqps",
        ),
        graph(
            "Vectors by source",
            "Vectors decided. Sources that are not on the allow-list count together as `other`.",
            [Query(per_second("farpoint_source_vectors_assigned_total", "source"), "{{source}}")],
            unit="reqps",
            runbook="source-silent",
        ),
        graph(
            "Alerts by source",
            "Alerts in each step. Sources that are not on the allow-list count together as `other`.",
            [Query(in_step("farpoint_source_outlier_alerts_total", "source"), "{{source}}")],
            unit="short",
            bars=True,
            runbook="outlier-storm",
        ),
    ]
