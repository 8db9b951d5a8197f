from __future__ import annotations

import io
import sys
import warnings
from wsgiref.validate import check_environ  # type: ignore[attr-defined] # the standard's own judge, not in typeshed

import pytest

from tests.corpus.requests import ACCEPTED, Case
from unicornd.http.environ import build_environ, shared_environ
from unicornd.http.head import END_OF_HEAD, parse_head
from unicornd.http.limits import Limits


def ids(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", ACCEPTED, ids=ids)
def test_every_accepted_request_has_an_environ_by_the_book(case: Case) -> None:
    head, end, _ = case.raw.removeprefix(b"\r\n").partition(END_OF_HEAD)
    base = shared_environ(
        server_name="a",
        server_port="80",
        scheme="http",
        wsgi_errors=sys.stderr,
        wsgi_multithread=True,
        wsgi_multiprocess=True,
    )
    environ = build_environ(base, parse_head(head + end, Limits()))
    environ["wsgi.input"] = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about methods that are not in its list
        check_environ(environ)
    assert all(type(value) is str for key, value in environ.items() if "." not in key)
    environ["PATH_INFO"].encode("latin-1")
