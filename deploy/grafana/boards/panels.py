"""The kinds of panel that the boards are made of, in one style."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders import common, heatmap, prometheus, stat, table, text, timeseries
from grafana_foundation_sdk.builders.dashboard import DashboardLink, ThresholdsConfig
from grafana_foundation_sdk.models.common import (
    AxisPlacement,
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    GraphDrawStyle,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    SpecialValueMap,
    SpecialValueMatch,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode, HeatmapColorScale
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.text import TextMode

from boards.promql import Query

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHT = 8
# Bars and heat maps say how many in each step; of a minute or more, so that a step holds several scrapes.
LEAST_STEP = "1m"
_REFS = "ABCDEF"

Step = tuple[float | None, str]
"""From which value on, and the colour; the first begins at None."""
Panel = timeseries.Panel | stat.Panel | heatmap.Panel | table.Panel | text.Panel


def graph(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    unit: str,
    span: int = 8,
    bars: bool = False,
    stack: bool = False,
    most: float | None = None,
    limit: float | None = None,
    runbook: str | None = None,
) -> timeseries.Panel:
    """Lines over time, or with `bars` what fell into each step; `limit` draws the line that an alert is about."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .min(0)
        .span(span)
        .height(HEIGHT)
        .line_width(1)
        .fill_opacity(60 if bars else 10)
        .show_points(VisibilityMode.NEVER)
        .draw_style(GraphDrawStyle.BARS if bars else GraphDrawStyle.LINE)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if stack or bars:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    if bars:
        panel.interval(LEAST_STEP)
    if most is not None:
        panel.max(most)
    if limit is not None:
        panel.thresholds(_thresholds([(None, "transparent"), (limit, "red")]))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    for number, query in enumerate(queries):
        panel.with_target(_target(query, number))
    if runbook:
        panel.links([_runbook(runbook)])
    return panel


def number(
    title: str,
    description: str,
    query: Query,
    *,
    unit: str,
    steps: Sequence[Step] = ((None, "text"),),
    words: dict[str, str] | None = None,
    name: bool = False,
    decimals: int | None = None,
    span: int = 3,
    runbook: str | None = None,
) -> stat.Panel:
    """One number, coloured by its size; `words` say it in words, with `name` the series' name is shown in its place."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .span(span)
        .height(4)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(steps))
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.NONE)
        .text_mode(BigValueTextMode.NAME if name else BigValueTextMode.AUTO)
        .with_target(_target(query))
    )
    mappings: list[ValueMapping] = [
        SpecialValueMap(
            options={"match": SpecialValueMatch.NULL_AND_NAN, "result": ValueMappingResult(text="not known")}  # type: ignore[arg-type]
        )
    ]
    if words:
        mappings.append(ValueMap(options={value: ValueMappingResult(text=word) for value, word in words.items()}))
    panel.mappings(mappings)
    if decimals is not None:
        panel.decimals(decimals)
    if runbook:
        panel.links([_runbook(runbook)])
    return panel


def heat(title: str, description: str, query: Query, *, unit: str, span: int = 12) -> heatmap.Panel:
    """How the values of a histogram are spread, over time."""
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit("short")
        .span(span)
        .height(HEIGHT)
        .interval(LEAST_STEP)
        .calculate(False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .scale(HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
        )
        .cell_gap(1)
        .y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(AxisPlacement.LEFT))
        .show_legend()
        .with_target(_target(query).format(PromQueryFormat.HEATMAP))
    )


def rows(
    title: str,
    description: str,
    queries: Sequence[Query],
    columns: Sequence[tuple[str, str]],
    *,
    labels: dict[str, str],
    hidden: Sequence[str] = (),
    span: int = 8,
    runbook: str | None = None,
) -> table.Panel:
    """Show a table: a row for each combination of labels, a column for each query, with its name and unit."""
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit("short")
        .span(span)
        .height(HEIGHT)
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": dict.fromkeys(["Time", *hidden], True),
                    "renameByName": labels
                    | {_value(number, queries): name for number, (name, _) in enumerate(columns)},
                },
            )
        )
    )
    for number, query in enumerate(queries):
        panel.with_target(_target(query, number).instant().format(PromQueryFormat.TABLE))
    for name, unit in columns:
        panel.override_by_name(name, [DynamicConfigValue(id_val="unit", value=unit)])
    if runbook:
        panel.links([_runbook(runbook)])
    return panel


def words(title: str, description: str, markdown: str, *, span: int = 8) -> text.Panel:
    """Say something that no query can."""
    return (
        text.Panel()
        .title(title)
        .description(description)
        .span(span)
        .height(HEIGHT)
        .mode(TextMode.MARKDOWN)
        .content(markdown)
    )


def _value(number: int, queries: Sequence[Query]) -> str:
    return f"Value #{_REFS[number]}" if len(queries) > 1 else "Value"


def _target(query: Query, number: int = 0) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .ref_id(_REFS[number])
        .expr(query.expr)
        .legend_format(query.legend or "__auto")
        .datasource(DATASOURCE)
    )


def _thresholds(steps: Sequence[Step]) -> ThresholdsConfig:
    return (
        ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=value, color=color) for value, color in steps])
    )


def _runbook(name: str) -> DashboardLink:
    # The title says where it is in the checkout, for those who have not set the address.
    return (
        DashboardLink(f"Runbook: docs/runbooks/{name}.md")
        .type(DashboardLinkType.LINK)
        .url(f"${{runbooks}}/{name}.md")
        .target_blank(True)
    )
