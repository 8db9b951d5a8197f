"""[app]: what is served."""

from __future__ import annotations

from pydantic import Field

from unicornd.config.kinds import Interface
from unicornd.config.sections.section import ROLLING, Section
from unicornd.config.texts import ImportText, PathText


class AppSettings(Section):
    """What is served, and in which surroundings it is loaded."""

    target: ImportText | None = Field(
        default=None,
        description='The application: "module:attribute", "module:factory(literal, …)", "./file.py:attribute".',
        examples=["shop.wsgi:application", "shop:create_app()", "./app.py:app"],
        json_schema_extra=ROLLING,
    )
    interface: Interface = Field(
        default="auto",
        description='How the application is called: "wsgi" or "asgi"; "auto": as it looks.',
        json_schema_extra=ROLLING,
    )
    preload: bool = Field(
        default=False,
        description="Load the application once, in a process of its own (the mold), and fork the workers from there: "
        "they share its memory and are ready in milliseconds. A reload makes a new mold, with the new code.",
        json_schema_extra=ROLLING,
    )
    chdir: PathText | None = Field(
        default=None,
        description="Working directory of the workers; it is also put on the import path. Default: where unicornd was started.",
        json_schema_extra=ROLLING,
    )
    env: dict[str, str] = Field(
        default_factory=dict,
        description="Environment variables that the workers and the hooks get in addition; unicornd itself does not heed them.",
        examples=[{"DJANGO_SETTINGS_MODULE": "shop.settings"}],
        json_schema_extra=ROLLING,
    )
    unset_env: tuple[str, ...] = Field(
        default=(),
        description="Environment variables of unicornd's that the workers and the hooks do not get.",
        examples=[["DEBUG"]],
        json_schema_extra=ROLLING,
    )
    pythonpath: tuple[str, ...] = Field(
        default=(), description="Directories put in front of the import path.", json_schema_extra=ROLLING
    )
    search_first: tuple[str, ...] = Field(
        default=(),
        description="Directories searched for modules behind app.pythonpath, and before app.chdir and what is installed: what a "
        "gunicorn.conf.py puts in front of sys.path.",
        json_schema_extra=ROLLING,
    )
    search_last: tuple[str, ...] = Field(
        default=(),
        description="Directories searched for modules behind what is installed: what a gunicorn.conf.py appends to sys.path.",
        json_schema_extra=ROLLING,
    )
    root_path: str = Field(
        default="",
        pattern=r"^(/[!-~]*[!-.0-~])?$",
        description="Where a proxy has mounted the application, without a slash at the end: SCRIPT_NAME, or root_path for ASGI.",
        examples=["/shop"],
        json_schema_extra={**ROLLING, "x-form": "a path such as /shop, without a slash at the end"},
    )
    paste: str | None = Field(
        default=None,
        description='PasteDeploy file that makes the application, with "#name" for one that is not "main". Needs '
        "unicornd[paste]. If it has [loggers], they configure Python's logging.",
        json_schema_extra=ROLLING,
    )
    paste_global: dict[str, str] = Field(
        default_factory=dict,
        description="Global variables of the PasteDeploy file.",
        json_schema_extra=ROLLING,
    )
    warmup: tuple[str, ...] = Field(
        default=(),
        description="Paths that the application is asked for, inside its process, before it is ready.",
        examples=[["/healthz"]],
        json_schema_extra=ROLLING,
    )
    spew: bool = Field(
        default=False,
        description="Print every line of Python that is executed; for despair.",
        json_schema_extra=ROLLING,
    )
