"""A plan as text of at most a hundred columns: a heading, three tables, and what their figures stand on."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from colbert_research.costs.plan import Hours, Milliseconds, Plan
from colbert_research.costs.planner import FAR

WIDTH = 100
"""Columns; a table of very large figures may take more."""


def text(plan: Plan, every: bool = False) -> str:
    """The whole plan, for a terminal. `every`: each setting of a strategy, and not just the one that most is known of."""
    request, layout = plan.request, plan.layout
    searches = _labelled(plan.milliseconds, every)
    lines = [
        f"{request.documents:,} documents, {request.tokens:,} tokens of {request.dim} dimensions, {request.codec}",
        f"{plan.shards:,} {'shard' if plan.shards == 1 else 'shards'} of {layout.documents:,} documents: "
        f"{layout.tokens:,} tokens{f', {layout.centroids:,} centroids' if layout.centroids else ''}, "
        f"{plan.memory_bytes / 1e9:,.1f} GB in memory",
        "",
        *_table(
            ("bytes", "GB", "per token", "source"),
            [(e.part, f"{e.bytes / 1e9:,.1f}", f"{e.per_token:.2f}", e.source) for e in plan.bytes],
        ),
    ]
    if plan.hours:
        lines += ["", *_table(("building", "core hours", f"hours of {request.cores} cores"), [_stage(e) for e in plan.hours])]
    if searches:
        slowest, machines = f"slowest of {plan.shards:,}", f"machines for {request.queries_per_second:g}/s"
        columns = ("ms per query", "median", "interval", "p95", slowest, "its p95", "GB beside", machines)
        lines += ["", *_table(columns, [_search(plan, label, each) for label, each in searches])]
    standing = {each.stage: _standing(each) for each in plan.hours if each.stage != "total"}
    standing |= {label: _standing(each) for label, each in searches}
    if searches and request.queries_per_second:
        standing["machines"] = (
            f"shards x copies of each, such that searches keep at most {request.utilisation:.0%} of {request.cores} cores busy"
        )
    hidden = len(plan.milliseconds) - len(searches)
    notes = [*plan.notes, *([f"{hidden} more settings were timed; --all shows them"] if hidden else [])]
    wrapped = (line for note in notes for line in textwrap.wrap(note, WIDTH, subsequent_indent="  "))
    lines += ["", *_listed(standing), "", *wrapped]
    return "\n".join(lines)


def _labelled(found: Iterable[Milliseconds], every: bool) -> list[tuple[str, Milliseconds]]:
    """Searches by their kind, which is numbered from its second setting on: the first of each kind, or all."""
    seen: dict[str, int] = {}
    labelled = []
    for each in found:
        kind = each.strategy.split(" ")[0]
        seen[kind] = seen.get(kind, 0) + 1
        if every or seen[kind] == 1:
            labelled.append((kind if seen[kind] == 1 else f"{kind} {seen[kind]}", each))
    return labelled


def _stage(each: Hours) -> tuple[str, ...]:
    cores = "" if each.core_hours is None else _figure(each.core_hours)
    return each.stage, cores, _figure(each.hours)


def _search(plan: Plan, label: str, each: Milliseconds) -> tuple[str, ...]:
    median, p95 = each.slowest if each.slowest and plan.shards > 1 else (None, None)
    machines = "more memory" if each.machines is None else f"{each.machines:,} ({plan.shards:,} x {each.replicas:,})"
    return (
        label,
        _figure(each.median),
        f"{_figure(each.low)}-{_figure(each.high)}",
        _figure(each.p95),
        "" if median is None else _figure(median),
        "" if p95 is None else _figure(p95),
        "unknown" if each.beside is None else f"{each.beside / 1e9:,.1f}" if each.beside else "",
        machines if plan.request.queries_per_second else "",
    )


def _standing(each: Hours | Milliseconds) -> str:
    """What a prediction stands on: its settings and source, how far beyond that it goes, its error, and how it grows."""
    settings, growth = "", None
    if isinstance(each, Milliseconds):
        settings, growth = each.strategy.partition(" ")[2], each.exponent
    said = [settings, each.source]
    if each.beyond > 1:
        said.append(f"extrapolated {_figure(each.beyond)} times{' (a guess)' if each.beyond > FAR else ''} beyond them")
    if each.error is not None:
        said.append(f"error {each.error[0]:.0%} in the median, {each.error[1]:.0%} at worst")
    if growth is not None:
        said.append(f"grows as tokens to the power of {growth:.2f}")
    return "; ".join(part for part in said if part)


def _listed(standing: dict[str, str]) -> Iterator[str]:
    """Names beside what is said of them; those of which the same is said share a line."""
    names: dict[str, list[str]] = {}
    for name, said in standing.items():
        names.setdefault(said, []).append(name)
    labels = [", ".join(each) for each in names.values()]
    indent = max(map(len, labels), default=0) + 2
    for label, said in zip(labels, names, strict=True):
        yield from textwrap.wrap(said, WIDTH, initial_indent=label.ljust(indent), subsequent_indent=" " * indent)


def _figure(value: float) -> str:
    """Three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns side by side, less those with nothing in them: words to the left, figures to the right."""
    shown = [column for column in range(len(names)) if any(row[column] for row in rows)]
    widths = {column: max(len(row[column]) for row in (names, *rows)) for column in shown}
    words = (0, *(column for column in shown if names[column] == "source"))
    return [
        "  ".join(row[i].ljust(widths[i]) if i in words else row[i].rjust(widths[i]) for i in shown).rstrip()
        for row in (names, *rows)
    ]
