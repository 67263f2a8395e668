"""Pipeline: the way of a frame, a row for each stage in path order, and what it costs."""

from boards.panels import Panel, graph, rows
from boards.promql import Query, mean, metric, per_second, quantile, quantiles

TITLE = "Pipeline"
DESCRIPTION = "The way of a frame: received, decoded, embedded, scored, delivered; and what it costs."


def panels() -> list[tuple[str, list[Panel]]]:
    """Return the rows."""
    return [
        ("Received", _received()),
        ("Decoded", _decoded()),
        ("Embedded", _embedded()),
        ("Scored", _scored()),
        ("Delivered", _delivered()),
        ("What it costs", _costs()),
    ]


def _per(total: str, count: str) -> str:
    return f"{per_second(total)} / ({per_second(count)} > 0)"


def _received() -> list[Panel]:
    return [
        graph(
            "Records received",
            "Taken from Kafka, by topic. A record of the embeddings topic holds many vectors.",
            [Query(per_second("farpoint_records_received_total", "topic"), "{{topic}}")],
            unit="reqps",
        ),
        graph(
            "Queue",
            "Records inside a worker that wait for a stage. Full means that the stage is the bottleneck, not Kafka.",
            [Query(f"sum by (stage) ({metric('farpoint_queue_records')})", "{{stage}}")],
            unit="short",
            runbook="lag",
        ),
        graph(
            "Bad records",
            "Records that became dead letters, by topic.",
            [Query(per_second("farpoint_records_dead_lettered_total", "topic"), "{{topic}}")],
            unit="reqps",
            runbook="dead-letters",
        ),
    ]


def _decoded() -> list[Panel]:
    return [
        graph(
            "Time to decode a batch",
            "All frames of a batch, decoded side by side.",
            quantiles("farpoint_decode_seconds", 0.5, 0.95, 0.99),
            unit="s",
            span=12,
        ),
        graph(
            "Decoding, per frame",
            "Time to decode divided by frames: what a core can do at most.",
            [Query(_per("farpoint_decode_seconds_sum", "farpoint_batch_frames_sum"), "per frame")],
            unit="s",
            span=12,
        ),
    ]


def _embedded() -> list[Panel]:
    return [
        graph(
            "Frames embedded",
            "Pictures whose vector was delivered, by topic.",
            [Query(per_second("farpoint_frames_embedded_total", "topic"), "{{topic}}")],
            unit="reqps",
            span=6,
            runbook="nothing-decided",
        ),
        graph(
            "Batch size",
            "Frames in a device batch. Small batches: little to do. Always the largest: the worker is behind.",
            [Query(mean("farpoint_batch_frames"), "mean"), *quantiles("farpoint_batch_frames", 0.95)],
            unit="short",
            span=6,
        ),
        graph(
            "Inference time of a batch",
            "On the device that the table below names.",
            quantiles("farpoint_inference_seconds", 0.5, 0.95, 0.99),
            unit="s",
            span=6,
        ),
        graph(
            "Inference, per frame",
            "Time of inference divided by frames.",
            [Query(_per("farpoint_inference_seconds_sum", "farpoint_batch_frames_sum"), "per frame")],
            unit="s",
            span=6,
        ),
        rows(
            "Device",
            "What really runs the model, and what was asked for.",
            [Query(f"max by (instance, provider, requested) ({metric('farpoint_execution_provider_info')})")],
            [("running", "short")],
            labels={"instance": "worker", "provider": "execution provider", "requested": "asked for"},
            hidden=["Value"],
            span=6,
            runbook="execution-provider",
        ),
        rows(
            "Model",
            "The model that each worker has loaded. Two models at once mean two vector spaces.",
            [Query(f"max by (instance, name, revision, sha256) ({metric('farpoint_model_info')})")],
            [("loaded", "short")],
            labels={"instance": "worker", "name": "model"},
            hidden=["Value"],
            span=6,
        ),
        rows(
            "Placement",
            "How many nodes of the model's graph each execution provider really runs. Beside a GPU the CPU has a few.",
            [Query(f"max by (instance, provider) ({metric('farpoint_model_nodes')})")],
            [("nodes", "short")],
            labels={"instance": "worker", "provider": "execution provider"},
            span=6,
            runbook="execution-provider",
        ),
        graph(
            "Device busy",
            "Share of the time that the device works, GPU or CPU alike. Near 100 % another device helps.",
            [
                Query(
                    f"sum by (instance) (rate({metric('farpoint_inference_seconds_sum')}[$__rate_interval]))",
                    "{{instance}}",
                )
            ],
            unit="percentunit",
            span=6,
            most=1,
        ),
    ]


def _scored() -> list[Panel]:
    return [
        graph(
            "Vectors decided",
            "Vectors whose decision was delivered.",
            [Query(per_second("farpoint_vectors_assigned_total"), "vectors")],
            unit="reqps",
            runbook="nothing-decided",
        ),
        graph(
            "Time to score and learn a record",
            "One record of the embeddings topic, with all its vectors.",
            quantiles("farpoint_scoring_seconds", 0.5, 0.95, 0.99),
            unit="s",
        ),
        graph(
            "Scoring, per vector",
            "Time to score and learn divided by vectors.",
            [Query(_per("farpoint_scoring_seconds_sum", "farpoint_vectors_assigned_total"), "per vector")],
            unit="s",
        ),
    ]


def _delivered() -> list[Panel]:
    return [
        graph(
            "Decision latency by topic",
            "From the record's timestamp to the delivered decision: 95 % take less.",
            [Query(quantile(0.95, "farpoint_decision_latency_seconds", "topic"), "{{topic}}")],
            unit="s",
            limit=30,
            runbook="lag",
        ),
        graph(
            "Alerts delivered",
            "Outlier alerts.",
            [Query(per_second("farpoint_outlier_alerts_total"), "alerts")],
            unit="reqps",
            runbook="outlier-storm",
        ),
        graph(
            "Age of the checkpoint",
            "Since a worker last saved its detectors. It grows while nothing comes, too: no news, nothing to save.",
            [
                Query(
                    f"time() - max by (instance) ({metric('farpoint_checkpoint_timestamp_seconds')} > 0)",
                    "{{instance}}",
                )
            ],
            unit="s",
            limit=300,
            runbook="checkpoint-old",
        ),
    ]


def _costs() -> list[Panel]:
    steps = ("decode", "inference", "scoring")
    return [
        graph(
            "Where the time goes",
            "Seconds of work per second, by step. The steps run side by side, so 300 % is possible on enough cores.",
            [Query(per_second(f"farpoint_{step}_seconds_sum"), step) for step in steps],
            unit="percentunit",
            stack=True,
        ),
        graph(
            "CPU",
            "Cores that each worker uses.",
            [
                Query(
                    f"sum by (instance) (rate({metric('process_cpu_seconds_total')}[$__rate_interval]))",
                    "{{instance}}",
                )
            ],
            unit="short",
        ),
        graph(
            "Memory",
            "Resident memory of each worker. It does not grow with lag; it does with detectors.",
            [Query(f"max by (instance) ({metric('process_resident_memory_bytes')})", "{{instance}}")],
            unit="bytes",
        ),
    ]
