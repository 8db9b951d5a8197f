"""A Flask application with a factory."""

from __future__ import annotations

from flask import Flask


def create_app() -> Flask:
    """Make the application."""
    app = Flask(__name__)

    @app.get("/")
    def home() -> str:
        return "Hello from Flask\n"

    return app
