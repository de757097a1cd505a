"""`unif2ace eval ablation --data DIR --output DIR`: short runs that differ in one thing; a table, JSON, a plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unif2ace_cli import outputs
from unif2ace_cli.commands.eval import show_table, suite_progress
from unif2ace_cli.console import Reporter, UsageError
from unif2ace_cli.options import ABLATION


def run(
    reporter: Reporter, model: str, device: str, data: Path, output: Path | None, steps: int | None, seed: int
) -> None:
    """Make the runs that `output` lacks; print the table, or JSON. report.json and plot.svg there are kept current."""
    if output is None:
        raise UsageError("eval ablation keeps its runs in a folder; give --output DIR")
    if output.is_file():
        raise UsageError(f"--output {output} is a file; eval ablation needs a folder")
    report = measure(reporter, model, device, data, output, steps, seed)
    if reporter.json:
        reporter.record(report)
    else:
        show_table(report)


def measure(
    reporter: Reporter, model: str, device: str, data: Path, output: Path, steps: int | None, seed: int
) -> dict[str, Any]:
    """The report, in the form of other suites'; written after each run, and at the end."""
    from unif2ace_core.evaluate import ablation
    from unif2ace_core.weights.resolve import model_directory

    def keep(found: dict[str, Any]) -> dict[str, Any]:
        report = {"model": model, "first_seed": seed, "suites": {ABLATION: found}}
        write(output, report)
        return report

    plan = ablation.Plan(output, steps or ablation.STEPS, seed)
    with suite_progress(reporter) as show:
        found = ablation.ablate(
            model_directory(model), data, plan, device, lambda done, total: show(ABLATION, done, total), keep
        )
    return keep(found)


def write(output: Path, report: dict[str, Any]) -> None:
    """report.json and plot.svg."""
    from unif2ace_core.evaluate.ablation_plot import plot

    outputs.write_text(output / "report.json", json.dumps(report, indent=1) + "\n")
    outputs.write_text(output / "plot.svg", plot(report["suites"][ABLATION]))
