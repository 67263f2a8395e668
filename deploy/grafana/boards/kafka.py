"""Kafka: what waits where, who reads it, what was bad."""

from boards.panels import Panel, graph, number, rows
from boards.promql import RATE, Query, in_step, metric, per_second

TITLE = "Kafka"
DESCRIPTION = "What waits in which partition, who reads it, rebalances, and dead letters by reason."


def panels() -> list[tuple[str, list[Panel]]]:
    """Return the rows."""
    return [("Lag", _lag()), ("Readers", _readers()), ("Bad records", _bad())]


def _lag() -> list[Panel]:
    lag = metric("farpoint_consumer_lag_records")
    return [
        graph(
            "Lag by partition",
            "Records whose outputs are not delivered yet. A partition has a lag only while a worker reads it.",
            [Query(f"sum by (topic, partition) ({lag})", "{{topic}}/{{partition}}")],
            unit="short",
            runbook="lag",
        ),
        graph(
            "Time to catch up",
            "Lag divided by what is received a second: how long the waiting records take at the present pace.",
            [
                Query(
                    f"sum by (topic) ({lag}) / (sum by (topic) "
                    f"(rate({metric('farpoint_records_received_total')}[{RATE}])) > 0)",
                    "{{topic}}",
                )
            ],
            unit="s",
            runbook="lag",
        ),
        rows(
            "Lag now",
            "By partition and the worker that reads it.",
            [Query(f"sort_desc(max by (topic, partition, instance) ({lag}))")],
            [("lag", "short")],
            labels={"topic": "topic", "partition": "partition", "instance": "worker"},
            runbook="lag",
        ),
    ]


def _readers() -> list[Panel]:
    return [
        graph(
            "Partitions read",
            "By topic and worker. All of them together are the topic's partitions, or some are read by nobody.",
            [
                Query(
                    f"count by (topic, instance) ({metric('farpoint_consumer_lag_records')})",
                    "{{topic}} {{instance}}",
                )
            ],
            unit="short",
            stack=True,
            runbook="partitions-unread",
        ),
        graph(
            "Rebalances",
            "Times that a stage was given partitions, in each step. Many in a row: workers die.",
            [Query(in_step("farpoint_rebalances_total", "stage"), "{{stage}}")],
            unit="short",
            bars=True,
            runbook="partitions-unread",
        ),
        number(
            "Kafka",
            "Whether Kafka answers every worker.",
            Query(f"min({metric('farpoint_kafka_up')})"),
            unit="short",
            steps=((None, "red"), (1.0, "green")),
            words={"1": "answers", "0": "does not answer"},
            span=4,
            runbook="kafka-unreachable",
        ),
        number(
            "Vectors skipped",
            "Embedded twice after a crash or rebalance and recognised, in the chosen time.",
            Query(f"sum(increase({metric('farpoint_frames_skipped_total')}[$__range]))"),
            unit="short",
            decimals=0,
            span=4,
            runbook="frames-skipped",
        ),
    ]


def _bad() -> list[Panel]:
    return [
        graph(
            "Dead letters by reason",
            "In each step; reasons that never occurred are left out.",
            [Query(f"{in_step('farpoint_records_dead_lettered_total', 'reason')} > 0", "{{reason}}")],
            unit="short",
            bars=True,
            runbook="dead-letters",
        ),
        graph(
            "Share of bad records by topic",
            "Of the records received. At FARPOINT_DEAD_LETTERS__MAX_SHARE (a half) the worker stops.",
            [
                Query(
                    f"{per_second('farpoint_records_dead_lettered_total', 'topic')}"
                    f" / ({per_second('farpoint_records_received_total', 'topic')} > 0)",
                    "{{topic}}",
                )
            ],
            unit="percentunit",
            limit=0.05,
            runbook="dead-letters",
        ),
        rows(
            "Dead letters",
            "By topic and reason, in the chosen time. `farpoint dead-letters show` lists them.",
            [
                Query(
                    "round(sum by (topic, reason) "
                    f"(increase({metric('farpoint_records_dead_lettered_total')}[$__range]))) > 0"
                )
            ],
            [("records", "short")],
            labels={"topic": "topic", "reason": "reason"},
            runbook="dead-letters",
        ),
    ]
