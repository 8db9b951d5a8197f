"""unicornd: a declarative process supervisor and web server for Python applications."""

__version__ = "0.1.0"
