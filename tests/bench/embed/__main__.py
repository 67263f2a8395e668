"""The tables on the CPU: `make bench-embed`."""

import sys

from tests.bench.embed.plan import plan_for
from tests.bench.embed.report import report

if __name__ == "__main__":
    report("cpu", plan_for("cpu", sys.argv[1:]))
