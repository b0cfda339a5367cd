"""Writes docs/operate/grafana.json, a dashboard of the metrics that the service exports: ``make docs``.

Every process that is scraped reports the same, so the highest value of each series is taken, as in docs/alerts.yml.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from grafana_foundation_sdk.builders import common as build_common
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import stat, table, timeseries
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard
from grafana_foundation_sdk.models.common import BigValueColorMode, DataSourceRef, LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE: Final = Path(__file__).with_name("operate") / "grafana.json"
PROMETHEUS: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
WINDOW: Final = "$__rate_interval"
ORGANIZATIONS: Final = 'organization=~"$organization"'
QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}

Queries: TypeAlias = "Mapping[str, str]"
"""Legend → PromQL."""


@dataclass(frozen=True)
class Chart:
    """A panel that shows queries over time."""

    title: str
    queries: Queries
    unit: str = "short"
    says: str = ""
    span: int = 8
    height: int = 8


@dataclass(frozen=True)
class Number:
    """A panel that shows the newest value, green or, from *bad* on, red."""

    title: str
    queries: Queries
    unit: str = "short"
    says: str = ""
    bad: float = 1
    words: Mapping[str, str] = field(default_factory=dict)
    """Value → what is shown for it."""
    good_is_more: bool = False
    span: int = 4
    height: int = 4


@dataclass(frozen=True)
class List:
    """A panel that shows the newest values as rows."""

    title: str
    queries: Queries
    says: str = ""
    span: int = 8
    height: int = 8


Panel: TypeAlias = "Chart | Number | List"


def per_second(metric: str, *labels: str, where: str = "", by: str = "") -> str:
    """Return how often *metric* counts each second, by *labels*, of which *by* names those that are shown."""
    counted = f"max by ({', '.join(labels)}) (rate({metric}{{{where}}}[{WINDOW}]))"
    return f"sum by ({by}) ({counted})" if by != ", ".join(labels) else counted


def quantiles(histogram: str) -> Queries:
    """Return the quantiles of a histogram."""
    buckets = f"max by (le) (rate({histogram}_bucket[{WINDOW}]))"
    return {name: f"histogram_quantile({share}, {buckets})" for name, share in QUANTILES.items()}


def mean(histogram: str) -> str:
    """Return the mean of a histogram."""
    return f"max(rate({histogram}_sum[{WINDOW}])) / max(rate({histogram}_count[{WINDOW}]))"


STATE: Final[list[Panel]] = [
    Number(
        "Open issues",
        {
            severity: f'sum(max by (kind) (receiver_issues_open{{severity="{severity}"}})) or vector(0)'
            for severity in ("critical", "warning")
        },
        says="Without acknowledged ones. receiver issues list shows them; docs/operate/issues.md says what to do.",
    ),
    Number(
        "Can store deliveries",
        {"": "min(receiver_can_store)"},
        words={"0": "no", "1": "yes"},
        good_is_more=True,
        says="Whether every web process can store what OpenCard sends, as /readyz reports.",
    ),
    Number(
        "Oldest unprocessed delivery",
        {"": "max(receiver_deliveries_oldest_waiting_seconds)"},
        unit="s",
        bad=300,
    ),
    Number(
        "Longest time since a log was checked",
        {"": "time() - min(max by (organization) (receiver_reconcile_checked_until_timestamp_seconds))"},
        unit="s",
        bad=3600,
        says="Of the organization whose delivery log was checked least recently.",
    ),
    Number("Organizations without webhook", {"": "max(receiver_organizations_without_webhook)"}),
    Number(
        "Feed epoch to acknowledge",
        {"": "max(receiver_feed_epoch_needs_attention)"},
        words={"0": "no", "1": "yes"},
        says="After a restore or a failover: receiver recover.",
    ),
    List(
        "Issues",
        {"": "sort_desc(max by (kind, severity) (receiver_issues_open) > 0)"},
        span=12,
    ),
    Chart("Webhooks by state at OpenCard", {"{{state}}": "max by (state) (receiver_webhooks)"}, span=12),
]
INTAKE: Final[list[Panel]] = [
    Chart(
        "Deliveries by answer",
        {
            "{{status}} {{reason}}": per_second(
                "receiver_requests_total", "status", "reason", where='route="delivery"', by="status, reason"
            )
        },
        unit="reqps",
        span=12,
        says="200 stored; 401 not authentic; 503 not stored, so that OpenCard retries.",
    ),
    Chart(
        "From arrival to commit",
        quantiles("receiver_store_seconds"),
        unit="s",
        span=12,
        says="How long OpenCard waits for its 200, without the network.",
    ),
    Chart(
        "Refused deliveries by webhook",
        {
            "webhook {{webhook_id}}: {{reason}}": per_second(
                "receiver_deliveries_refused_total", "webhook_id", "reason", by="webhook_id, reason"
            )
        },
        unit="reqps",
        span=12,
    ),
    Chart(
        "Other requests by answer",
        {
            "{{route}} {{status}}": per_second(
                "receiver_requests_total", "route", "status", "reason", where='route!="delivery"', by="route, status"
            )
        },
        unit="reqps",
        span=12,
    ),
]
BACKLOG: Final[list[Panel]] = [
    Chart("Deliveries by status", {"{{status}}": "max by (status) (receiver_deliveries_waiting)"}, span=12),
    Chart(
        "Age of the oldest by status",
        {"{{status}}": "max by (status) (receiver_deliveries_oldest_seconds)"},
        unit="s",
        span=12,
    ),
]
PROCESSING: Final[list[Panel]] = [
    Chart(
        "From arrival to the tables of ems",
        quantiles("receiver_visible_seconds"),
        unit="s",
        says="Of deliveries that were applied at the first attempt.",
    ),
    Chart(
        "Attempts by outcome",
        {"{{outcome}}": per_second("receiver_processing_attempts_total", "event", "outcome", by="outcome")},
        unit="ops",
    ),
    Chart(
        "Attempts that failed, by event",
        {
            "{{event}}: {{outcome}}": per_second(
                "receiver_processing_attempts_total",
                "event",
                "outcome",
                where='outcome!~"processed|duplicate"',
                by="event, outcome",
            )
        },
        unit="ops",
    ),
    Chart(
        "Attempts by event",
        {"{{event}}": per_second("receiver_processing_attempts_total", "event", "outcome", by="event")},
        unit="ops",
    ),
    Chart(
        "Unknown versions of events",
        {"": "max(receiver_unknown_versions)"},
        says="Applied in the last eight days, although this release does not know them.",
    ),
    Chart("Replays in progress", {"": "max(receiver_replays_running)"}),
]
RECONCILE: Final[list[Panel]] = [
    Chart(
        "Time since the log was checked",
        {
            "{{organization}}": (
                f"time() - max by (organization) "
                f"(receiver_reconcile_checked_until_timestamp_seconds{{{ORGANIZATIONS}}})"
            )
        },
        unit="s",
        says="Everything sent before that time is stored, or known to be missing.",
    ),
    Chart(
        "Events recovered from the log",
        {
            "{{organization}}": (
                f"max by (organization) (increase(receiver_reconcile_recovered_total{{{ORGANIZATIONS}}}[{WINDOW}]))"
            )
        },
    ),
    Chart(
        "Unrecoverable events and unconfirmed deliveries",
        {
            f"{{{{organization}}}}: {name}": (
                f"max by (organization) (receiver_reconcile_{name}{{{ORGANIZATIONS}}}) > 0"
            )
            for name in ("unrecoverable", "unconfirmed")
        },
    ),
    Chart(
        "Organizations whose last run failed",
        {"{{organization}}": f"max by (organization) (receiver_reconcile_last_run_failed{{{ORGANIZATIONS}}}) > 0"},
    ),
    Chart("Runs by outcome", {"{{outcome}}": per_second("receiver_reconcile_runs_total", "outcome", by="outcome")}),
    Chart("Duration of runs", quantiles("receiver_reconcile_seconds"), unit="s"),
]
FEED: Final[list[Panel]] = [
    Chart("Events that a reader has not read", {"{{consumer}}": "max by (consumer) (receiver_consumer_lag_events)"}),
    Chart(
        "Age of the oldest unread event",
        {"{{consumer}}": "max by (consumer) (receiver_consumer_lag_seconds)"},
        unit="s",
    ),
    Chart("Readers that stopped", {"{{consumer}}": "max by (consumer) (receiver_consumer_stopped)"}),
    Chart("Feed epoch", {"": "max(receiver_feed_epoch)"}, span=12),
    Chart(
        "The feed's lock",
        {
            "held for": "max(receiver_feed_lock_held_seconds)",
            "batches returned": f"max(increase(receiver_feed_lock_timeouts_total[{WINDOW}]))",
        },
        span=12,
    ),
]
FILES: Final[list[Panel]] = [
    Chart(
        "Files to download",
        {"waiting": "max(receiver_receipts_waiting)", "failing": "max(receiver_receipts_failing)"},
    ),
    Chart(
        "Files lost or refused",
        {"lost": "max(receiver_receipts_lost)", "refused": "max(receiver_receipts_refused)"},
        says="Of the last eight days: the URL expired before the download, or the file may not be stored.",
    ),
    Chart(
        "Time until the first failing file expires",
        {"": "min(receiver_receipts_first_expiry_timestamp_seconds) - time()"},
        unit="s",
    ),
]
STORES: Final[list[Panel]] = [
    Chart(
        "PostgreSQL: processes that can store",
        {"all of them": "min(receiver_can_store)", "any": "max(receiver_can_store)"},
        says="No values: no process answers /metrics with 200, because PostgreSQL cannot be read.",
    ),
    Chart(
        "PostgreSQL: requests answered 503 and 500",
        {
            "{{route}} {{status}}": per_second(
                "receiver_requests_total", "route", "status", "reason", where='status=~"500|503"', by="route, status"
            )
        },
        unit="reqps",
    ),
    Chart(
        "Valkey or Redis: wake-ups that failed",
        {"": f"max(rate(receiver_wake_ups_failed_total[{WINDOW}]))"},
        unit="ops",
    ),
    Chart(
        "OpenCard's API by answer",
        {
            "{{method}} {{route}} {{status}}": per_second(
                "receiver_opencard_requests_total", "method", "route", "status", by="method, route, status"
            )
        },
        unit="reqps",
        span=12,
    ),
    Chart(
        "Rows that retention deleted",
        {"{{kind}}": per_second("receiver_retention_removed_total", "kind", by="kind")},
        unit="ops",
        span=12,
    ),
]
WORKERS: Final[list[Panel]] = [
    Chart(
        "Batches",
        {
            "all": f"max(rate(receiver_batch_seconds_count[{WINDOW}]))",
            "failed": f"max(rate(receiver_batches_failed_total[{WINDOW}]))",
        },
        unit="ops",
        says="Zero while deliveries are pending: no worker runs, or none can reach PostgreSQL.",
    ),
    Chart("Duration of batches", quantiles("receiver_batch_seconds"), unit="s"),
    Chart("Deliveries in a batch", {"mean": mean("receiver_batch_deliveries")}),
    Chart(
        "Issues of workers",
        {"{{kind}}": 'max by (kind) (receiver_issues_open{kind=~"worker-died|backlog-old|feed-lock-held"})'},
    ),
    Chart(
        "Time since retention succeeded",
        {"": "time() - max(receiver_retention_last_success_timestamp_seconds)"},
        unit="s",
    ),
    Chart("Last run of retention failed", {"": "max(receiver_retention_last_run_failed)"}),
    Chart("Failed sign-ins to the console", {"": f"max(rate(receiver_sign_ins_failed_total[{WINDOW}]))"}, unit="ops"),
]
ROWS: Final = {
    "State": STATE,
    "Intake": INTAKE,
    "Backlog": BACKLOG,
    "Processing": PROCESSING,
    "Reconcile": RECONCILE,
    "Feed and readers": FEED,
    "Files": FILES,
    "PostgreSQL, Valkey, OpenCard": STORES,
    "Workers": WORKERS,
}
DEPLOYS: Final = "max by (version) (receiver_last_deploy_timestamp_seconds) * 1000"
"""Grafana takes the value for the time of the annotation, in milliseconds."""


def written() -> str:
    """Return the dashboard as JSON."""
    made = (
        build.Dashboard("OpenCard receiver")
        .uid("opencard-receiver")
        .description("docs/operate/monitor.md explains the metrics, docs/operate/alerts.md the alerts.")
        .tags(["opencard-receiver"])
        .timezone("utc")
        .time("now-6h", "now")
        .refresh("1m")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .with_variable(build.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(
            build.QueryVariable("organization")
            .label("Organization")
            .datasource(PROMETHEUS)
            .query("label_values(receiver_reconcile_unrecoverable, organization)")
            .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .all_value(".*")
            .current(dashboard.VariableOption(selected=True, text="All", value="$__all"))
        )
        .annotation(
            build.AnnotationQuery()
            .name("Deploys")
            .datasource(PROMETHEUS)
            .enable(True)
            .icon_color("blue")
            .expr(DEPLOYS)
            .title_format("{{version}}")
            .text_format("deployed")
            .use_value_for_time(True)
        )
    )
    ids = count(1)
    for title, panels in ROWS.items():
        made = made.with_row(build.Row(title).id(next(ids)))
        for panel in panels:
            made = made.with_panel(_built(panel).id(next(ids)))
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build()) + "\n"


def _built(panel: Panel) -> timeseries.Panel | stat.Panel | table.Panel:
    match panel:
        case Chart():
            return _chart(panel)
        case Number():
            return _number(panel)
        case List():
            return _list(panel)


def _chart(panel: Chart) -> timeseries.Panel:
    legend = (
        build_common.VizLegendOptions()
        .show_legend(True)
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
    )
    made = timeseries.Panel().unit(panel.unit).min(0).legend(legend).fill_opacity(10)
    for query in _queries(panel):
        made = made.with_target(query)
    return made.title(panel.title).description(panel.says).datasource(PROMETHEUS).span(panel.span).height(panel.height)


def _number(panel: Number) -> stat.Panel:
    good, bad = ("red", "green") if panel.good_is_more else ("green", "red")
    thresholds = (
        build.ThresholdsConfig()
        .mode(dashboard.ThresholdsMode.ABSOLUTE)
        .steps([dashboard.Threshold(color=good), dashboard.Threshold(value=panel.bad, color=bad)])
    )
    newest = build_common.ReduceDataOptions().calcs(["lastNotNull"])
    made = stat.Panel().unit(panel.unit).thresholds(thresholds).color_mode(BigValueColorMode.BACKGROUND)
    made = made.reduce_options(newest)
    if panel.words:
        shown = {value: dashboard.ValueMappingResult(text=text) for value, text in panel.words.items()}
        made = made.mappings([dashboard.ValueMap(options=shown)])
    for query in _queries(panel):
        made = made.with_target(query.instant())
    return made.title(panel.title).description(panel.says).datasource(PROMETHEUS).span(panel.span).height(panel.height)


def _list(panel: List) -> table.Panel:
    made = table.Panel()
    for query in _queries(panel):
        made = made.with_target(query.instant().format(PromQueryFormat.TABLE))
    return made.title(panel.title).description(panel.says).datasource(PROMETHEUS).span(panel.span).height(panel.height)


def _queries(panel: Panel) -> list[Dataquery]:
    return [
        Dataquery()
        .ref_id(chr(ord("A") + number))
        .datasource(PROMETHEUS)
        .expr(expr)
        .legend_format(legend or panel.title)
        for number, (legend, expr) in enumerate(panel.queries.items())
    ]


if __name__ == "__main__":
    PAGE.write_text(written(), encoding="utf-8")
