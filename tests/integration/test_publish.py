"""`farpoint publish` as a stranger runs it, against a real Kafka, read back by a plain consumer."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import kafka as kafka_python
import numpy as np
import pytest
from kafka.admin import NewTopic
from tests.media_files import picture, video

TIMEOUT = 120  # a slow machine's, before a test is given up


@dataclass
class Site:
    """A Kafka with media topics that no other test sees, and the command line beside it."""

    bootstrap: str
    domain: str
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FARPOINT_")}
        self.environment = kept | {
            "FARPOINT_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap,
            "FARPOINT_TOPICS__DOMAIN": self.domain,
        }

    def create_topics(self, *datasets: str) -> None:
        """Create topics with the broker's own limits."""
        admin = kafka_python.KafkaAdminClient(bootstrap_servers=self.bootstrap)
        limit = {"max.message.bytes": str(2**23)}
        admin.create_topics([NewTopic(f"{self.domain}.{name}.v1", 4, 1, topic_configs=limit) for name in datasets])
        admin.close()

    def command(self, *arguments: str | Path) -> list[str]:
        """Return the command line."""
        return [sys.executable, "-m", "farpoint.cli", "publish", *map(str, arguments)]

    def publish(self, *arguments: str | Path, **settings: str) -> "subprocess.CompletedProcess[str]":
        """Run `farpoint publish` to its end."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment | settings,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    def records(self, dataset: str) -> list[Any]:
        """Return everything in a topic, in the order of its partitions."""
        consumer = kafka_python.KafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=None, max_partition_fetch_bytes=2**23, check_crcs=True
        )
        try:
            partitions = [kafka_python.TopicPartition(f"{self.domain}.{dataset}.v1", number) for number in range(4)]
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            ends = consumer.end_offsets(partitions)
            records: list[Any] = []
            while len(records) < sum(ends.values()):
                for batch in consumer.poll(timeout_ms=1000).values():
                    records += batch
        finally:
            consumer.close()
        return sorted(records, key=lambda record: (record.partition, record.offset))


def headers(record: Any) -> dict[str, str]:
    """Return a record's headers as text."""
    return {name: value.decode() for name, value in record.headers}


@pytest.fixture
def site(kafka: str, unique_domain: str) -> Site:
    """Media topics of the test's own."""
    site = Site(kafka, unique_domain)
    site.create_topics("images", "frames")
    return site


def test_images_arrive_byte_for_byte(site: Site, tmp_path: Path) -> None:
    """Picture files of every format arrive as they are on disk, with their headers, once each."""
    files = [
        picture(tmp_path / f"hall/{n}/p.{kind}", n) for n, kind in enumerate(("jpg", "png", "webp", "bmp", "tiff"))
    ]
    done = site.publish(tmp_path / "hall")
    assert (done.returncode, done.stdout.splitlines()[-1], done.stderr) == (0, "published 5 images", "")
    records = site.records("images")
    assert sorted(record.value for record in records) == sorted(file.read_bytes() for file in files)
    by_subject = {headers(record)["ce_subject"]: record for record in records}
    assert set(by_subject) == {"0/p.jpg", "1/p.png", "2/p.webp", "3/p.bmp", "4/p.tiff"}
    for subject, record in by_subject.items():
        known = headers(record)
        assert record.key is None
        assert (known["ce_source"], known["ce_type"], known["ce_specversion"]) == ("hall", "farpoint.image.v1", "1.0")
        assert known["content-type"] == f"image/{Path(subject).suffix[1:].replace('jpg', 'jpeg')}"
        taken = datetime.fromisoformat(known["ce_time"]).timestamp()
        assert taken == pytest.approx((tmp_path / "hall" / subject).stat().st_mtime, abs=0.002)


def test_frames_arrive_in_order(site: Site, tmp_path: Path) -> None:
    """Three videos at once arrive with all their frames, each under its own source, in order, in one partition."""
    for name, frames in (("a.mp4", 12), ("b.avi", 9), ("c.avi", 5)):
        video(tmp_path / name, frames)
    done = site.publish(tmp_path / "a.mp4", tmp_path / "b.avi", tmp_path / "c.avi")
    assert (done.returncode, done.stdout.splitlines()[-1], done.stderr) == (0, "published 26 frames", "")
    records = site.records("frames")
    for source, frames in (("a", 12), ("b", 9), ("c", 5)):
        own = [record for record in records if record.key == source.encode()]
        known = [headers(record) for record in own]
        assert [one["ce_frameindex"] for one in known] == [str(index) for index in range(frames)]
        assert {(one["ce_source"], one["ce_type"], one["content-type"]) for one in known} == {
            (source, "farpoint.frame.v1", "image/jpeg")
        }
        assert len({record.partition for record in own}) == 1
        times = [datetime.fromisoformat(one["ce_time"]) for one in known]
        assert all(0.09 < (after - before).total_seconds() < 0.11 for before, after in pairwise(times))
        for index, record in enumerate(own):
            decoded = cv2.imdecode(np.frombuffer(record.value, np.uint8), cv2.IMREAD_COLOR)
            assert decoded is not None
            assert decoded.shape == (48, 64, 3)
            assert abs(float(decoded.mean()) - 20 * index) < 8
    assert len({headers(record)["ce_id"] for record in records}) == 26


def test_published_again_is_recognised(site: Site, tmp_path: Path) -> None:
    """The same files published twice give the same ids and times, so that a reader sees each picture once."""
    video(tmp_path / "in/a.avi")
    picture(tmp_path / "in/p.jpg")
    for _ in range(2):
        assert site.publish(tmp_path / "in").returncode == 0
    for dataset, count in (("frames", 5), ("images", 1)):
        records = site.records(dataset)
        assert len(records) == 2 * count
        assert len({(headers(record)["ce_id"], headers(record)["ce_time"]) for record in records}) == count


def test_what_cannot_be_published_is_named_and_the_rest_goes_on(site: Site, tmp_path: Path) -> None:
    """Each thing that cannot be read is named on stderr and makes exit 1; the good ones arrive."""
    folder = tmp_path / "in"
    good = picture(folder / "good.png")
    video(folder / "good.avi")
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("hello", encoding="utf-8")
    (folder / "cut.jpg").write_bytes(picture(tmp_path / "whole.jpg").read_bytes()[:-2])
    (folder / "broken.mp4").write_bytes(b"\x00\x00\x00\x1cftypisom" + bytes(900))
    whole = video(tmp_path / "whole.avi", 20).read_bytes()
    (folder / "cut.avi").write_bytes(whole[: len(whole) * 4 // 5])
    done = site.publish("--json", folder, tmp_path / "missing", "/dev/null", "rtsp://me:hunter2@127.0.0.1:1/x")
    result = json.loads(done.stdout)
    reasons = {Path(failed["path"]).name: failed["reason"] for failed in result["failed"]}
    assert done.returncode == 1
    assert set(reasons) == {"empty.jpg", "text.jpg", "cut.jpg", "broken.mp4", "cut.avi", "missing", "null", "x"}
    assert "cut off" in reasons["cut.jpg"]
    assert "cut off" in reasons["cut.avi"]
    assert len(done.stderr.splitlines()) == len(result["failed"])
    assert all(f"{failed['path']}: {failed['reason']}" in done.stderr for failed in result["failed"])
    assert "hunter2" not in done.stderr + done.stdout
    assert [record.value for record in site.records("images")] == [good.read_bytes()]
    frames = [headers(record)["ce_subject"] for record in site.records("frames")]
    assert frames.count("good.avi") == 5
    assert (result["images"], result["frames"], result["published"]) == (1, len(frames), 1 + len(frames))


def test_oversized_record_is_named_before_sending(site: Site, tmp_path: Path) -> None:
    """A picture over the limit is named with the limit, and its neighbours arrive; one just below it does too."""
    noise = np.random.default_rng(0).integers(0, 255, (800, 900, 3), dtype=np.uint8)
    for name, rows in (("large.bmp", 800), ("fits.bmp", 770)):
        cv2.imwrite(str(tmp_path / name), noise[:rows])
    small = picture(tmp_path / "small.jpg")
    done = site.publish(tmp_path, FARPOINT_MEDIA__MAX_RECORD_BYTES="2097152")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "published 2 images; 1 failed"
    assert "large.bmp: a record of 2,160,054 bytes; at most 2,097,152" in done.stderr
    values = {record.value for record in site.records("images")}
    assert values == {small.read_bytes(), (tmp_path / "fits.bmp").read_bytes()}


def test_options(site: Site, tmp_path: Path) -> None:
    """--source, --every, --topic and --quality do what they say, and --fps loses nothing."""
    path = video(tmp_path / "a.avi", 10)
    done = site.publish(
        path, "--source", "gate", "--every", "3", "--topic", "images", "--quality", "5", "--fps", "200", "--json"
    )
    assert json.loads(done.stdout)["images"] == 4
    records = site.records("images")
    assert sorted(headers(record)["ce_frameindex"] for record in records) == ["0", "3", "6", "9"]
    assert {headers(record)["ce_source"] for record in records} == {"gate"}
    assert site.publish(path).returncode == 0
    assert max(len(record.value) for record in records) < min(len(record.value) for record in site.records("frames"))


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_loop_until_stopped(site: Site, tmp_path: Path, stop: signal.Signals) -> None:
    """--loop starts over with new ids until Ctrl-C, which says how many were acknowledged and exits 130."""
    path = video(tmp_path / "a.avi")
    process = subprocess.Popen(
        site.command(path, "--loop", "--fps", "100", "--json"), env=site.environment, stdout=subprocess.PIPE, text=True
    )
    try:
        while len(site.records("frames")) < 12:
            assert process.poll() is None
        process.send_signal(stop)
        output, _ = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
    records = site.records("frames")
    assert process.returncode == 130
    assert json.loads(output)["frames"] == len(records) >= 12
    assert len({headers(record)["ce_id"] for record in records}) == len(records)
    assert [headers(record)["ce_frameindex"] for record in records[:7]] == ["0", "1", "2", "3", "4", "0", "1"]


def test_missing_topic(kafka: str, unique_domain: str, tmp_path: Path) -> None:
    """Without topics the command ends with one line that says what to run, and creates none."""
    site = Site(kafka, unique_domain)
    done = site.publish(picture(tmp_path / "a.jpg"))
    assert (done.returncode, done.stdout) == (1, "published nothing\n")
    assert done.stderr == f"farpoint: there is no topic {unique_domain}.images.v1: run `farpoint topics apply`\n"
    admin = kafka_python.KafkaAdminClient(bootstrap_servers=kafka)
    assert not [topic for topic in admin.list_topics() if topic.startswith(unique_domain)]
    admin.close()


def test_no_kafka(tmp_path: Path) -> None:
    """Without a broker the command ends with one line that says so, in bounded time."""
    done = Site("127.0.0.1:1", "vision").publish(picture(tmp_path / "a.jpg"))
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("farpoint: no Kafka answers at 127.0.0.1:1")
