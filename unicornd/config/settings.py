"""The whole configuration as one value.

Rules that span several keys stand in `config.rules`: pydantic runs a rule of the whole only when everything else is
right, so its error would not be told with the others. Pure: made by `layers.load` of what the operator said, never
changed afterwards.
"""

from __future__ import annotations

from pydantic import Field

from unicornd.config.sections.admin import AdminSettings
from unicornd.config.sections.app import AppSettings
from unicornd.config.sections.asgi import AsgiSettings
from unicornd.config.sections.control import ControlSettings
from unicornd.config.sections.hooks import HooksSettings
from unicornd.config.sections.http import HttpSettings
from unicornd.config.sections.logging import LoggingSettings
from unicornd.config.sections.metrics import MetricsSettings
from unicornd.config.sections.process import ProcessSettings
from unicornd.config.sections.proxy import ProxySettings
from unicornd.config.sections.reload import ReloadSettings
from unicornd.config.sections.section import Section
from unicornd.config.sections.server import ServerSettings
from unicornd.config.sections.timeouts import TimeoutsSettings
from unicornd.config.sections.tls import TlsSettings
from unicornd.config.sections.workers import WorkersSettings


class Settings(Section):
    """Everything that the operator can say."""

    app: AppSettings = Field(default_factory=AppSettings.untouched)
    server: ServerSettings = Field(default_factory=ServerSettings.untouched)
    workers: WorkersSettings = Field(default_factory=WorkersSettings.untouched)
    timeouts: TimeoutsSettings = Field(default_factory=TimeoutsSettings.untouched)
    reload: ReloadSettings = Field(default_factory=ReloadSettings.untouched)
    http: HttpSettings = Field(default_factory=HttpSettings.untouched)
    proxy: ProxySettings = Field(default_factory=ProxySettings.untouched)
    tls: TlsSettings = Field(default_factory=TlsSettings.untouched)
    asgi: AsgiSettings = Field(default_factory=AsgiSettings.untouched)
    process: ProcessSettings = Field(default_factory=ProcessSettings.untouched)
    logging: LoggingSettings = Field(default_factory=LoggingSettings.untouched)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings.untouched)
    control: ControlSettings = Field(default_factory=ControlSettings.untouched)
    admin: AdminSettings = Field(default_factory=AdminSettings.untouched)
    hooks: HooksSettings = Field(default_factory=HooksSettings.untouched)
