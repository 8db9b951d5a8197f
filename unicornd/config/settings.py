"""The whole configuration as one value, and the rules that span two sections.

Pure: made by `layers.load` of what the operator said, never changed afterwards.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from unicornd.config.sections.admin import AdminSettings
from unicornd.config.sections.app import AppSettings
from unicornd.config.sections.control import ControlSettings
from unicornd.config.sections.hooks import HooksSettings
from unicornd.config.sections.http import HttpSettings
from unicornd.config.sections.logging import LoggingSettings
from unicornd.config.sections.process import ProcessSettings
from unicornd.config.sections.reload import ReloadSettings
from unicornd.config.sections.section import Section
from unicornd.config.sections.server import ServerSettings
from unicornd.config.sections.timeouts import TimeoutsSettings
from unicornd.config.sections.workers import WorkersSettings


class Settings(Section):
    """Everything that the operator can say."""

    app: AppSettings = Field(default_factory=AppSettings)
    server: ServerSettings = Field(default_factory=ServerSettings)
    workers: WorkersSettings = Field(default_factory=WorkersSettings)
    timeouts: TimeoutsSettings = Field(default_factory=TimeoutsSettings)
    reload: ReloadSettings = Field(default_factory=ReloadSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    process: ProcessSettings = Field(default_factory=ProcessSettings)
    logging: LoggingSettings = Field(default_factory=LoggingSettings)
    control: ControlSettings = Field(default_factory=ControlSettings)
    admin: AdminSettings = Field(default_factory=AdminSettings)
    hooks: HooksSettings = Field(default_factory=HooksSettings)

    @model_validator(mode="after")
    def _check_what_is_not_there_yet(self) -> Settings:
        if self.app.preload:
            raise ValueError("app.preload: true is not available in this version; leave it out")
        if self.app.interface == "asgi":
            raise ValueError('app.interface: "asgi" is not available in this version; this one serves WSGI')
        return self

    @model_validator(mode="after")
    def _check_kind_and_threads(self) -> Settings:
        if self.workers.kind == "sync" and self.workers.threads > 1:
            raise ValueError('workers.threads: kind "sync" has one thread; use kind = "threads"')
        return self
