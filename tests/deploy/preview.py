"""`make boards-preview`: pictures of the boards, of a worker under load, in build/boards."""

import sys
import tempfile
from pathlib import Path

from tests.deploy.observed import observed, wait_until_filled

from boards.preview import draw_all
from farpoint.local_kafka.launcher import KafkaLauncher
from farpoint.ports import free_ports


def main(folder: Path) -> None:
    """Draw the boards of two minutes."""
    with tempfile.TemporaryDirectory(prefix="farpoint-preview-") as name:
        [port] = free_ports(1)
        with KafkaLauncher(Path(name) / "kafka", port=port), observed(f"127.0.0.1:{port}", Path(name)) as seen:
            wait_until_filled(seen, 100.0)
            for file in draw_all(seen.queries, folder):
                sys.stdout.write(f"{file}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/boards"))
