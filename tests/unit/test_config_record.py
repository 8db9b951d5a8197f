"""Settings as plain values: the shape of the models without them."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from unicornd.config.record import Record, leaves, plain, replaced
from unicornd.config.resolved import socket_mode_of
from unicornd.config.settings import Settings


def settings(text: str = "{}") -> Any:
    return plain(Settings.model_validate_json(text, strict=True))


def test_it_has_the_values_of_the_models_and_knows_which_were_said() -> None:
    found = settings('{"workers": {"count": 3}, "app": {"env": {"A": "1"}}}')
    assert {type(found), type(found.workers)} == {Record}
    assert (found.workers.count, found.workers.threads, found.app.env) == (3, 1, {"A": "1"})
    assert found.workers.said == {"count"}
    assert found.said == {"workers", "app"}


def test_it_does_not_change() -> None:
    with pytest.raises(AttributeError, match="settings do not change: count"):
        settings().workers.count = 2
    assert settings().workers.count == 1


def test_a_value_is_replaced_in_another_one() -> None:
    found = settings()
    other = replaced(found.workers, count=5)
    assert (found.workers.count, other.count, other.threads) == (1, 5, 1)
    assert other.said == {"count"}


def test_those_with_the_same_values_are_equal_wherever_these_came_from() -> None:
    assert settings() == settings('{"workers": {"count": 1}}')
    assert settings() != settings('{"workers": {"count": 2}}')
    assert settings() != 3
    with pytest.raises(TypeError):
        hash(settings())


def test_it_is_the_same_in_another_process() -> None:
    found = settings('{"server": {"bind": ["unix:/run/x", ":80"]}, "hooks": {"on_exit": "shop:bye"}}')
    again = pickle.loads(pickle.dumps(found))
    assert again == found
    assert again.server.said == {"bind"}
    assert repr(again) == repr(found)


def test_the_leaves_are_all_settings() -> None:
    found = dict(leaves(settings('{"app": {"env": {"A": "1", "B": "2"}}}')))
    assert found["app", "env", "A"] == "1"
    assert found["workers", "count"] == 1
    assert found["proxy", "secure_scheme_headers", "X-FORWARDED-PROTOCOL"] == "ssl"
    assert not [key for key, value in found.items() if isinstance(value, Record)]


@pytest.mark.parametrize(
    ("umask", "said", "mode"),
    [(None, "0666", 0o666), ("0027", "0666", 0o640), ("0027", "0660", 0o660), (None, "0600", 0o600)],
)
def test_a_umask_takes_from_the_usual_mode_of_unix_sockets(umask: str | None, said: str, mode: int) -> None:
    text = json.dumps({"server": {"socket_mode": said}, "process": {"umask": umask}})
    found = settings(text)
    assert socket_mode_of(found.server, found.process) == mode
