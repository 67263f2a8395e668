"""The Java example of docs/clients.md, compiled and run."""

import os
import subprocess
from pathlib import Path

from tests.deploy.deploy_programs import program
from tests.integration.test_clients_doc import examples, mine, publish_alert
from tests.integration.worker_process import Topics, unique_name

from farpoint.child_process import ChildProcess
from farpoint.local_kafka.runtime import KafkaRuntime

OPTIONS = ("-Xlint:all", "-Werror", "--release", "17", "-proc:none")


def test_the_example_prints_each_alert_once(kafka: str, tmp_path: Path) -> None:
    """With the page's code, but for address, topic and group: an alert that comes twice is printed once."""
    runtime = KafkaRuntime.find()
    jars = os.pathsep.join(str(jar) for jar in runtime.jars)
    with Topics(kafka, unique_name("t")) as topics:
        (example,) = examples("java")
        source = tmp_path / "Alerts.java"
        source.write_text(mine(example, topics).replace("my-java-pager", topics.domain), encoding="utf-8")
        compiled = subprocess.run(
            [
                program("javac"),
                "-Xlint:all",
                "-Werror",
                "--release",
                "17",
                "-proc:none",
                "-cp",
                jars,
                "-d",
                tmp_path,
                source,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert compiled.returncode == 0, compiled.stdout + compiled.stderr
        identity = publish_alert(topics)
        publish_alert(topics)
        topics.publish_all(topics.names.alerts, [("cam-1", b"that is all", [("ce_id", b"end")])])
        command = [str(runtime.java), "-cp", f"{tmp_path}{os.pathsep}{jars}", "Alerts"]
        with ChildProcess(command, name="Alerts", error_output=tmp_path / "stderr", grace_seconds=1.0) as alerts:
            seen = []
            for line in alerts.lines():
                seen.append(line)
                if line == "cam-1 that is all":  # of the same key, so behind both
                    break
        assert len(seen) == 2
        assert identity in seen[0]
