"""Pictures of the boards without Grafana: each panel's queries, asked of a Prometheus, plotted where the panel lies.

    python -m boards.preview --prometheus http://127.0.0.1:9090 --minutes 30 [FOLDER]

It reads the committed JSON, so it shows what the boards ask, not how Grafana draws it.
"""

import argparse
import json
import re
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

FOLDER = Path(__file__).parents[1] / "dashboards"
_UNITS = 24
_PICTURE_WIDTH = 24.0
_ROW_HEIGHT = 0.42
_MOST_NAMED = 10

Panel = dict[str, Any]


@dataclass(frozen=True)
class Series:
    """What a query returned: a name, its labels, moments in seconds and values."""

    name: str
    labels: dict[str, str]
    times: np.ndarray
    values: np.ndarray


class PanelQueries:
    """Asks a Prometheus what a panel would ask it.

    Parameters
    ----------
    address
        `http://host:port`.
    seconds
        How far back from now.
    step, rate_interval
        Seconds, in place of Grafana's variables.
    job
        In place of the variable `job`.
    """

    def __init__(
        self, address: str, seconds: float, step: float, rate_interval: float, job: str = ".*farpoint.*"
    ) -> None:
        self._address = address
        self._seconds = seconds
        self._step = step
        self._variables = {
            "__rate_interval": f"{round(rate_interval)}s",
            "__interval_ms": f"{step * 1000:.0f}",
            "__range": f"{round(seconds)}s",
            "job": job,
            "instance": ".+",
        }

    def expression(self, text: str) -> str:
        """Put values in the place of Grafana's variables; raises KeyError for one that is not known."""
        return re.sub(r"\$(\w+)", lambda found: self._variables[found[1]], text)

    def ask(self, target: dict[str, Any]) -> list[Series]:
        """Return what a panel's target shows; only its last value where it asks for that."""
        now = time.time()
        query = {"query": self.expression(target["expr"])}
        if target.get("instant"):
            found = self._get("query", query | {"time": f"{now}"})
        else:
            times = {"start": f"{now - self._seconds}", "end": f"{now}", "step": f"{self._step}"}
            found = self._get("query_range", query | times)
        return [_series(each, target.get("legendFormat", "")) for each in found]

    def _get(self, path: str, query: dict[str, str]) -> list[dict[str, Any]]:
        address = f"{self._address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=30) as answer:
            return list(json.load(answer)["data"]["result"])


def _series(found: dict[str, Any], legend: str) -> Series:
    labels = {name: value for name, value in found["metric"].items() if name != "__name__"}
    pairs = np.array(found.get("values") or [found["value"]], dtype=float)
    if legend in {"", "__auto"}:
        name = ", ".join(labels.values())
    else:
        name = re.sub(r"{{(\w+)}}", lambda label: labels.get(label[1], ""), legend)
    return Series(name, labels, pairs[:, 0], pairs[:, 1])


def data_panels(board: dict[str, Any]) -> list[Panel]:
    """Return a board's panels that ask for something."""
    return [panel for panel in board["panels"] if panel.get("targets")]


def draw_board(board: dict[str, Any], queries: PanelQueries) -> Figure:
    """Draw a board, each panel where Grafana has it."""
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    figure = pyplot.figure(figsize=(_PICTURE_WIDTH, rows * _ROW_HEIGHT), facecolor="white")
    figure.suptitle(board["title"], fontsize=16, x=0.01, ha="left", y=0.998)
    for panel in board["panels"]:
        at = panel["gridPos"]
        bottom = 1 - (at["y"] + at["h"]) / (rows + 1) - 0.5 / (rows + 1)
        height = at["h"] / (rows + 1)
        left, width = at["x"] / _UNITS, at["w"] / _UNITS
        if panel["type"] == "row":
            figure.text(0.01, bottom + height * 0.3, panel["title"], fontsize=13, weight="bold")
            continue
        inner = (left + 0.03, bottom + 0.9 / (rows + 1), width - 0.04, height - 2.1 / (rows + 1))
        axes = figure.add_axes(inner)
        axes.set_title(panel["title"], fontsize=10, loc="left")
        _DRAW[panel["type"]](axes, panel, queries)
    return figure


def _timeseries(axes: Axes, panel: Panel, queries: PanelQueries) -> None:
    custom = panel["fieldConfig"]["defaults"].get("custom", {})
    found = [series for target in panel["targets"] for series in queries.ask(target)]
    base: dict[float, float] = {}
    now = time.time()
    for series in found:
        moments = series.times - now
        if custom.get("drawStyle") == "bars":
            bottoms = [base.get(moment, 0.0) for moment in series.times]
            width = float(np.min(np.diff(moments))) * 0.9 if len(moments) > 1 else 1.0
            axes.bar(moments, series.values, width=width, bottom=bottoms, label=series.name)
            base |= dict(zip(series.times, bottoms + series.values, strict=True))
        else:
            axes.plot(moments, series.values, linewidth=1.2, label=series.name, marker="." if len(moments) < 2 else "")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f} s")
    axes.tick_params(labelsize=7)
    axes.yaxis.set_major_formatter(lambda value, _: _shown(value, _unit(panel)))
    axes.margins(y=0.1)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if 0 < len(found) <= _MOST_NAMED:
        axes.legend(fontsize=6, loc="upper left", ncols=2)


def _heatmap(axes: Axes, panel: Panel, queries: PanelQueries) -> None:
    found = sorted(queries.ask(panel["targets"][0]), key=lambda series: float(series.labels["le"]))
    moments = sorted({moment for series in found for moment in series.times})
    below = np.array([[dict(zip(s.times, s.values, strict=True)).get(m, 0.0) for m in moments] for s in found])
    inside = np.diff(below, axis=0, prepend=0)
    axes.pcolormesh(np.clip(inside, 0, None) ** 0.5, cmap="Oranges", edgecolors="white", linewidth=0.2)
    axes.set_yticks(np.arange(len(found)) + 1, [series.labels["le"] for series in found], fontsize=6)
    axes.set_xticks([])


def _stat(axes: Axes, panel: Panel, queries: PanelQueries) -> None:
    axes.axis("off")
    found = queries.ask(panel["targets"][0])
    named = panel["options"]["textMode"] == "name"
    texts = [series.name if named else _mapped(float(series.values[-1]), panel) for series in found]
    axes.text(0.5, 0.4, "\n".join(texts) or "no data", fontsize=11 if named else 18, ha="center", va="center")


def _mapped(value: float, panel: Panel) -> str:
    for mapping in panel["fieldConfig"]["defaults"].get("mappings", []):
        if mapping["type"] == "special" and np.isnan(value):
            return str(mapping["options"]["result"]["text"])
        if mapping["type"] == "value" and f"{value:g}" in mapping["options"]:
            return str(mapping["options"][f"{value:g}"]["text"])
    return _shown(value, _unit(panel))


def _table(axes: Axes, panel: Panel, queries: PanelQueries) -> None:
    axes.axis("off")
    renamed = panel["transformations"][1]["options"]["renameByName"]
    hidden = panel["transformations"][1]["options"]["excludeByName"]
    units = {each["matcher"]["options"]: each["properties"][0]["value"] for each in panel["fieldConfig"]["overrides"]}
    rows: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    for target in panel["targets"]:
        value = f"Value #{target['refId']}" if len(panel["targets"]) > 1 else "Value"
        for series in queries.ask(target):
            row = rows.setdefault(tuple(sorted(series.labels.items())), dict(series.labels))
            row[value] = _shown(float(series.values[-1]), units.get(renamed.get(value, value), "short"))
    columns = [name for name in dict.fromkeys(name for row in rows.values() for name in row) if name not in hidden]
    if not columns:
        axes.text(0.5, 0.5, "no data", ha="center")
        return
    cells = [[row.get(name, "")[:34] for name in columns] for row in list(rows.values())[:12]]
    drawn = axes.table(cells, colLabels=[renamed.get(name, name) for name in columns], loc="upper left", cellLoc="left")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(7)


def _text(axes: Axes, panel: Panel, queries: PanelQueries) -> None:
    del queries
    axes.axis("off")
    axes.text(0, 1, panel["options"]["content"], fontsize=7, va="top", family="monospace")


_DRAW = {"timeseries": _timeseries, "heatmap": _heatmap, "stat": _stat, "table": _table, "text": _text}


def _unit(panel: Panel) -> str:
    return str(panel["fieldConfig"]["defaults"].get("unit", "short"))


def _shown(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{value * 100:.4g} %"
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 else f"{value * 1000:.3g} ms"
    if unit == "bytes":
        return f"{value / 2**20:.4g} MiB"
    if unit == "reqps":
        return f"{value:.3g}/s"
    if unit == "dateTimeFromNow":
        return f"{time.time() - value / 1000:.0f} s ago"
    return f"{value:.4g}"


def draw_all(queries: PanelQueries, folder: Path) -> list[Path]:
    """Draw every committed board into a PNG and return the files."""
    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for source in sorted(FOLDER.glob("*.json")):
        figure = draw_board(json.loads(source.read_text(encoding="utf-8")), queries)
        files.append(folder / f"{source.stem}.png")
        figure.savefig(files[-1], dpi=70)
        pyplot.close(figure)
    return files


def main() -> None:
    """Draw the boards of a Prometheus."""
    parser = argparse.ArgumentParser(prog="python -m boards.preview", description="Draw the boards without Grafana.")
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", help="its address (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=30.0, help="how far back (default: %(default)s)")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("build/boards"), help="default: %(default)s")
    options = parser.parse_args()
    seconds = options.minutes * 60
    step = max(60.0, seconds / 120)
    queries = PanelQueries(options.prometheus, seconds, step, rate_interval=step + 15.0)
    for file in draw_all(queries, options.folder):
        print(file)  # noqa: T201 -- what it was asked for


if __name__ == "__main__":
    main()
