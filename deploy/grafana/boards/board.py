"""What every board has: a fixed uid, variables for data source, job and instance, alerts as marks, links to others."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    ConstantVariable,
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
)
from grafana_foundation_sdk.models import dashboard
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    VariableHide,
    VariableOption,
    VariableRefresh,
    VariableType,
)

from boards.panels import DATASOURCE, Panel

RUNBOOKS = "docs/runbooks"


def board(
    name: str, title: str, description: str, rows: Sequence[tuple[str, Sequence[Panel]]], runbooks: str = RUNBOOKS
) -> dashboard.Dashboard:
    """Build a board.

    Parameters
    ----------
    name
        Its uid is `farpoint-<name>`: addresses of boards do not change.
    title, description
        For people.
    rows
        (title, panels) from top to bottom.
    runbooks
        What the links to runbooks begin with.
    """
    made = (
        Dashboard(f"Farpoint / {title}")
        .uid(f"farpoint-{name}")
        .description(description)
        .tags(["farpoint"])
        .readonly()
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_label("job", 'label_values(up{job=~".*farpoint.*"}, job)'))
        .with_variable(_label("instance", 'label_values(up{job=~"$job"}, instance)'))
        .with_variable(ConstantVariable("runbooks").value(runbooks))
        .annotation(
            AnnotationQuery()
            .name("Alerts")
            .datasource(DATASOURCE)
            .enable(True)
            .icon_color("red")
            .expr('ALERTS{alertstate="firing", alertname=~"Farpoint.+", job=~"$job"}')
        )
        .link(
            DashboardLink("Farpoint")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["farpoint"])
            .include_vars(True)
            .keep_time(True)
        )
    )
    for row_title, panels in rows:
        made.with_row(Row(row_title))
        for panel in panels:
            made.with_panel(panel)
    built = made.build()
    for number, placed in enumerate(built.panels or [], 1):
        placed.id_val = number
    for variable in built.templating.list_val or []:
        if variable.type_val == VariableType.CONSTANT:
            variable.hide = VariableHide.HIDE_VARIABLE
    return built


def _label(label: str, query: str) -> QueryVariable:
    # "All" stands for the values found: with `.+` for all, `up` and `process_*` of everybody else would come along.
    return (
        QueryVariable(label)
        .label(label.capitalize())
        .datasource(DATASOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )
