"""The kinds of panel that the dashboards are made of, each with what all of them have in common."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    table,
    text,
    timeseries,
)
from grafana_foundation_sdk.models.common import (
    AxisPlacement,
    BigValueColorMode,
    BigValueGraphMode,
    DataSourceRef,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.text import TextMode

from grafana import colours

PROMETHEUS = DataSourceRef(type_val="prometheus", uid="prometheus")
FULL, HALF, THIRD = 24, 12, 8

Limits = Sequence[tuple[float, str]]


class Query(NamedTuple):
    """A query of Prometheus; the legend is Grafana's template of labels, exemplars are the way to traces."""

    expr: str
    legend: str = ""
    exemplars: bool = False


def graph(
    title: str,
    about: str,
    unit: str,
    *queries: Query,
    shades: Mapping[str, str],
    width: int = THIRD,
    stacked: bool = False,
    limits: Limits = (),
    top: float | None = None,
    link: str = "",
    empty: str = "",
) -> timeseries.Panel:
    """Lines over time, in the shades of a table of colours.py.

    limits are drawn as dashed lines; the axis goes from 0 at least to top; link is where a click leads;
    empty is what it says where there is no line.
    """
    panel = timeseries.Panel().title(title).description(about).unit(unit).span(width).height(7)
    panel.datasource(PROMETHEUS).axis_soft_min(0).line_width(2).fill_opacity(60 if stacked else 8)
    panel.show_points(VisibilityMode.NEVER).legend(_legend()).tooltip(_tooltip())
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if limits:
        panel.thresholds(_thresholds(limits, below="transparent"))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    if top is not None:
        panel.axis_soft_max(top)
    if empty:
        panel.no_value(empty)
    if link:
        panel.data_links([dashboard.DashboardLink("Show these calls").url(link)])
    # Grafana lets the last override win.
    for start, colour in reversed(list(shades.items())):
        panel.override_by_regexp(colours.pattern(start), [_fixed(colour)])
    for target in _targets(queries):
        panel.with_target(target.range())
    return panel


def number(
    title: str,
    about: str,
    unit: str,
    query: Query,
    *,
    limits: Limits = (),
    below: str = colours.GOOD,
    decimals: int | None = None,
    meanings: Mapping[str, str] | None = None,
    empty: str = "no traffic",
    height: int = 4,
) -> stat.Panel:
    """One number, as it is now.

    It has the colour of the last limit that it reaches, or the one for below; meanings are words for values,
    empty is the word for no value.
    """
    panel = stat.Panel().title(title).description(about).unit(unit).span(4).height(height)
    panel.datasource(PROMETHEUS).thresholds(_thresholds(limits, below)).no_value(empty)
    panel.color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
    panel.color_mode(BigValueColorMode.VALUE).graph_mode(BigValueGraphMode.NONE)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    if decimals is not None:
        panel.decimals(decimals)
    if meanings:
        panel.mappings([ValueMap({value: ValueMappingResult(text=word) for value, word in meanings.items()})])
    (target,) = _targets([query])
    return panel.with_target(target.instant())


def heat(title: str, about: str, query: Query) -> heatmap.Panel:
    """The buckets of a histogram over time, with exemplars as points that lead to traces."""
    panel = heatmap.Panel().title(title).description(about).unit("short").span(HALF).height(9)
    panel.datasource(PROMETHEUS).calculate(False).cell_gap(1).exemplars_color(colours.RED)
    panel.color(
        heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Cividis").steps(64).reverse(False)
    )
    panel.y_axis(heatmap.YAxisConfig().unit("s").axis_placement(AxisPlacement.LEFT))
    panel.tooltip(heatmap.HeatmapTooltip().mode(TooltipDisplayMode.SINGLE).y_histogram(True))
    panel.show_legend()
    (target,) = _targets([query])
    return panel.with_target(target.range().format(PromQueryFormat.HEATMAP))


def rows(
    title: str,
    about: str,
    *queries: Query,
    names: Mapping[str, str],
    units: Mapping[str, str] = MappingProxyType({}),
    width: int = 16,
    height: int = 7,
) -> table.Panel:
    """A table of what is true now. names are the columns in their order and what they are called."""
    panel = table.Panel().title(title).description(about).unit("short").span(width).height(height)
    panel.datasource(PROMETHEUS).no_value("none")
    for column, unit in units.items():
        panel.override_by_name(names[column], [DynamicConfigValue("unit", unit)])
    for target in _targets(queries):
        panel.with_target(target.instant().format(PromQueryFormat.TABLE))
    if len(queries) > 1:
        panel.with_transformation(DataTransformerConfig(id_val="merge", options={}))
    options: dict[str, object] = {
        "indexByName": {column: place for place, column in enumerate(names)},
        "renameByName": dict(names),
        "includeByName": dict.fromkeys(names, True),
    }
    return panel.with_transformation(DataTransformerConfig(id_val="organize", options=options))


def note(title: str, about: str, markdown: str, width: int = FULL, height: int = 4) -> text.Panel:
    """Text in Markdown, that says what to do."""
    panel = text.Panel().title(title).description(about).span(width).height(height)
    return panel.mode(TextMode.MARKDOWN).content(markdown)


def named(expression: str) -> str:
    """The expression, its series by instance, with each one's host_name: an instance is only an address."""
    hosts = "group by (job, instance, host_name) (target_info)"
    return f"{expression} * on (job, instance) group_left (host_name) {hosts}"


def up(jobs: str) -> str:
    """Whether Prometheus reaches the selected jobs; 0 also for one that has left the DNS."""
    return f"min by (job) (up{{{jobs}}}) or 0 * group by (job) (last_over_time(up{{{jobs}}}[1d]))"


def _targets(queries: Sequence[Query]) -> list[prometheus.Dataquery]:
    return [
        prometheus.Dataquery()
        .ref_id(chr(ord("A") + place))
        .datasource(PROMETHEUS)
        .expr(query.expr)
        .legend_format(query.legend or "__auto")
        .exemplar(query.exemplars)
        for place, query in enumerate(queries)
    ]


def _legend() -> common.VizLegendOptions:
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).show_legend(True)
    return legend.placement(LegendPlacement.BOTTOM).calcs(["lastNotNull"])


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)


def _thresholds(limits: Limits, below: str) -> dashboard.ThresholdsConfig:
    steps = [Threshold(None, below), *(Threshold(value, colour) for value, colour in limits)]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _fixed(colour: str) -> DynamicConfigValue:
    return DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})
