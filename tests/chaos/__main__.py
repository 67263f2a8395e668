"""`make chaos`: the full run. A failing seed is run again with `make chaos SEED=...`."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import run


def main() -> int:
    """Run, and print a report; 1 where anything was not as it must be."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the script and the disruptions (SEED=)")
    parser.add_argument("--disruptions", type=int, default=100, help="how many (DISRUPTIONS=)")
    parser.add_argument("--brokers", type=int, choices=[1, 3], default=3, help="size of the cluster")
    parser.add_argument("--folder", type=Path, help="keep everything here: logs of workers and brokers")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}, {chosen.disruptions} disruptions, {chosen.brokers} brokers", flush=True)
    with tempfile.TemporaryDirectory(prefix="farpoint-chaos-") as scratch:
        report = run(
            chosen.seed,
            chosen.disruptions,
            chosen.folder or Path(scratch),
            brokers=chosen.brokers,
            say=lambda line: print(line, flush=True),
        )
    print(
        "\n| disruption | times |\n| --- | --- |\n"
        + "\n".join(f"| {kind} | {n} |" for kind, n in report.disruptions.items())
    )
    print(
        f"\n{report.accepted} records accepted, {report.decided} vectors decided, {report.repeated} records of "
        f"decisions repeated, {report.alerts} alerts, {report.dead_letters} dead letters, {report.seconds:.0f} s"
    )
    for line in report.ended:
        print(f"a worker ended by itself: {line}")
    for problem in report.problems:
        print(f"NOT AS IT MUST BE: {problem}")
    if report.problems:
        print(f"again: make chaos SEED={chosen.seed} DISRUPTIONS={chosen.disruptions}")
        return 1
    print("nothing lost, nothing decided differently, nothing left over")
    return 0


if __name__ == "__main__":
    sys.exit(main())
