"""The dashboard of the telemetry itself: can the other dashboards be believed, and what do the "
"processes use?"""

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana import colours
from grafana.board import Row, board
from grafana.panels import FULL, HALF, Query, graph, named, note, number, rows, up

WHO = {
    "service_name": "Service",
    "service_version": "Version",
    "host_name": "Container",
    "instance": "Address",
    "service_instance_id": "Instance",
}
SERVICE = '{job=~"$service"}'
BY_HOST = "{{job}} {{host_name}}"
WHEN_RED = """
The shop goes on without telemetry; these panels say what is missing.
- **Spans dropped**, *queue_full*: more are made than sent: `docs/runbooks/TelemetryDroppingSpans.md`
- **Spans dropped**, *export_failed*: Jaeger does not take them: `docs/runbooks/ExporterFailing.md`
- **A signal failed:** its log line says why: `docs/runbooks/SignalFailing.md`
- **DOWN:** the other panels show nothing new of that service: `docs/runbooks/ServiceDown.md`
- **Targets that answer** fall: `docs/runbooks/InstanceDown.md`, or `docs/runbooks/StackPartDown.md`
- **Memory only climbs:** `docs/runbooks/MemoryGrowth.md`
- No traces at all, or an empty dashboard: `make doctor`
"""


def dashboard() -> Dashboard:
    """The dashboard."""
    about = "Can the dashboards and traces be believed? Spans, signals, scrapes and processes."
    return board(
        "telemetry",
        "Telemetry",
        about,
        [_well(), _spans(), _scrapes(), _parts(), _processes()],
        by_call=False,
    )


def _well() -> Row:
    return "Can it be believed?", [
        number(
            "Scraped",
            "Whether Prometheus reads each service's metrics. DOWN: docs/runbooks/ServiceDown.md.",
            "none",
            Query(up('job=~"$service"'), "{{job}}"),
            limits=[(1, colours.GOOD)],
            below=colours.BAD,
            meanings={"0": "DOWN", "1": "up"},
            empty="no target",
            height=8,
        ),
        number(
            "Spans delivered",
            "Share of the finished spans, in the time shown, that reached the trace store. Less than all: "
            "*Spans dropped*, below, has the reason.",
            "percentunit",
            Query(
                f"1 - sum(increase(telemetry_spans_dropped_total{SERVICE}[$__range])) / (sum(increase("
                f"telemetry_spans_dropped_total{SERVICE}[$__range])) + "
                f"sum(increase(telemetry_spans_exported_total{SERVICE}[$__range])) > 0)"
            ),
            limits=[(0.95, colours.WARN), (1, colours.GOOD)],
            below=colours.BAD,
            decimals=1,
            empty="no spans",
            height=8,
        ),
        number(
            "Signals that failed",
            "How often tracing, metrics or logs failed to record a call since the services started. "
            "Above 0: docs/runbooks/SignalFailing.md.",
            "none",
            Query(f"sum(telemetry_signal_failures_total{SERVICE}) or vector(0)"),
            limits=[(1, colours.BAD)],
            height=8,
        ),
        note("When red", "What to do.", WHEN_RED, width=HALF, height=8),
        rows(
            "What runs",
            "Each process by the name, version and container that it reports: `docker compose ps --format "
            "'{{.ID}} {{.Name}}'` has the same ids. A version unlike the others has missed the last release.",
            Query(f"max by ({', '.join(WHO)}) (target_info{SERVICE})"),
            names=WHO,
            width=FULL,
            height=5,
        ),
    ]


def _spans() -> Row:
    return "Spans and signals", [
        graph(
            "Spans exported",
            "Spans per second that reached the trace store. 0 under load: docs/runbooks/ExporterFailing.md.",
            "cps",
            Query(
                f"sum by (job) (rate(telemetry_spans_exported_total{SERVICE}[$__rate_interval]))", "{{job}}"
            ),
            shades=colours.SERVICES,
        ),
        graph(
            "Spans dropped",
            "Spans per second that were lost, by reason: docs/runbooks/TelemetryDroppingSpans.md, "
            "docs/runbooks/ExporterFailing.md.",
            "cps",
            Query(
                f"sum by (reason, job) (rate(telemetry_spans_dropped_total{SERVICE}[$__rate_interval]))",
                "{{reason}} {{job}}",
            ),
            shades=colours.REASONS,
        ),
        graph(
            "Share of spans dropped",
            "Share of the finished spans that were lost over 5 minutes, by reason. An alert fires from 5 %: "
            "docs/runbooks/TelemetryDroppingSpans.md, docs/runbooks/ExporterFailing.md.",
            "percentunit",
            Query(
                f"max by (reason, job) (job_reason:telemetry_spans_dropped:ratio_rate5m{SERVICE})",
                "{{reason}} {{job}}",
            ),
            shades=colours.REASONS,
            limits=[(0.05, colours.BAD)],
            top=0.1,
        ),
        graph(
            "Spans that wait",
            "Spans in the queue of the exporter. At 2048 (OTEL_BSP_MAX_QUEUE_SIZE) new ones are dropped: "
            "docs/runbooks/TelemetryDroppingSpans.md.",
            "none",
            Query(f"max by (job) (telemetry_span_queue_length{SERVICE})", "{{job}}"),
            shades=colours.SERVICES,
            limits=[(1536, colours.WARN), (2048, colours.BAD)],
        ),
        graph(
            "Failures by signal",
            "How often a signal failed to record a call, per second, by signal. Empty is good: none fails. "
            "Otherwise: docs/runbooks/SignalFailing.md.",
            "cps",
            Query(
                "sum by (signal, job) (rate("
                f"telemetry_signal_failures_total{SERVICE}[$__rate_interval])) > 0",
                "{{signal}} {{job}}",
            ),
            shades=colours.SIGNALS,
            empty="none fails: good",
        ),
        graph(
            "Records and lines that wait",
            "Ended calls and pages that no signal has seen yet (at 8192 new ones are dropped), and log "
            "lines that standard output, or the log store, has not taken. What only climbs is a reader that "
            "stopped: docs/runbooks/SignalFailing.md.",
            "none",
            Query(f"max by (job) (telemetry_record_queue_length{SERVICE})", "records {{job}}"),
            Query(f"max by (job) (telemetry_log_queue_length{SERVICE})", "lines {{job}}"),
            Query(f"max by (job) (telemetry_log_record_queue_length{SERVICE})", "exported lines {{job}}"),
            shades=colours.QUEUES,
        ),
        graph(
            "Records dropped",
            "Calls and pages per second that reached no trace, no log and no histogram, by reason; counters "
            "have them. Empty is good: none was lost. queue_full: the CPU does not keep up, see *CPU of one "
            "core*.",
            "cps",
            Query(
                "sum by (reason, job) (rate("
                f"telemetry_records_dropped_total{SERVICE}[$__rate_interval])) > 0",
                "{{reason}} {{job}}",
            ),
            empty="none was lost: good",
            shades=colours.REASONS,
            width=HALF,
        ),
        graph(
            "Log lines dropped",
            "Log lines per second that were lost, by reason. Empty is good: none was. queue_full: the reader "
            "of standard output does not keep up. write_failed: docs/runbooks/SignalFailing.md.",
            "cps",
            Query(
                "sum by (reason, job) (rate("
                f"telemetry_log_lines_dropped_total{SERVICE}[$__rate_interval])) > 0",
                "{{reason}} {{job}}",
            ),
            empty="none was lost: good",
            shades=colours.REASONS,
            width=HALF,
        ),
        graph(
            "Log lines exported",
            "Log lines per second that reached the log store. 0 under load: docs/runbooks/StackPartDown.md.",
            "cps",
            Query(
                f"sum by (job) (rate(telemetry_log_records_exported_total{SERVICE}[$__rate_interval]))",
                "{{job}}",
            ),
            shades=colours.SERVICES,
            width=HALF,
        ),
        graph(
            "Log lines lost on the way to the store",
            "Log lines per second that the log store did not get, by reason; standard output has them. "
            "Empty is good: none was lost. Else the log store is away: docs/runbooks/StackPartDown.md.",
            "cps",
            Query(
                "sum by (reason, job) (rate("
                f"telemetry_log_records_dropped_total{SERVICE}[$__rate_interval])) > 0",
                "{{reason}} {{job}}",
            ),
            empty="none was lost: good",
            shades=colours.REASONS,
            width=HALF,
        ),
    ]


def _scrapes() -> Row:
    return "Scrapes: all targets", [
        graph(
            "Targets that answer",
            "Targets of each job that Prometheus reached. A step down is an instance that went away: "
            "docs/runbooks/InstanceDown.md, docs/runbooks/StackPartDown.md.",
            "none",
            Query("sum by (job) (up)", "{{job}}"),
            shades=colours.SERVICES,
            top=1,
        ),
        graph(
            "How long scrapes take",
            "Time of each scrape. After 4 s a scrape is abandoned, and counts as down: see *CPU of one "
            "core*.",
            "s",
            Query("max by (job) (scrape_duration_seconds)", "{{job}}"),
            shades=colours.SERVICES,
        ),
        graph(
            "Samples per scrape",
            "Samples that each target exposes. It keeps growing when a label is unbounded: "
            '`topk(5, count by (__name__) ({job="marketplace"}))` in Prometheus names the metric.',
            "none",
            Query("max by (job) (scrape_samples_scraped)", "{{job}}"),
            shades=colours.SERVICES,
        ),
    ]


def _parts() -> Row:
    parts = '{job=~"jaeger|prometheus|logs|alertmanager|grafana"}'
    return "The stack's own parts", [
        graph(
            "Parts that answer",
            "1: Prometheus reaches it, and recommendations answers through entry. 0: "
            "docs/runbooks/StackPartDown.md, docs/runbooks/EntryDown.md.",
            "none",
            Query(f"min by (job) (up{parts})", "{{job}}"),
            Query("load_entry_up", "entry"),
            shades=colours.PARTS,
            top=1,
            empty="no part: the stack is not here",
        ),
        graph(
            "Memory of the parts",
            "Resident memory. The limits are in compose.yaml: 250 MB for Jaeger, Prometheus and Grafana, "
            "100 for the logs, 64 for Alertmanager. At its limit a part is ended, and started again: "
            "docs/runbooks/StackPartDown.md.",
            "bytes",
            Query(f"process_resident_memory_bytes{parts}", "{{job}}"),
            shades=colours.PARTS,
            empty="no part: the stack is not here",
        ),
        graph(
            "Taken by the stores",
            "Samples per second that Prometheus keeps, and log lines that the log store keeps. What Jaeger "
            "keeps is *Spans exported*, above.",
            "cps",
            Query("rate(prometheus_tsdb_head_samples_appended_total[$__rate_interval])", "samples"),
            Query("rate(vl_rows_ingested_total[$__rate_interval]) > 0", "log lines"),
            shades=colours.STORES,
            empty="no store: the stack is not here",
        ),
    ]


def _processes() -> Row:
    return "Processes", [
        graph(
            "Memory",
            "Resident memory of each process. A line that only climbs is a leak: "
            "docs/runbooks/MemoryGrowth.md.",
            "bytes",
            Query(named(f"process_resident_memory_bytes{SERVICE}"), BY_HOST),
            shades=colours.SERVICES,
        ),
        graph(
            "CPU of one core",
            "Share of one core that each process uses; Python code cannot use more. Near 100 %, pages and "
            "calls wait: docs/runbooks/Saturation.md.",
            "percentunit",
            Query(named(f"rate(process_cpu_seconds_total{SERVICE}[$__rate_interval])"), BY_HOST),
            shades=colours.SERVICES,
        ),
        graph(
            "Open files and connections",
            "Share of the file descriptors that each process may have. A climb means connections "
            "that are never closed: *Connections and waiting requests* of the dashboard *Bookshop* has the "
            "shop's.",
            "percentunit",
            Query(named(f"process_open_fds{SERVICE} / process_max_fds"), BY_HOST),
            shades=colours.SERVICES,
            limits=[(0.8, colours.BAD)],
        ),
        graph(
            "Up since",
            "Age of each process; a fall to zero is a restart: docs/runbooks/ServiceRestarted.md.",
            "s",
            Query(named(f"(time() - process_start_time_seconds{SERVICE})"), BY_HOST),
            shades=colours.SERVICES,
            width=HALF,
        ),
        graph(
            "Garbage collections",
            "Python's garbage collections per second, by generation. Many of generation 2 cost CPU: is "
            "*Memory* climbing, too? docs/runbooks/MemoryGrowth.md.",
            "ops",
            Query(
                f"sum by (job, generation) (rate(python_gc_collections_total{SERVICE}[$__rate_interval]))",
                "{{job}} generation {{generation}}",
            ),
            shades=colours.SERVICES,
            width=HALF,
        ),
    ]
