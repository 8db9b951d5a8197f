"""Whatever a gunicorn.conf.py says, its import is a configuration that is right, and every name is accounted for."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from unicornd.config.flags import CommandLine
from unicornd.config.gunicorn import BY_NAME
from unicornd.config.importer import Imported, combine
from unicornd.config.layers import load
from unicornd.config.loaded import Sources
from unicornd.config.pyfile import PythonFile, Source
from unicornd.config.translate import translated
from unicornd.config.write import config_text

FOLDER = Path("/srv/shop")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
WORDS = st.sampled_from(
    ["true", "sync", "gevent", "shop:app", "pkg.mod.Class", "unix:/x", "unix:y", ":80", "10.0.0.0/8", "*", "A=1", "-", "@x",
     "./x.py:f", "/srv/shop/x", "udp://h:1", "v1", "022", "../x", "http", "uwsgi", "auto", "on", "egg:x#y"]
)  # fmt: skip
NUMBERS = st.integers(-5, 70000) | st.integers() | st.floats()
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS | WORDS, inner, max_size=3),
    max_leaves=4,
)
TOLD = st.one_of(
    VALUES.map(lambda value: {"plain": value}),
    st.sampled_from([{"callable": ""}, {"callable": "shop.hooks:function"}, {"other": "<object>"}]),
)
NAMES = st.sampled_from([*BY_NAME, "wrokers", "log_level", "colour"])


def imported(told: dict[str, dict[str, Any]]) -> Imported:
    lines = {name: number for number, name in enumerate(told, start=1)}
    source = Source(lines=lines, used=frozenset(), environmental=frozenset())
    file = PythonFile(
        shown="gunicorn.conf.py", reference="/srv/shop/gunicorn.conf.py", values=told, source=source
    )
    line = CommandLine(given=(), config="", actions=frozenset())
    return combine(translated(file), line, folder=FOLDER, target=FOLDER)


@example(told={"worker_class": {"plain": []}, "threads": {"plain": []}})
@given(told=st.dictionaries(NAMES, TOLD, max_size=12))
def test_an_import_is_right_and_drops_nothing_in_silence(
    tmp_path_factory: Any, told: dict[str, dict[str, Any]]
) -> None:
    result = imported(told)
    names = [each.name for each in result.report]
    assert len(set(names)) == len(names)
    for name, value in told.items():
        says_nothing = (
            not value.get("plain", 1) or value.get("plain") == BY_NAME.get(name, BY_NAME["bind"]).default
        )
        assert name in names or name == "colour" or says_nothing or BY_NAME[name].fate == "refused", (
            name,
            value,
        )
    for each in result.report:
        assert each.note or each.ours
    text = config_text(result.table, above=["made"], below=[each.note for each in result.report])
    file = tmp_path_factory.mktemp("import") / "unicornd.toml"
    file.write_text(text, encoding="utf-8")
    assert tomllib.loads(text).keys() == result.table.keys()
    load(Sources(config_file=file))
