"""What a setting means, for `unicornctl config explain` and for editors: its type in words, its names, what applies it.

Pure. A setting is found by our key, by gunicorn's name, by a flag, or by the last part of our key if that is unique.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema

from unicornd.config.flags import FLAGS
from unicornd.config.gunicorn import BY_NAME, row_of_key
from unicornd.config.kinds import GREEN, SYNC
from unicornd.config.problems import FREE_TABLES, suggestion
from unicornd.config.sections.section import Section
from unicornd.config.settings import Settings
from unicornd.config.show import apply_of, shown_value
from unicornd.dataclass import dataclass
from unicornd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from unicornd.config.draft import Key
    from unicornd.config.gunicorn import Row

APPLIES = {
    "live": "a reload applies it to the arbiter, which obeys it at once",
    "rolling": "the workers that a reload boots have it",
    "restart": "unicornd has to be restarted",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One setting.

    Attributes:
        key: dotted; empty for a setting of gunicorn's that has none here.
        gunicorn: its name there, or empty.
        flags: on the command line.
        variable: the environment variable.
        about: what it means; for one without a key, why there is none.
        form: the type, in words.
        default: as JSON has it.
        examples: values that are right.
        apply: `live`, `rolling` or `restart`.
    """

    key: str
    gunicorn: str = ""
    flags: tuple[str, ...] = ()
    variable: str = ""
    about: str
    form: str = ""
    default: object = None
    examples: tuple[object, ...] = ()
    apply: str = ""


def explain(name: str) -> list[Explanation]:
    """Return what a name means: several settings, if one of gunicorn's is several here, or if it is a table's.

    Raises:
        ConfigError: there is no such setting.
    """
    keys = all_keys()
    dotted = {".".join(key): key for key in keys}
    if name in dotted:
        return [_explanation(dotted[name])]
    if (table := table_of(name)) is not None:
        return [_explanation(key) for key in keys if key[: len(table)] == table]
    row = FLAGS.get(name) or BY_NAME.get(name)
    if row is not None:
        return _of_row(row, dotted)
    above, _, own = name.rpartition(".")
    if tuple(above.split(".")) in FREE_TABLES and own:
        return [_explanation(tuple(above.split(".")))]
    found = [key for key in keys if key[-1] == name]
    if not found:
        near = suggestion(
            name, [*dotted, *BY_NAME, *FLAGS, *(key[-1] for key in keys), *map(".".join, tables())]
        )
        raise ConfigError(
            f"there is no setting {name}{near}",
            hint="`unicornctl config show --all` lists all of them, `config explain TABLE` those of a table",
        )
    return [_explanation(key) for key in found]


def table_of(name: str) -> Key | None:
    """Return the table that a name is of: `timeouts`, `logging.access`; None if it is of none.

    `[workers]` in brackets is always the table; `workers` without them is gunicorn's number of workers.
    """
    table = tuple(name.removeprefix("[").removesuffix("]").split("."))
    is_named = name.startswith("[") or (name not in BY_NAME and name not in FLAGS)
    return table if is_named and table in tables() else None


def tables() -> list[Key]:
    """Return the names of all tables, each once: `timeouts`, `logging`, `logging.access`."""
    found = (key[:depth] for key in all_keys() for depth in range(1, len(key)))
    return list(dict.fromkeys(found))


def all_keys() -> list[Key]:
    """Return the keys of all settings, in the order of the sections."""

    def walk(model: type[Section], above: Key) -> Iterator[Key]:
        for name, info in model.model_fields.items():
            annotation = info.annotation
            if isinstance(annotation, type) and issubclass(annotation, Section):
                yield from walk(annotation, (*above, name))
            else:
                yield (*above, name)

    return list(walk(Settings, ()))


def about_table(table: Key) -> str:
    """Return what a table of settings is about, as a sentence."""
    model: type[Section] = Settings
    for name in table:
        model = model.model_fields[name].annotation  # type: ignore[assignment] # sections
    about = (model.__doc__ or "").strip().removeprefix(f"[{'.'.join(table)}]: ")
    return about[:1].upper() + about[1:]


def _of_row(row: Row, dotted: Mapping[str, Key]) -> list[Explanation]:
    found = [dotted[key] if key in dotted else tuple(key.split(".")[:2]) for key in row.keys]
    if found:
        return [_explanation(key) for key in found]
    return [Explanation(key="", gunicorn=row.name, flags=row.flags, about=row.reason)]


def _explanation(key: Key) -> Explanation:
    schema = schema_of(key)
    dotted = ".".join(key)
    row = row_of_key(dotted)
    return Explanation(
        key=dotted,
        gunicorn=row.name if row is not None else "",
        flags=row.flags if row is not None else (),
        variable="UNICORND_" + "__".join(part.upper() for part in key),
        about=schema.get("description", ""),
        form=form_of(schema),
        default=schema.get("default"),
        examples=tuple(schema.get("examples", ())),
        apply=apply_of(key),
    )


class _Maker(GenerateJsonSchema):
    """Says nothing of defaults that are no JSON: `schema_of` puts them into the operator's words."""

    ignored_warning_kinds = GenerateJsonSchema.ignored_warning_kinds | {"non-serializable-default"}


def schema_of_table(model: type[Section]) -> dict[str, Any]:
    """Return the JSON Schema of a table; defaults are there only where they are JSON themselves."""
    return model.model_json_schema(schema_generator=_Maker)


def schema_of(key: Key) -> dict[str, Any]:
    """Return the JSON Schema of one setting; its default in the words that the operator would use."""
    model: type[Section] = Settings
    for name in key[:-1]:
        model = model.model_fields[name].annotation  # type: ignore[assignment] # sections, all but the last
    info = model.model_fields[key[-1]]
    schema = dict(schema_of_table(model)["properties"][key[-1]])
    default = shown_value(key, info.get_default(call_default_factory=True))
    schema.pop("default", None)
    return schema if default is None else {**schema, "default": default}


def form_of(schema: Mapping[str, Any]) -> str:
    """Return a type in words: `whole number, 1 or more`, `"auto"`, `list of texts`."""
    match schema:
        case {"anyOf": [*choices]}:
            words = [form_of(choice) for choice in choices if choice != {"type": "null"}]
            return " or ".join(dict.fromkeys(words))
        case {"enum": [*values]}:
            return " or ".join(f'"{value}"' for value in values)
        case {"const": value}:
            return f'"{value}"' if isinstance(value, str) else str(value)
        case {"type": "boolean"}:
            return "true or false"
        case {"type": "integer"}:
            return f"whole number{_bounds(schema)}"
        case {"type": "number"}:
            return f"number{_bounds(schema)}"
        case {"type": "array", "items": items}:
            return f"list of {form_of(items)}"
        case {"type": "object"}:
            return "table"
        case {"format": "path"}:
            return "path"
        case {"x-form": form}:
            return str(form)
        case _:
            return "text"


def _bounds(schema: Mapping[str, Any]) -> str:
    match schema:
        case {"minimum": low, "maximum": high}:
            return f" from {low} to {high}"
        case {"minimum": low}:
            return f" ≥ {low}"
        case _:
            return ""


def _is_off(*parts: str) -> Callable[[Settings], bool]:
    """Return a question: is this setting, by its key, empty, false, 0 or off?"""

    def ask(settings: Settings) -> bool:
        value: Any = settings
        for part in parts:
            value = getattr(value, part)
        return not value or value == "off"

    return ask


# What has no effect unless something else is set: keys (or the beginning of keys) → question, and what to set.
IDLE: tuple[tuple[tuple[str, ...], Callable[[Settings], bool], str], ...] = (
    (("workers.max_requests_jitter",), _is_off("workers", "max_requests"), "workers.max_requests is 0"),
    (
        ("logging.access.format",),
        _is_off("logging", "access", "file"),
        "there is no access log: set logging.access.file",
    ),
    (("process.initgroups",), _is_off("process", "user"), "workers keep the user: set process.user"),
    (("control.",), lambda settings: not settings.control.enabled, "control.enabled is false"),
    (("reload.engine", "reload.extra_files"), _is_off("reload", "on_change"), "reload.on_change is false"),
    (("proxy.allow_ips",), _is_off("proxy", "protocol"), 'proxy.protocol is "off"'),
    (
        ("server.uwsgi_allow_ips",),
        lambda settings: settings.server.protocol != "uwsgi",
        'server.protocol is not "uwsgi"',
    ),
    (
        ("tls.keyfile", "tls.ca_certs", "tls.cert_reqs", "tls.minimum_version", "tls.ciphers"),
        lambda settings: settings.tls.certfile is None and settings.hooks.ssl_context is None,
        "there is no TLS: set tls.certfile",
    ),
    (
        ("metrics.",),
        _is_off("metrics", "statsd"),
        "nothing is sent: set metrics.statsd",
    ),
    (("logging.syslog.",), _is_off("logging", "syslog", "enabled"), "logging.syslog.enabled is false"),
    (("app.paste_global",), _is_off("app", "paste"), "there is no PasteDeploy file: set app.paste"),
    (("process.inherit_stdio",), _is_off("process", "daemon"), "process.daemon is false"),
    (
        ("workers.threads",),
        lambda settings: settings.workers.kind in GREEN | {SYNC},
        "this kind of workers has no threads of its own",
    ),
    (
        ("asgi.",),
        lambda settings: settings.workers.kind not in {None, "asgi"},
        'only workers of kind "asgi" take it',
    ),
)

SWITCHES = frozenset({"control.enabled", "metrics.statsd", "logging.syslog.enabled"})
"""What the reasons above ask for is not idle itself."""


def why_idle(key: str, settings: Settings) -> str:
    """Return why a setting has no effect beside these others, or an empty text."""
    if key in SWITCHES:
        return ""
    found = (reason for keys, ask, reason in IDLE if key.startswith(keys) and ask(settings))
    return next(found, "")
