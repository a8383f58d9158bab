"""A dashboard from its rows: variables, links and places that all dashboards share."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    Panel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from grafana import addresses
from grafana.colours import ORANGE, RED, SKY
from grafana.panels import PROMETHEUS, named

TAG = "bookshop"
# A time in the query goes before that of the page of the logs.
WINDOW = "_time:[${__from:date:iso}, ${__to:date:iso}] service.name:in(${service:doublequote})"
HANDLED = '{__name__=~"grpc_(client|server)_handled_total", job=~"$service"'

Row = tuple[str, Sequence[Builder[Panel]]]


def board(uid: str, title: str, about: str, rows: Sequence[Row], *, by_call: bool = True) -> Dashboard:
    """The dashboard; by_call says whether its calls can be narrowed by method and code."""
    builder = dashboard.Dashboard(title).uid(uid).description(about).tags([TAG]).readonly()
    builder.timezone("browser").time("now-15m", "now").refresh("10s").tooltip(DashboardCursorSync.CROSSHAIR)
    builder.with_variable(_variable("service", "label_values(telemetry_spans_exported_total, job)"))
    if by_call:
        builder.with_variable(_variable("method", f"label_values({HANDLED}}}, grpc_method)", every=".*"))
        codes = f'label_values({HANDLED}, grpc_method=~"$method"}}, grpc_code)'
        builder.with_variable(_variable("code", codes, every=".*"))
    for link in _links():
        builder.link(link)
    for annotation in _annotations():
        builder.annotation(annotation)
    for name, panels in rows:
        builder.with_row(dashboard.Row(name))
        for panel in panels:
            builder.with_panel(panel)
    built = builder.build()
    for number, part in enumerate(built.panels or [], start=1):
        part.id_val = number
    return built


def _variable(name: str, query: str, every: str = "") -> dashboard.QueryVariable:
    variable = dashboard.QueryVariable(name).label(name.capitalize()).datasource(PROMETHEUS)
    variable.query({"qryType": 1, "query": query, "refId": f"variable-{name}"}).definition(query)
    variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)
    if every:
        variable.all_value(every)
    variable.current(VariableOption(selected=True, text=["All"], value=["$__all"]))
    return variable.multi(True).include_all(True)


def _annotations() -> list[dashboard.AnnotationQuery]:
    """The moments that explain a change of a line, as marks on every graph."""
    restarts = named('(changes(process_start_time_seconds{job=~"$service"}[1m]) > 0)')
    version = "group by (service_name, service_version)"
    return [
        _annotation("Alerts", 'ALERTS{alertstate="firing", severity!="none"}', "{{alertname}} {{job}}", RED),
        _annotation("Restarts", restarts, "restart of {{job}} {{host_name}}", ORANGE),
        _annotation(
            "Releases",
            f"{version} (target_info) unless {version} (target_info offset 1m)",
            "{{service_name}} {{service_version}}",
            SKY,
        ),
    ]


def _annotation(name: str, expression: str, title: str, colour: str) -> dashboard.AnnotationQuery:
    query = dashboard.AnnotationQuery().name(name).datasource(PROMETHEUS).enable(True)
    return query.expr(expression).title_format(title).icon_color(colour).step("10s")


def _links() -> list[dashboard.DashboardLink]:
    others = dashboard.DashboardLink("Dashboards").type(DashboardLinkType.DASHBOARDS).tags([TAG])
    return [
        others.keep_time(True).include_vars(True).as_dropdown(False),
        _outside("Traces (Jaeger)", f"{addresses.JAEGER}/search"),
        _outside("Logs of this time (VictoriaLogs)", addresses.lines(WINDOW)),
        _outside("Rules (Prometheus)", f"{addresses.PROMETHEUS}/alerts"),
        _outside("Alerts (Alertmanager)", f"{addresses.ALERTMANAGER}/#/alerts"),
    ]


def _outside(title: str, url: str) -> dashboard.DashboardLink:
    link = dashboard.DashboardLink(title).type(DashboardLinkType.LINK).icon("external link")
    return link.url(url).target_blank(True)
