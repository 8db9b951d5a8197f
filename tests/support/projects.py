"""Real projects to serve: what a person would have on disk, made by the framework's own tools where it has some.

Each answers `/` with its version, so that a test sees which code answered.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

DJANGO_VIEWS = """
from django.http import HttpResponse
from django.urls import path

VERSION = "{version}"

def home(request):
    return HttpResponse(VERSION, content_type="text/plain")

def upload(request):
    return HttpResponse(str(len(request.body)), content_type="text/plain")

urlpatterns = [path("", home), path("upload", upload)]
"""

FLASK_APP = """
from flask import Flask, request

app = Flask(__name__)
VERSION = "{version}"

@app.get("/")
def home():
    return VERSION, 200, {{"Content-Type": "text/plain"}}

@app.post("/upload")
def upload():
    return str(len(request.get_data()))

def create_app():
    return app
"""

BROKEN = '\nraise RuntimeError("the deploy is broken")\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project on disk: where, what `app.target` is, and the file whose text is its version."""

    folder: Path
    target: str
    source: Path
    template: str

    def write(self, version: str) -> None:
        """Put `version` of the code on disk."""
        self.source.write_text(self.template.format(version=version))

    def write_broken(self) -> None:
        """Put code on disk that raises when it is imported."""
        self.source.write_text(self.template.format(version="broken") + BROKEN)


def make_django(folder: Path) -> Project:
    """Generate a Django project with django-admin."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [sys.executable, "-m", "django", "startproject", "shop", str(folder)], check=True, timeout=60
    )
    settings = folder / "shop" / "settings.py"
    settings.write_text(
        settings.read_text()
        .replace("ALLOWED_HOSTS = []", "ALLOWED_HOSTS = ['*']")
        .replace("    'django.middleware.csrf.CsrfViewMiddleware',\n", "")
    )
    project = Project(
        folder=folder,
        target="shop.wsgi:application",
        source=folder / "shop" / "urls.py",
        template=DJANGO_VIEWS,
    )
    # Django imports its urls with the first request: `check` in wsgi.py is what careful projects do at import.
    wsgi = folder / "shop" / "wsgi.py"
    wsgi.write_text(wsgi.read_text() + "\nimport shop.urls  # a broken view is found at start\n")
    project.write("v1")
    return project


def make_flask(folder: Path) -> Project:
    """Write a Flask application with a factory."""
    folder.mkdir(parents=True, exist_ok=True)
    project = Project(
        folder=folder, target="site_app:create_app()", source=folder / "site_app.py", template=FLASK_APP
    )
    project.write("v1")
    return project
