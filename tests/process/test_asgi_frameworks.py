"""ASGI frameworks as people use them: found by their callable, served with what each is used for."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from websockets.sync.client import connect as connect_websocket

from tests.support.fleet import Fleet, fleet_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UPLOAD = 2_000_000
EVENTS = "data: 0\n\ndata: 1\n\ndata: 2\n\n"

# Each answers / with JSON, /upload with the size of what was sent, /events with server-sent events, and says what a
# WebSocket at /ws says, only louder.
SITES = {
    "fastapi": """\
import asyncio, contextlib, threading
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse

@contextlib.asynccontextmanager
async def lifespan(app):
    yield {"greeting": "hello"}

application = FastAPI(lifespan=lifespan)

@application.get("/")
async def home(request: Request):
    return {"greeting": request.state.greeting}

@application.get("/sync")
def plain():
    return {"is_other": threading.current_thread() is not threading.main_thread()}

@application.post("/upload")
async def upload(request: Request):
    return {"size": sum([len(part) async for part in request.stream()])}

@application.get("/events")
async def events():
    async def stream():
        for number in range(3):
            yield f"data: {number}\\n\\n"
            await asyncio.sleep(0)
    return StreamingResponse(stream(), media_type="text/event-stream")

@application.websocket("/ws")
async def ws(socket: WebSocket):
    await socket.accept()
    await socket.send_text((await socket.receive_text()).upper())
    await socket.close()
""",
    "starlette": """\
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

async def home(request):
    return JSONResponse({"greeting": "hello"})

async def upload(request):
    return JSONResponse({"size": len(await request.body())})

async def events(request):
    async def stream():
        for number in range(3):
            yield f"data: {number}\\n\\n"
    return StreamingResponse(stream(), media_type="text/event-stream")

async def ws(socket):
    await socket.accept()
    await socket.send_text((await socket.receive_text()).upper())
    await socket.close()

application = Starlette(routes=[
    Route("/", home), Route("/upload", upload, methods=["POST"]), Route("/events", events), WebSocketRoute("/ws", ws),
])
""",
    "litestar": """\
from litestar import Litestar, Request, get, post, websocket_listener
from litestar.response import Stream

@get("/")
async def home() -> dict[str, str]:
    return {"greeting": "hello"}

@post("/upload")
async def upload(request: Request) -> dict[str, int]:
    return {"size": len(await request.body())}

@get("/events")
async def events() -> Stream:
    async def stream():
        for number in range(3):
            yield f"data: {number}\\n\\n"
    return Stream(stream(), media_type="text/event-stream")

@websocket_listener("/ws")
async def ws(data: str) -> str:
    return data.upper()

application = Litestar([home, upload, events, ws])
""",
    "quart": """\
from quart import Quart, request, websocket

application = Quart(__name__)

@application.get("/")
async def home():
    return {"greeting": "hello"}

@application.post("/upload")
async def upload():
    return {"size": len(await request.get_data())}

@application.get("/events")
async def events():
    async def stream():
        for number in range(3):
            yield f"data: {number}\\n\\n".encode()
    return stream(), {"Content-Type": "text/event-stream"}

@application.websocket("/ws")
async def ws():
    await websocket.send((await websocket.receive()).upper())
""",
    "django": """\
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import JsonResponse, StreamingHttpResponse
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", DATA_UPLOAD_MAX_MEMORY_SIZE=None)

async def home(request):
    return JsonResponse({"greeting": "hello"})

async def events(request):
    async def stream():
        for number in range(3):
            yield f"data: {number}\\n\\n"
    return StreamingHttpResponse(stream(), content_type="text/event-stream")

urlpatterns = [
    path("", home),
    path("upload", lambda request: JsonResponse({"size": len(request.body)})),
    path("events", events),
]
application = get_asgi_application()
""",
}
SITES["channels"] = f"""\
{SITES["django"]}
from channels.generic.websocket import WebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter

class Shout(WebsocketConsumer):
    def receive(self, text_data=None, bytes_data=None):
        self.send(text_data=text_data.upper())
        self.close()

application = ProtocolTypeRouter({{"http": application, "websocket": URLRouter([path("ws", Shout.as_asgi())])}})
"""
WITHOUT_WEBSOCKETS = frozenset({"django"})
"""Django has Channels for them."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        yield fleet


@pytest.mark.parametrize("framework", SITES)
def test_a_framework_is_served_without_a_word_about_the_kind(fleet: Fleet, framework: str) -> None:
    fleet.write("site_app.py", SITES[framework])
    fleet.start()
    assert fleet.status()["wanted"]["kind"] == "asgi"
    assert json.loads(fleet.get())["greeting"] == "hello"
    assert fleet.get("/events") == EVENTS
    with contextlib.closing(fleet.connect()) as connection:
        for body in (bytes(UPLOAD), iter([b"abc", b"de"])):
            connection.request("POST", "/upload", body=body, encode_chunked=True)
            size = UPLOAD if isinstance(body, bytes) else 5
            assert json.loads(connection.getresponse().read()) == {"size": size}
    if framework not in WITHOUT_WEBSOCKETS:
        with connect_websocket(f"ws://{fleet.addresses()[0]}/ws") as client:
            client.send("hello")
            assert client.recv() == "HELLO"
    assert fleet.end() == 0
    assert "Traceback" not in fleet.log


def test_fastapi_with_threads_is_served_by_the_name_that_people_have_in_their_files(fleet: Fleet) -> None:
    fleet.write("site_app.py", SITES["fastapi"])
    fleet.start("-k", "uvicorn.workers.UvicornWorker")
    assert json.loads(fleet.get("/sync")) == {"is_other": True}
    assert fleet.end() == 0
    assert "Traceback" not in fleet.log


def test_a_project_of_django_is_served_by_its_asgi_callable(fleet: Fleet) -> None:
    command = [sys.executable, "-m", "django", "startproject", "shop", str(fleet.folder)]
    subprocess.run(command, check=True, timeout=60)
    fleet.change("shop/settings.py", "ALLOWED_HOSTS = []", "ALLOWED_HOSTS = ['*']")
    fleet.change("unicornd.toml", "./site_app.py:application", "shop.asgi:application")
    fleet.start()
    assert "The install worked successfully" in fleet.get()
    assert fleet.end() == 0
