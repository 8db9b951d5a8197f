"""What an application is told of its client's certificate."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from unicornd.workers.peerfacts import Certificate, facts_of

if TYPE_CHECKING:
    from unicornd.workers.peerfacts import Name


def written(name: Name) -> str:
    return str(facts_of(Certificate(subject=name), b"")["SSL_CLIENT_S_DN"]).encode("latin-1").decode()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ((), ""),
        (((("countryName", "DE"),), (("commonName", "shop"),)), "CN=shop,C=DE"),
        (((("commonName", "a"), ("userId", "b")),), "CN=a+UID=b"),
        (((("emailAddress", "a@b.example"),),), "emailAddress=a@b.example"),
        (((("commonName", 'a,b+c"d\\e<f>;'),),), r"CN=a\,b\+c\"d\\e\<f\>\;"),
        (((("commonName", "#1"),),), r"CN=\#1"),
        (((("commonName", " x "),),), r"CN=\ x\ "),
        (((("commonName", "a\0b"),),), r"CN=a\00b"),
        (((("commonName", "Grüße"),),), "CN=Grüße"),
    ],
)
def test_a_name_is_written_as_rfc_4514_has_it(name: Name, text: str) -> None:
    assert written(name) == text


def test_a_name_that_looks_like_two_is_one() -> None:
    """CN "x,O=admin" must not read as the organization of somebody."""
    assert written(((("commonName", "x,O=admin"),),)) == r"CN=x\,O=admin"


def test_the_certificate_itself_is_given_as_pem() -> None:
    der = bytes(range(256))
    text = facts_of({}, der)["SSL_CLIENT_CERT"]
    assert ssl.PEM_cert_to_DER_cert(text) == der
    assert max(map(len, text.splitlines())) == 64
