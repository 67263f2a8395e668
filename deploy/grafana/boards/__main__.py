"""Writes the boards: `python -m boards [--runbooks ADDRESS] [FOLDER]`, by default into `dashboards/`."""

import argparse
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from boards import detector, kafka, overview, pipeline
from boards.board import RUNBOOKS, board

BOARDS = {"overview": overview, "pipeline": pipeline, "detector": detector, "kafka": kafka}
FOLDER = Path(__file__).parents[1] / "dashboards"


def board_json(name: str, runbooks: str = RUNBOOKS) -> str:
    """Return a board as Grafana reads it."""
    module = BOARDS[name]
    made = board(name, module.TITLE, module.DESCRIPTION, module.panels(), runbooks)
    return JSONEncoder(sort_keys=True, indent=2).encode(made) + "\n"


def main() -> None:
    """Write each board into a file."""
    parser = argparse.ArgumentParser(prog="python -m boards", description="Write Grafana's boards.")
    parser.add_argument("--runbooks", default=RUNBOOKS, help="what links to runbooks begin with (default: %(default)s)")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="where to (default: %(default)s)")
    options = parser.parse_args()
    for name in BOARDS:
        (options.folder / f"{name}.json").write_text(board_json(name, options.runbooks), encoding="utf-8")


if __name__ == "__main__":
    main()
