"""The page of the command line, from click's own commands."""

import inspect
from collections.abc import Iterator

import click

from colbert_research.cli import main


def commands() -> str:
    """Every command with its usage, what it does, and its options."""
    lines = ["# Commands", "", "What `colbert-research COMMAND --help` prints, for every command."]
    for path, command in walk(("colbert-research",), main):
        context = _context(path, command)
        usage = command.get_usage(context).removeprefix("Usage: ")
        anchor = "-".join(path[1:]) or "top"
        lines += ["", f"{'#' * min(len(path) + 1, 3)} {' '.join(path)} {{ #{anchor} }}", ""]
        lines += ["```text", usage, "```", "", inspect.cleandoc(command.help or "")]
        options = [option for option in command.get_params(context) if isinstance(option, click.Option)]
        records = [record for option in options if "--help" not in option.opts if (record := option.get_help_record(context))]
        if records:
            lines += ["", "| option | |", "|---|---|", *(f"| `{name}` | {_cell(told)} |" for name, told in records)]
    return "\n".join(lines) + "\n"


def walk(path: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """A command and all below it, by the words that call them."""
    yield path, command
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from walk((*path, name), command.commands[name])


def _context(path: tuple[str, ...], command: click.Command) -> click.Context:
    return click.Context(command, info_name=" ".join(path), terminal_width=100)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")
