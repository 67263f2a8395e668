"""`make fuzz`: the full run. `--target NAME --first N --count 1` tries one input again."""

import argparse
import sys

from tests.fuzz.run import attack
from tests.fuzz.targets import targets


def main() -> int:
    """Attack every door, and print a report; 1 where anything was not as it must be."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the mutations (SEED=)")
    parser.add_argument("--count", type=int, default=3000, help="inputs for each door (COUNT=)")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--target", choices=list(targets()), action="append", help="only this door")
    chosen = parser.parse_args()
    print("| door | inputs | taken | refused | wrong |\n| --- | --- | --- | --- | --- |", flush=True)
    reports = []
    for name in chosen.target or targets():
        report = attack(name, chosen.seed, chosen.count, chosen.first)
        reports.append(report)
        wrong = len(report.problems)
        print(f"| {name} | {report.tried} | {report.taken} | {report.tried - report.taken} | {wrong} |", flush=True)
    for report in reports:
        for number, problem in report.problems.items():
            print(f"\nNOT AS IT MUST BE: {report.target}, input {number}: {problem}")
            print(
                f"again: python -m tests.fuzz --seed {report.seed} --target {report.target} --first {number} --count 1"
            )
    return 1 if any(report.problems for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
