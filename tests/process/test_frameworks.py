"""WSGI frameworks over the kinds that serve WSGI, and large uploads over every kind: real applications, real requests."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest

from tests.process.test_asgi_frameworks import SITES as ASGI_SITES
from tests.support.fleet import fleet_in
from tests.support.kinds import ASGI, EVERY_KIND
from tests.support.traffic import Traffic
from tests.support.waiting import eventually

if TYPE_CHECKING:
    import http.client
    from collections.abc import Iterator
    from pathlib import Path

TAKES_CHUNKED = {"flask", "pyramid"}
"""The others ask for Content-Length, or decode what PEP 3333 says is decoded already."""
UPLOAD = b"x" * 300_000
LARGE_UPLOAD = 200 * 2**20
PIECE = bytes(2**20)
BOUNDARY = b"------------------------boundary"

SITES = {
    "django": """\
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", DEBUG=False)
urlpatterns = [
    path("", lambda request: HttpResponse("hello")),
    path("upload", lambda request: HttpResponse(str(len(request.body)))),
    path("stream", lambda request: StreamingHttpResponse(iter(["one ", "two"]))),
]
application = get_wsgi_application()
""",
    "flask": """\
from flask import Flask, Response, request

application = Flask(__name__)
application.add_url_rule("/", "home", lambda: "hello")
application.add_url_rule("/upload", "upload", lambda: str(len(request.get_data())), methods=["POST"])
application.add_url_rule("/stream", "stream", lambda: Response(iter(["one ", "two"])))
""",
    "bottle": """\
import bottle

application = bottle.Bottle()
application.route("/", callback=lambda: "hello")
application.route("/upload", "POST", lambda: str(len(bottle.request.body.read())))
application.route("/stream", callback=lambda: iter(["one ", "two"]))
""",
    "pyramid": """\
from pyramid.config import Configurator
from pyramid.response import Response

with Configurator() as config:
    for name in ("", "upload", "stream"):
        config.add_route(name or "home", "/" + name)
    config.add_view(lambda request: Response("hello"), route_name="home")
    config.add_view(lambda request: Response(str(len(request.body))), route_name="upload")
    config.add_view(lambda request: Response(app_iter=iter([b"one ", b"two"])), route_name="stream")
    application = config.make_wsgi_app()
""",
    "falcon": """\
import falcon

class Home:
    def on_get(self, request, response):
        response.text = "hello"

class Upload:
    def on_post(self, request, response):
        response.text = str(len(request.bounded_stream.read()))

class Stream:
    def on_get(self, request, response):
        response.stream = iter([b"one ", b"two"])

application = falcon.App()
application.add_route("/", Home())
application.add_route("/upload", Upload())
application.add_route("/stream", Stream())
""",
}


KINDS_OF = {
    "django": ("threads", "gevent", "tornado"),
    "flask": ("sync", "eventlet", "gevent_pywsgi"),
    "bottle": ("threads", "gevent_pywsgi"),
    "pyramid": ("sync", "gevent"),
    "falcon": ("eventlet", "tornado"),
}
"""Each framework in kinds of different machines, and each kind with two of them."""


@pytest.mark.parametrize(
    ("framework", "kind"), [(framework, kind) for framework in SITES for kind in KINDS_OF[framework]]
)
def test_a_framework_answers_takes_uploads_streams_and_leaves_without_a_loss(
    tmp_path: Path, framework: str, kind: str
) -> None:
    with fleet_in(tmp_path) as fleet:
        fleet.write("site_app.py", SITES[framework])
        fleet.change("unicornd.toml", "count = 2", f'count = 1\nkind = "{kind}"')
        fleet.start()
        connection = fleet.connect()
        with contextlib.closing(connection):
            for method, path, sent, wanted in (
                ("GET", "/", None, "hello"),
                ("POST", "/upload", UPLOAD, str(len(UPLOAD))),
                ("POST", "/upload", iter([b"abc", b"de"]) if framework in TAKES_CHUNKED else b"abcde", "5"),
                ("GET", "/stream", None, "one two"),
            ):
                connection.request(method, path, body=sent, encode_chunked=True)
                response = connection.getresponse()
                assert (response.status, response.read().decode()) == (200, wanted)

        def connect() -> http.client.HTTPConnection:
            return fleet.connect(address)

        address = fleet.addresses()[0]
        with Traffic(connect, clients=3) as traffic:
            eventually(traffic.answered_more(50), "requests are answered")
            assert not traffic.tally.failures
            assert fleet.end() == 0
            eventually(lambda: traffic.tally.failures, "the port refuses")
        assert not [each for each in traffic.tally.failures if "refused" not in each.lower()]


FILES = """\
from flask import Flask, request

application = Flask(__name__)

@application.post("/upload")
def upload():
    size = 0
    while part := request.files["file"].stream.read(2**20):
        size += len(part)
    return {"size": size}
"""


def form_with_a_file() -> Iterator[bytes]:
    """A form as a browser sends it."""
    yield b'--%s\r\nContent-Disposition: form-data; name="file"; filename="film"\r\n\r\n' % BOUNDARY
    for _ in range(LARGE_UPLOAD // len(PIECE)):
        yield PIECE
    yield b"\r\n--%s--\r\n" % BOUNDARY


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_file_of_200_megabytes_is_uploaded(tmp_path: Path, kind: str) -> None:
    with fleet_in(tmp_path) as fleet:
        fleet.write("site_app.py", ASGI_SITES["fastapi"] if kind in ASGI else FILES)
        fleet.start("-k", kind, "-w", "1")
        size = sum(map(len, form_with_a_file()))
        fields = {
            "Content-Length": str(size),
            "Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}",
        }
        with contextlib.closing(fleet.connect()) as connection:
            connection.request("POST", "/upload", body=form_with_a_file(), headers=fields)
            response = connection.getresponse()
            told = json.loads(response.read())
        assert response.status == 200
        assert told == {"size": size if kind in ASGI else LARGE_UPLOAD}
