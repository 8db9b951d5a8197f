"""Layers: whoever speaks last is heard, and every value knows who that was and on which line."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from unicornd.config.given import Given
from unicornd.config.layers import load
from unicornd.config.loaded import Sources
from unicornd.config.locate import locate_keys
from unicornd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

KEYS = ("workers.threads", "workers.connections", "server.backlog", "http.max_headers", "timeouts.boot")
"""Settings that take every number from 1 to 500."""
LAYERS = ("file", "drop-in", "environment", "command line")

TABLES = st.dictionaries(st.sampled_from(KEYS), st.integers(1, 500), max_size=len(KEYS))

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
DOCUMENTS = st.dictionaries(
    NAMES,
    st.recursive(
        st.integers(-5, 5) | st.booleans() | TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def toml_of(values: dict[str, int]) -> str:
    return "".join(f"{key} = {value}\n" for key, value in values.items())


def variable_of(key: str) -> str:
    return "UNICORND_" + key.upper().replace(".", "__")


@given(said=st.fixed_dictionaries(dict.fromkeys(LAYERS, TABLES)))
def test_the_last_layer_that_says_a_key_wins_and_is_its_origin(
    tmp_path_factory: pytest.TempPathFactory, said: dict[str, dict[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("layers")
    (folder / "unicornd.toml").write_text(toml_of(said["file"]))
    (folder / "unicornd.d").mkdir()
    (folder / "unicornd.d" / "1.toml").write_text(toml_of(said["drop-in"]))
    environ = {variable_of(key): str(value) for key, value in said["environment"].items()}
    flags = tuple(Given(key=key, text=str(n), where="--set") for key, n in said["command line"].items())
    loaded = load(Sources(folder=folder, environ=environ, given=flags))
    rows = {row.key: row for row in loaded.rows}
    for key in KEYS:
        last = next((layer for layer in reversed(LAYERS) if key in said[layer]), "default")
        assert rows[key].layer == last
        if last in {"file", "drop-in"}:
            line = list(said[last]).index(key) + 1
            assert rows[key].where.endswith(f".toml:{line}")
        if last != "default":
            section, _, name = key.partition(".")
            assert getattr(getattr(loaded.settings, section), name) == said[last][key]


@given(wrong=st.lists(st.sampled_from(KEYS), unique=True))
def test_every_wrong_key_is_told_once_in_the_order_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, wrong: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "unicornd.toml").write_text("".join(f"{key} = false\n" for key in wrong))
    lines: list[str] = []
    try:
        load(Sources(folder=folder))
    except ConfigError as error:
        lines = error.detail.splitlines()
    places = [line.partition("unicornd.toml:")[2].split(": ")[:2] for line in lines]
    assert places == [[str(number), key] for number, key in enumerate(wrong, start=1)]


@given(
    path=st.lists(NAMES, min_size=1, max_size=4),
    blank=st.integers(0, 3),
    form=st.sampled_from(["dotted", "header", "array", "inline"]),
)
def test_a_key_is_located_however_its_tables_are_written(path: list[str], blank: int, form: str) -> None:
    quoted = [tomli_w.dumps({name: 0}).rpartition(" = ")[0] for name in path]
    dotted = ".".join(quoted)
    texts = {
        "dotted": f"{dotted}.k = [ # ]\n 1,\n]",
        "header": f"[{dotted}] # [x]\nk = '''\n[x]\n'''",
        "array": f"[[{dotted}]]\nk = 1",
        "inline": f"{dotted} = {{ k = {{}} }}",
    }
    found = locate_keys("\n" * blank + texts[form] + "\nlast = 1\n")
    line = blank + 1 + (form in {"header", "array"})
    assert found[(*path, "k")] == line
    assert {found[tuple(path[:length])] for length in range(1, len(path) + 1)} == {blank + 1}
    assert blank + texts[form].count("\n") + 2 in found.values()


def paths_of(table: dict[str, object], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in table.items():
        yield (*above, name)
        if isinstance(value, dict):
            yield from paths_of(value, (*above, name))


@given(document=DOCUMENTS, is_crlf=st.booleans())
def test_every_key_of_any_document_is_located_on_a_line_that_names_it(
    document: dict[str, object],
    is_crlf: bool,  # noqa: FBT001 - drawn
) -> None:
    text = tomli_w.dumps(document)
    found = locate_keys(text.replace("\n", "\r\n") if is_crlf else text)
    lines = text.split("\n")
    for path in paths_of(tomllib.loads(text)):
        assert path in found, (path, text)
        written = tomli_w.dumps({path[-1]: 0}).partition(" = ")[0]
        assert written in lines[found[path] - 1], (path, text)
