"""README.md and docs/: every command in them is understood, every link leads somewhere, every setting exists."""

from __future__ import annotations

import re
import shlex
import textwrap
import tomllib
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
import yaml

from unicornd.cli import predicates
from unicornd.cli.ctl import COMMANDS, command_of, gather_options
from unicornd.cli.frame import make_app
from unicornd.config.flags import read_command_line
from unicornd.config.sections.section import Section
from unicornd.config.settings import Settings
from unicornd.observe.access import compile_format

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).parent.parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
WRITTEN = [page for page in PAGES if page.name != "settings.md"]
"""All but what is made of the models."""
MESSAGES = frozenset({"http.disconnect"})
"""Of ASGI, whose names look like settings."""

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
PLACES = ("unicornd/", "tests/", "docs/", "configs/", "schemas/", "systemd/", ".ci/")
NARRATION = "".join(path.read_text() for path in (ROOT / "unicornd/arbiter").rglob("*.py"))
END_OF_COMMAND = frozenset({"||", "&&", "|", ";", ">", "2>"})


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def spans_of(page: Path) -> Iterator[str]:
    for text in SPAN.findall(FENCE.sub("", page.read_text())):
        yield " ".join(text.split())


def typed_in(page: Path) -> Iterator[str]:
    """Everything that a reader might type."""
    for language, block in FENCE.findall(page.read_text()):
        for line in block.splitlines():
            if language == "console" and line.strip().startswith("$ "):
                yield line.strip().removeprefix("$ ")
            elif language == "sh":
                yield line.strip()
    yield from spans_of(page)


def commands_of(page: Path) -> list[list[str]]:
    """The words of each command of ours, without what a shell does with it."""
    found = []
    for line in typed_in(page):
        if not re.match(r"(unicornctl|unicornd) ", line):
            continue
        words = shlex.split(line, comments=True)
        ends = [index for index, word in enumerate(words) if word in END_OF_COMMAND]
        found.append([word for word in words[: min(ends, default=None)] if word != "…"])
    return found


def parse(words: Sequence[str]) -> None:
    """Read a command line as the program would, and do nothing.

    Raises:
        Exception: it is not understood.
    """
    program, *arguments = words
    if program == "unicornd":
        read_command_line(arguments)
        return
    arguments = gather_options(arguments)
    name = command_of(arguments)
    if name in predicates.ABOUT:
        predicates.parse_question(name, [word for word in arguments if word != name])
        return
    modules = {module: import_module(f"unicornd.cli.commands.{module}").app for module in COMMANDS.values()}
    command: Any = typer.main.get_command(make_app(modules))
    context = command.make_context("unicornctl", list(arguments))
    while hasattr(command, "resolve_command"):
        name, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])  # noqa: SLF001 - there is no other way to parse a group and run nothing
        context = command.make_context(name, list(arguments), parent=context)


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_every_command_in_the_documentation_is_understood(page: Path) -> None:
    for words in commands_of(page):
        try:
            parse(words)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, the command is named
            pytest.fail(f"{name_of(page)}: {' '.join(words)}: {error!r}")


@pytest.mark.parametrize(
    "line", ["unicornctl reloaad", "unicornctl scale", "unicornctl config chck", "unicornctl is-ready --wiat 3",
             "unicornctl status --jsn", "unicornd --wrkers 3 shop:app"],
)  # fmt: skip
def test_a_command_that_does_not_exist_would_be_found(line: str) -> None:
    with pytest.raises((Exception, SystemExit)):
        parse(line.split())


def test_the_pages_that_have_commands_are_read() -> None:
    assert len(commands_of(ROOT / "README.md")) > 25
    assert len(commands_of(ROOT / "docs/operations.md")) > 25


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_and_every_file_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    links = [target for target in LINK.findall(text) if "://" not in target]
    lost = [target for target in links if not (page.parent / target).exists()]
    named = [span for span in spans_of(page) if span.startswith(PLACES) and " " not in span]
    lost += [span for span in named if not list(ROOT.glob(span.partition("::")[0].rstrip("/")))]
    assert not lost, f"{name_of(page)}: {lost}"


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_every_setting_that_is_named_exists(page: Path) -> None:
    def exists(name: str) -> bool:
        model: Any = Settings
        for part in name.split("."):
            if not (isinstance(model, type) and issubclass(model, Section)):
                return True  # below a table of free keys
            if part not in model.model_fields:
                return False
            model = model.model_fields[part].annotation
        return True

    sections = "|".join(Settings.model_fields)
    named = [span for span in spans_of(page) if re.fullmatch(rf"(?:{sections})(?:\.[a-z_]+)+", span)]
    named = [name for name in named if name not in MESSAGES]
    named = [name for name in named if f'"{name}"' not in NARRATION]  # kinds of events are called alike
    assert not [name for name in named if not exists(name) and not name.endswith((".py", ".toml"))]


def test_every_target_of_make_that_is_named_exists() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for page in WRITTEN:
        for line in typed_in(page):
            if match := re.match(r"make ([a-z-]+)$|make ([a-z-]+) ", line):
                assert (match[1] or match[2]) in targets, f"{name_of(page)}: {line}"


def test_every_test_that_is_named_exists() -> None:
    named = [span.split("::") for page in WRITTEN for span in spans_of(page) if "::test_" in span]
    assert len(named) > 15
    lost = [f"{file}::{name}" for file, name in named if f"\ndef {name}(" not in (ROOT / file).read_text()]
    assert not lost


def test_what_is_to_be_pasted_into_a_file_can_be_read() -> None:
    readers: dict[str, Callable[[str], Any]] = {"yaml": yaml.safe_load, "toml": tomllib.loads}
    blocks = [found for page in PAGES for found in FENCE.findall(page.read_text()) if found[0] in readers]
    assert len(blocks) >= 5
    assert all(readers[language](textwrap.dedent(block)) for language, block in blocks)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 250


def test_every_event_metric_and_atom_that_is_named_exists() -> None:
    text = (ROOT / "docs/tasks.md").read_text()
    sources = NARRATION + (ROOT / "unicornd/daemon.py").read_text()
    events = re.findall(r"`((?:fleet|worker|reload|upgrade|listener|logs|operation|signal)\.[a-z_]+)`", text)
    events = [name for name in events if name.partition(".")[0] != "reload" or f'"{name}"' in sources]
    assert len(events) > 20
    assert [name for name in events if f'"{name}"' not in sources] == []
    metrics = set(re.findall(r"unicornd_[a-z_]+", text))
    assert len(metrics) > 10
    parts = {name.removeprefix("unicornd_").removesuffix("_bucket") for name in metrics}
    assert [name for name in parts if name not in (ROOT / "unicornd/observe/metrics.py").read_text()] == []
    for atom in set(re.findall(r"%\((?:\{[^}]+\}[ioe]|[A-Za-z])\)s", text)):
        compile_format(atom)  # refuses what is none
