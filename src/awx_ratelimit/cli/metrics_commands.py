"""``awx-ratelimit metrics dashboard``: what ships with the metrics."""

import json
from importlib.resources import files

import typer

from awx_ratelimit.cli import output

metrics = typer.Typer(help="Work with metrics.", rich_markup_mode=None)


@metrics.callback()
def _metrics() -> None:
    """Keep `dashboard` a subcommand, though it is the only one."""


@metrics.command()
def dashboard() -> None:
    """Print the Grafana dashboard. Import it under Dashboards > New > Import."""
    text = (files("awx_ratelimit") / "observability/grafana_dashboard.json").read_text("utf-8")
    output.print_json(json.loads(text))
