"""Async views of a WSGI framework: said before they serve where they would fail, and served where they do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import fleet_in
from unicornd.workers.asyncviews import async_views, warning_for

if TYPE_CHECKING:
    from pathlib import Path

FLASK = """\
import asyncio
import flask
from flask.views import MethodView

class Other(MethodView):
    async def get(self): return "other"

def make():
    app = flask.Flask(__name__)

    @app.route("/")
    async def index():
        await asyncio.sleep(0.01)
        return "flask"

    @app.route("/plain")
    def plain(): return "plain"

    app.add_url_rule("/other", view_func=Other.as_view("other"))
    app.before_request(plain_hook)
    return app

def plain_hook(): ...

class Middleware:
    def __init__(self, app): self.app = app
    def __call__(self, environ, start_response): return self.app(environ, start_response)

application = Middleware(make())
"""
DJANGO = """\
import django
from django.conf import settings
from django.http import HttpResponse
from django.urls import include, path
from django.views import View

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
django.setup()

async def index(request): return HttpResponse("django")
def plain(request): return HttpResponse("plain")

class Other(View):
    async def get(self, request): return HttpResponse("other")

urlpatterns = [path("", index), path("p", plain), path("o/", include([path("x", Other.as_view())]))]
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""


@pytest.mark.parametrize(
    ("text", "kind", "names"),
    [(FLASK, "gevent", "make.<locals>.index, site_app.Other"), (DJANGO, "eventlet", "site_app.index, site_app.Other")],
    ids=["flask", "django"],
)  # fmt: skip
def test_they_are_told_with_the_kinds_that_serve_them(
    tmp_path: Path, text: str, kind: str, names: str
) -> None:
    with fleet_in(tmp_path) as fleet:
        fleet.write("site_app.py", text)
        done = fleet.run("--check-config", "-k", kind)
        assert done.returncode == 0, done.stderr
        assert f'async views fail in the kind "{kind}" while another one waits' in done.stderr
        assert names in done.stderr
        assert "plain" not in done.stderr


POOLED = """\
from concurrent.futures import ProcessPoolExecutor
def application(environ, start_response):
    if environ["PATH_INFO"] == "/pool":
        ProcessPoolExecutor(1)
    start_response("200 OK", [])
    return [b"other"]
"""


def test_eventlet_refuses_a_pool_of_processes_that_would_stop_the_worker(tmp_path: Path) -> None:
    with fleet_in(tmp_path) as fleet:
        fleet.write("site_app.py", POOLED)
        fleet.start("-k", "eventlet", "-w", "1")
        connection = fleet.connect()
        connection.request("GET", "/pool")
        assert connection.getresponse().status == 500
        connection.close()
        fleet.await_log('ProcessPoolExecutor never answers in the kind "eventlet"')
        assert fleet.get() == "other"


def test_nothing_is_told_where_each_request_has_a_thread(tmp_path: Path) -> None:
    scope: dict[str, object] = {"__name__": "site_app"}
    exec(FLASK, scope)
    app = scope["application"]
    assert len(list(async_views(app))) == 2
    assert not warning_for(app, kind="threads", threads=4)
    assert not warning_for(app, kind="tornado", threads=4)
    assert "or several threads" in warning_for(app, kind="tornado", threads=1)
    assert not warning_for(lambda _environ, _start: [], kind="gevent", threads=1)
    with fleet_in(tmp_path) as fleet:
        fleet.write("site_app.py", FLASK)
        fleet.start("-k", "threads", "--threads", "8", "-w", "1")
        connections = [fleet.connect() for _ in range(8)]
        for connection in connections:
            connection.request("GET", "/")
        assert [connection.getresponse().read() for connection in connections] == [b"flask"] * 8
        for connection in connections:
            connection.close()
        assert "async views" not in fleet.log
