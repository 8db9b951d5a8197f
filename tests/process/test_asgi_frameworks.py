"""Frameworks as people use them: found by their callable, served with what each is used for."""

from __future__ import annotations

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

FASTAPI = """\
import asyncio, contextlib, threading
from fastapi import BackgroundTasks, FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse

@contextlib.asynccontextmanager
async def lifespan(app):
    yield {"greeting": "hello"}

application = FastAPI(lifespan=lifespan)

@application.get("/")
async def home(request: Request):
    return {"greeting": request.state.greeting, "thread": threading.current_thread().name}

@application.get("/sync")
def plain():
    return {"is_other": threading.current_thread() is not threading.main_thread()}

@application.post("/echo")
async def echo(request: Request):
    return {"size": len(await request.body())}

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
"""

STARLETTE = """\
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def home(request):
    return JSONResponse({"greeting": "hello"})

application = Starlette(routes=[Route("/", home)])
"""

LITESTAR = """\
from litestar import Litestar, get

@get("/")
async def home() -> dict[str, str]:
    return {"greeting": "hello"}

application = Litestar([home])
"""

QUART = """\
from quart import Quart
application = Quart(__name__)

@application.get("/")
async def home():
    return {"greeting": "hello"}
"""

DJANGO_URLS = """\
from django.http import JsonResponse
from django.urls import path

async def home(request):
    return JsonResponse({"greeting": "hello", "path": request.path})

urlpatterns = [path("", home)]
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        yield fleet


@pytest.mark.parametrize(
    "source", [FASTAPI, STARLETTE, LITESTAR, QUART], ids=["fastapi", "starlette", "litestar", "quart"]
)
def test_a_framework_is_served_without_a_word_about_the_kind(fleet: Fleet, source: str) -> None:
    fleet.write("site_app.py", source)
    fleet.start()
    assert json.loads(fleet.get())["greeting"] == "hello"
    assert fleet.status()["wanted"]["kind"] == "asgi"
    assert fleet.end() == 0
    assert "Traceback" not in fleet.log


def test_fastapi_with_threads_streams_uploads_and_websockets(fleet: Fleet) -> None:
    fleet.write("site_app.py", FASTAPI)
    fleet.start("-k", "uvicorn.workers.UvicornWorker")
    assert json.loads(fleet.get("/sync")) == {"is_other": True}
    assert fleet.get("/events") == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
    connection = fleet.connect()
    connection.request("POST", "/echo", body=bytes(3_000_000))
    assert json.loads(connection.getresponse().read()) == {"size": 3_000_000}
    connection.close()
    with connect_websocket(f"ws://{fleet.addresses()[0]}/ws") as client:
        client.send("hello")
        assert client.recv() == "HELLO"
    assert fleet.end() == 0
    assert "Traceback" not in fleet.log


def test_django_is_served_by_its_asgi_callable(fleet: Fleet) -> None:
    command = [sys.executable, "-m", "django", "startproject", "shop", str(fleet.folder)]
    subprocess.run(command, check=True, timeout=60)
    fleet.write("shop/urls.py", DJANGO_URLS)
    fleet.change("shop/settings.py", "ALLOWED_HOSTS = []", "ALLOWED_HOSTS = ['*']")
    fleet.change("unicornd.toml", "./site_app.py:application", "shop.asgi:application")
    fleet.start()
    assert json.loads(fleet.get()) == {"greeting": "hello", "path": "/"}
    assert fleet.end() == 0
