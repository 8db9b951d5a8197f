"""Worker classes that only gunicorn can run are known by what they descend from, without being imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from unicornd.cli.ctl import run
from unicornd.config.ancestry import ancestors, foreign, way_out
from unicornd.config.draft import Draft
from unicornd.config.layers import load
from unicornd.config.loaded import Sources
from unicornd.errors import ConfigError, CtlExit

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "shop/__init__.py": "from .serving import Loud as Again\nfrom . import serving\n",
    "shop/serving.py": """
raise AssertionError("it is not imported")
try:
    from uvicorn.workers import UvicornWorker as Base
except ImportError:
    Base = object
import gunicorn.workers.sync, gunicorn.workers.ggevent as ggevent
from gunicorn.workers.base import Worker
from .deeper.more import Deep
from ..above import Lost
class Loud(Base):
    CONFIG_KWARGS = {"lifespan": "off"}
class Own(gunicorn.workers.sync.SyncWorker): ...
class Green(ggevent.GeventWorker): ...
class Bare(Worker): ...
class Plain: ...
class Loop(Loop, Nowhere, Lost, Deep): ...
Made = Own
Called = make()
""",
    "shop/deeper/__init__.py": "",
    "shop/deeper/more.py": "from .. import Again\nclass Deep(Again): ...\n",
    "broken.py": "class (\n",
    "worker.py": "from shop import serving\nclass Last(serving.Loud): ...\nworker_class = Last\n",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("aiohttp.GunicornWebWorker", "no kind serves aiohttp's own applications"),
        ("aiohttp.worker:GunicornUVLoopWebWorker", "no kind serves aiohttp's own applications"),
        ("uvicorn.workers.Other", 'set kind = "asgi"; what it sets in CONFIG_KWARGS'),
        ("meinheld.gmeinheld.MeinheldWorker", 'set kind = "threads"'),
        (
            "shop.serving:Loud",
            'by uvicorn.workers.UvicornWorker, which nothing else can run: set kind = "asgi"',
        ),
        ("shop:Again", 'set kind = "asgi"'),
        (
            "shop.serving.Own",
            'by gunicorn.workers.sync.SyncWorker, which nothing else can run: set kind = "sync"',
        ),
        ("shop.serving:Made", 'set kind = "sync"'),
        ("shop.serving:Green", 'set kind = "gevent"'),
        ("shop.serving:Bare", "write one of your own"),
        ("shop.serving:Loop", 'set kind = "asgi"'),
        ("./worker.py:worker_class", 'set kind = "asgi"'),
        ("shop.serving:Plain", ""),
        ("shop.serving:Called", ""),
        ("shop.serving:Missing", ""),
        ("broken:Worker", ""),
        ("shop.nowhere:Worker", ""),
        ("sys:Worker", ""),
        ("./nowhere.py:Worker", ""),
        ("a b:c", ""),
        ("gthread", ""),
        ("unknown", ""),
        (3, ""),
    ],
)
@pytest.mark.usefixtures("project")
def test_it_is_told_what_to_do_instead(kind: object, said: str) -> None:
    found = foreign(kind, app=Draft(values={"app": {"pythonpath": ["."], "search_first": 3}}))
    assert said in found
    assert bool(said) == bool(found)


def test_there_is_an_end_to_what_is_looked_at(tmp_path: Path) -> None:
    text = "".join(f"class C{n}(C{n + 1}): ...\n" for n in range(200))
    (tmp_path / "long.py").write_text(text)
    assert len(list(ancestors("long", "C0", path=[str(tmp_path)]))) == 64
    assert way_out("shop.Worker") is None
    assert list(ancestors("uvicorn.workers", "Any", path=[])) == ["uvicorn.workers.Any"], (
        "it is known by its name"
    )


def test_start_check_and_import_refuse_it_with_its_place(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "gunicorn.conf.py").write_text("worker_class = 'shop.serving.Loud'\nwsgi_app = 'shop:app'\n")
    with pytest.raises(ConfigError, match="is wrong") as caught:
        load(Sources(folder=project))
    assert caught.value.detail.startswith(
        'gunicorn.conf.py:1: workers.kind: "shop.serving:Loud" is a worker class'
    )
    assert run(["config", "import", "-o", "-"]) == CtlExit.DONE
    said = capsys.readouterr()
    assert "kind" not in said.out.partition("To do by hand")[0]
    assert 'set kind = "asgi"' in said.out
