"""A plan as text: a heading, three tables, and what must be known of them."""

from collections.abc import Sequence

from colbert_research.costs.plan import Hours, Milliseconds, Plan
from colbert_research.costs.planner import FAR

STANDING = ("extrapolated", "error (median, worst)", "source")
"""What every prediction says of itself."""


def text(plan: Plan) -> str:
    """The whole plan, for a terminal."""
    request, layout = plan.request, plan.layout
    lines = [
        f"{request.documents:,} documents, {request.tokens:,} tokens of {request.dim} dimensions, {request.codec}",
        f"{plan.shards:,} {'shard' if plan.shards == 1 else 'shards'} of {layout.documents:,} documents, each an index of its "
        f"own: {layout.tokens:,} tokens{f', {layout.centroids:,} centroids' if layout.centroids else ''}, "
        f"{plan.memory_bytes / 1e9:,.1f} GB in memory",
        "",
        *_table(
            ("bytes", "GB", "per token", "source"),
            [(e.part, f"{e.bytes / 1e9:,.1f}", f"{e.per_token:.2f}", e.source) for e in plan.bytes],
        ),
    ]
    if plan.hours:
        names = ("building", "core hours", f"hours of {request.cores} cores", *STANDING)
        lines += ["", *_table(names, [_stage(each) for each in plan.hours])]
    if plan.milliseconds:
        slowest, machines = f"slowest of {plan.shards:,}", f"machines for {request.queries_per_second:g}/s"
        columns = ("ms per query", "median", "interval", "p95", slowest, "p95 of it", machines, "GB beside", "growth")
        lines += ["", *_table((*columns, *STANDING), [_search(plan, each) for each in plan.milliseconds])]
    return "\n".join([*lines, "", *plan.notes])


def _stage(each: Hours) -> tuple[str, ...]:
    cores = "" if each.core_hours is None else _figure(each.core_hours)
    return each.stage, cores, _figure(each.hours), _beyond(each.beyond), _error(each.error), each.source


def _search(plan: Plan, each: Milliseconds) -> tuple[str, ...]:
    median, p95 = each.slowest if each.slowest and plan.shards > 1 else (None, None)
    machines = "more memory" if each.machines is None else f"{each.machines:,} ({plan.shards:,} x {each.replicas:,})"
    return (
        each.strategy,
        _figure(each.median),
        f"{_figure(each.low)} to {_figure(each.high)}",
        _figure(each.p95),
        "" if median is None else _figure(median),
        "" if p95 is None else _figure(p95),
        machines if plan.request.queries_per_second else "",
        "unknown" if each.beside is None else f"{each.beside / 1e9:,.1f}" if each.beside else "",
        "" if each.exponent is None else f"{each.exponent:.2f}",
        _beyond(each.beyond),
        _error(each.error),
        each.source,
    )


def _figure(value: float) -> str:
    """Three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _beyond(times: float) -> str:
    return "" if times <= 1 else f"{_figure(times)} times{' (a guess)' if times > FAR else ''}"


def _error(error: tuple[float, float] | None) -> str:
    return "" if error is None else f"{error[0]:.0%}, {error[1]:.0%}"


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns side by side, less those with nothing in them: the first and the last to the left, figures to the right."""
    shown = [column for column in range(len(names)) if any(row[column] for row in rows)]
    widths = {column: max(len(row[column]) for row in (names, *rows)) for column in shown}
    outer = (0, len(names) - 1)
    return [
        "  ".join(row[i].ljust(widths[i]) if i in outer else row[i].rjust(widths[i]) for i in shown).rstrip()
        for row in (names, *rows)
    ]
