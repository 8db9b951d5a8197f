"""Requests as bytes, and what becomes of them: accepted with these facts, or refused with this status.

Every case is run whole, byte by byte, split at every offset, and followed by another request.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

HOST = b"Host: example.org\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request.

    Attributes:
        raw: what is sent.
        status: of the refusal, or None if it is accepted.
        section: where the refusal is written, its beginning.
        facts: attributes of the parsed head.
        fields: some of its fields.
        body: the decoded body.
    """

    name: str
    raw: bytes
    status: HTTPStatus | None = None
    section: str = ""
    facts: dict[str, object] = field(default_factory=dict)
    fields: dict[str, str | None] = field(default_factory=dict)
    body: bytes = b""


def get(name: str, lines: bytes = HOST, *, line: bytes = b"GET / HTTP/1.1", **expected: Any) -> Case:
    """A request without a body that is accepted."""
    return Case(name=name, raw=line + b"\r\n" + lines + b"\r\n", **expected)


def bad(
    name: str,
    lines: bytes = HOST,
    *,
    line: bytes = b"GET / HTTP/1.1",
    body: bytes = b"",
    status: HTTPStatus = HTTPStatus.BAD_REQUEST,
    section: str = "RFC 911",
) -> Case:
    """A request that is refused."""
    return Case(name=name, raw=line + b"\r\n" + lines + b"\r\n" + body, status=status, section=section)


def post(name: str, headers: bytes, sent: bytes, body: bytes, **expected: Any) -> Case:
    """A request with a body that is accepted."""
    return Case(
        name=name, raw=b"POST / HTTP/1.1\r\n" + HOST + headers + b"\r\n" + sent, body=body, **expected
    )


def never_ending(name: str, raw: bytes, *, section: str = "RFC 9112 section 2.2") -> Case:
    """A head that has no end, and is refused all the same, at once."""
    return Case(name=name, raw=raw, status=HTTPStatus.BAD_REQUEST, section=section)


CHUNKED = b"Transfer-Encoding: chunked\r\n"


def chunks(name: str, sent: bytes, **expected: Any) -> Case:
    """A chunked body that is refused."""
    return bad(
        name, HOST + CHUNKED, line=b"POST / HTTP/1.1", body=sent, section="RFC 9112 section 7.1", **expected
    )


ACCEPTED = (
    get(
        "simplest",
        facts={"method": "GET", "path": "/", "query": "", "protocol": "HTTP/1.1", "keep_alive": True},
    ),
    get(
        "HTTP/1.0 without Host",
        b"",
        line=b"GET / HTTP/1.0",
        facts={"keep_alive": False, "protocol": "HTTP/1.0"},
    ),
    get(
        "HTTP/1.0 keep-alive",
        b"Connection: Keep-Alive\r\n",
        line=b"GET / HTTP/1.0",
        facts={"keep_alive": True},
    ),
    get("query", line=b"GET /a?b=c?d HTTP/1.1", facts={"path": "/a", "query": "b=c?d", "target": "/a?b=c?d"}),
    get("empty query", line=b"GET /a? HTTP/1.1", facts={"path": "/a", "query": ""}),
    get("two slashes", line=b"GET //a HTTP/1.1", facts={"path": "//a"}),
    get("percent-encoded path", line=b"GET /%C3%A9 HTTP/1.1", facts={"path": "/%C3%A9"}),
    get("odd characters in the target", line=b'GET /"|[]{}^`<>\\ HTTP/1.1', facts={"path": '/"|[]{}^`<>\\'}),
    get("method of many token characters", line=b"!$%&'*+-.^_`|~Z09 / HTTP/1.1"),
    get("one empty line before", line=b"\r\nGET / HTTP/1.1", facts={"method": "GET"}),
    get("asterisk", line=b"OPTIONS * HTTP/1.1", facts={"path": "", "target": "*"}),
    get(
        "authority",
        line=b"CONNECT example.org:443 HTTP/1.1",
        facts={"path": "", "query": "", "keep_alive": False},
    ),
    get("authority IPv6", line=b"CONNECT [::1]:443 HTTP/1.1"),
    get(
        "absolute form",
        line=b"GET http://other.org:81/a?b HTTP/1.1",
        facts={"path": "/a", "query": "b"},
        fields={"HTTP_HOST": "other.org:81"},
    ),
    get(
        "absolute form without a path",
        line=b"GET HTTP://other.org HTTP/1.1",
        facts={"path": "/"},
        fields={"HTTP_HOST": "other.org"},
    ),
    get(
        "absolute form with a query only", line=b"GET http://o?b HTTP/1.1", facts={"path": "/", "query": "b"}
    ),
    get("Host with a port", b"Host: example.org:8000\r\n", fields={"HTTP_HOST": "example.org:8000"}),
    get("Host IPv6", b"Host: [2001:db8::1]:80\r\n", fields={"HTTP_HOST": "[2001:db8::1]:80"}),
    get("Host empty", b"Host:\r\n", fields={"HTTP_HOST": ""}),
    get("Host IPv6 with IPv4", b"Host: [::ffff:127.0.0.1]\r\n", fields={"HTTP_HOST": "[::ffff:127.0.0.1]"}),
    get("Host of a future IP version", b"Host: [v1.fe:x]:80\r\n"),
    get("Host percent-encoded", b"Host: ex%61mple\r\n"),
    get("no white space behind the colon", HOST + b"X:1\r\n", fields={"HTTP_X": "1"}),
    get("white space around a value", HOST + b"X: \t a b \t\r\n", fields={"HTTP_X": "a b"}),
    get("many fields within the limits", HOST + (b"X: " + b"a" * 100 + b"\r\n") * 5),
    get("empty value", HOST + b"X:\r\nY: \r\n", fields={"HTTP_X": "", "HTTP_Y": ""}),
    get("colon in a value", HOST + b"X: a:b\r\n", fields={"HTTP_X": "a:b"}),
    get("obs-text in a value", HOST + b"X: \xe9\r\n", fields={"HTTP_X": "\xe9"}),
    get("tab in a value", HOST + b"X: a\tb\r\n", fields={"HTTP_X": "a\tb"}),
    get("repeated field", HOST + b"X: a\r\nx: b\r\n", fields={"HTTP_X": "a,b"}),
    get("repeated Cookie", HOST + b"Cookie: a=1\r\nCookie: b=2\r\n", fields={"HTTP_COOKIE": "a=1; b=2"}),
    get("underscore is dropped", HOST + b"X_Real_IP: 6.6.6.6\r\n", fields={"HTTP_X_REAL_IP": None}),
    get(
        "underscore does not spoof",
        HOST + b"X-Real-IP: 1.1.1.1\r\nX_Real-IP: 6.6.6.6\r\n",
        fields={"HTTP_X_REAL_IP": "1.1.1.1"},
    ),
    get("Content_Length is no length", HOST + b"Content_Length: 5\r\n", facts={"length": 0}),
    get("Content-Type", HOST + b"Content-Type: a/b\r\n", fields={"CONTENT_TYPE": "a/b"}),
    get("Connection: close", HOST + b"Connection: close\r\n", facts={"keep_alive": False}),
    get("close wins", HOST + b"Connection: keep-alive, Close\r\n", facts={"keep_alive": False}),
    get(
        "close wins in two fields",
        HOST + b"Connection: close\r\nConnection: keep-alive\r\n",
        facts={"keep_alive": False},
    ),
    get("other connection option", HOST + b"Connection: upgrade\r\n", facts={"keep_alive": True}),
    get("Expect without a body", HOST + b"Expect: 100-continue\r\n", facts={"expects_continue": False}),
    get("Content-Length: 0", HOST + b"Content-Length: 0\r\n", facts={"length": 0}),
    post("Content-Length", b"Content-Length: 5\r\n", b"hello", b"hello", facts={"length": 5}),
    post("Content-Length with zeros", b"Content-Length: 005\r\n", b"hello", b"hello"),
    post(
        "Expect",
        b"Content-Length: 2\r\nExpect: 100-Continue\r\n",
        b"hi",
        b"hi",
        facts={"expects_continue": True},
    ),
    post("chunked", CHUNKED, b"5\r\nhello\r\n0\r\n\r\n", b"hello", facts={"length": -1}),
    post("Chunked in capitals", b"Transfer-Encoding: CHUNKED\r\n", b"0\r\n\r\n", b""),
    post("two chunks", CHUNKED, b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello"),
    post("chunk of line ends", CHUNKED, b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
    post(
        "hexadecimal size",
        CHUNKED,
        b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
        b"01234567890123456789",
    ),
    post("size with zeros", CHUNKED, b"0005\r\nhello\r\n000\r\n\r\n", b"hello"),
    post("chunk extension", CHUNKED, b'5;a\r\nhello\r\n0;b=c;d="e;\\"f"\r\n\r\n', b"hello"),
    post("chunk extension with white space", CHUNKED, b"5 ; a = b\r\nhello\r\n0\r\n\r\n", b"hello"),
    post("trailer", CHUNKED, b"5\r\nhello\r\n0\r\nX: 1\r\nY: 2\r\n\r\n", b"hello", fields={"HTTP_X": None}),
)

VERSION = HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
TOO_LARGE = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
BODY_TOO_LARGE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
REFUSED = (
    bad("two parts", line=b"GET /"),
    bad("HTTP/0.9", b"", line=b"GET /"),
    bad("four parts", line=b"GET / x HTTP/1.1"),
    bad("two spaces", line=b"GET  / HTTP/1.1"),
    bad("tab for a space", line=b"GET\t/ HTTP/1.1"),
    bad("space before the method", line=b" GET / HTTP/1.1"),
    bad("space behind the version", line=b"GET / HTTP/1.1 "),
    bad("method with a parenthesis", line=b"G(T / HTTP/1.1"),
    bad("method with obs-text", line=b"G\xe9T / HTTP/1.1"),
    bad("target with obs-text", line=b"GET /\xe9 HTTP/1.1"),
    bad("target with NUL", line=b"GET /\x00 HTTP/1.1"),
    bad("target with DEL", line=b"GET /\x7f HTTP/1.1"),
    bad("fragment", line=b"GET /a#b HTTP/1.1"),
    bad("relative target", line=b"GET a HTTP/1.1"),
    bad("asterisk with GET", line=b"GET * HTTP/1.1"),
    bad("authority with GET", line=b"GET example.org:80 HTTP/1.1"),
    bad("CONNECT with a path", line=b"CONNECT / HTTP/1.1"),
    bad("CONNECT without a port", line=b"CONNECT example.org HTTP/1.1"),
    bad("absolute form without a host", line=b"GET http:/// HTTP/1.1"),
    bad("absolute form with a port only", line=b"GET http://:80/ HTTP/1.1", section="RFC 9112 section 3.2.2"),
    bad("absolute form with half an IPv6", line=b"GET http://[::1/ HTTP/1.1"),
    bad("CONNECT with an absolute form", line=b"CONNECT http://example.org:80 HTTP/1.1", section="RFC 9112 section 3.2.3"),
    bad("CONNECT with a port only", line=b"CONNECT :80 HTTP/1.1", section="RFC 9112 section 3.2.3"),
    bad("other scheme", line=b"GET ftp://example.org/ HTTP/1.1"),
    bad("absolute form with user", line=b"GET http://a@b/ HTTP/1.1"),
    bad("absolute form with fragment", line=b"GET http://a/#b HTTP/1.1"),
    bad("lower-case method", line=b"get / HTTP/1.1"),
    bad("method with a number sign", line=b"GE#T / HTTP/1.1"),
    bad("method of two letters", line=b"GO / HTTP/1.1"),
    bad("method of twenty-one letters", line=b"ABCDEFGHIJKLMNOPQRSTU / HTTP/1.1"),
    bad("lower-case version", line=b"GET / http/1.1"),
    bad("version with two digits", line=b"GET / HTTP/1.10"),
    bad("version without a dot", line=b"GET / HTTP/1"),
    bad("HTTP/2.0", line=b"GET / HTTP/2.0", status=VERSION, section="RFC 9110 section 15.6.6"),
    bad("HTTP/1.2", line=b"GET / HTTP/1.2", status=VERSION, section="RFC 9110 section 15.6.6"),
    bad("HTTP/1.9", line=b"GET / HTTP/1.9", status=VERSION),
    bad("HTTP/0.9 in words", line=b"GET / HTTP/0.9", status=VERSION),
    bad("bare LF in the request line", line=b"GET / HTTP/1.1\nX: y"),
    bad("bare LF behind a field", HOST + b"X: y\nZ: z\r\n"),
    bad("bare CR in a value", HOST + b"X: y\rz\r\n"),
    never_ending("bare LF at the end of every line", b"GET / HTTP/1.1\nHost: a\n\n"),
    never_ending("bare LF as the empty line", b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    never_ending("bare LF in front of the empty line", b"GET / HTTP/1.1\r\nHost: a\n\r\n"),
    never_ending("bare CR at the end of every line", b"GET / HTTP/1.1\rHost: a\r\r"),
    never_ending(
        "TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", section="RFC 911"
    ),
    bad("CR CR LF", HOST + b"X: y\r\r\n"),
    bad("two empty lines before", line=b"\r\n\r\nGET / HTTP/1.1"),
    bad("obsolete folding", HOST + b"X: a\r\n b\r\n", section="RFC 9112 section 5.2"),
    bad("obsolete folding by tab", HOST + b"X: a\r\n\tb\r\n", section="RFC 9112 section 5.2"),
    bad("folded first field", b" X: a\r\n" + HOST, section="RFC 9112 section 5.2"),
    bad("space before the colon", HOST + b"X : a\r\n", section="RFC 9112 section 5.1"),
    bad("tab before the colon", b"Host\t: a\r\n", section="RFC 9112 section 5.1"),
    bad("no colon", HOST + b"X\r\n", section="RFC 9112 section 5"),
    bad("no name", HOST + b": a\r\n", section="RFC 9110 section 5.1"),
    bad("name with a space", HOST + b"X Y: a\r\n", section="RFC 9110 section 5.1"),
    bad("name with obs-text", HOST + b"X\xe9: a\r\n", section="RFC 9110 section 5.1"),
    bad("NUL in a value", HOST + b"X: a\x00b\r\n", section="RFC 9110 section 5.5"),
    bad("BEL in a value", HOST + b"X: \x07\r\n", section="RFC 9110 section 5.5"),
    bad("DEL in a value", HOST + b"X: \x7f\r\n", section="RFC 9110 section 5.5"),
    bad("no Host", b"", section="RFC 9112 section 3.2"),
    bad("two Hosts", HOST + HOST, section="RFC 9110 section 5.3"),
    bad("two different Hosts", HOST + b"host: other\r\n"),
    bad("Host with a space", b"Host: a b\r\n", section="RFC 9112 section 3.2"),
    bad("Host with a path", b"Host: a/b\r\n"),
    bad("Host with user", b"Host: a@b\r\n"),
    bad("Host list", b"Host: a,b c\r\n"),
    bad("Host with a word for a port", b"Host: a:b\r\n"),
    bad("Host with a long port", b"Host: a:123456\r\n"),
    bad("Host with half an IPv6", b"Host: [::1\r\n"),
    bad("Host with nothing but colons in brackets", b"Host: [:::::]\r\n"),
    bad("Host IPv6 of nine parts", b"Host: [1:2:3:4:5:6:7:8:9]\r\n"),
    bad("Host IPv6 with two gaps", b"Host: [1::2::3]\r\n"),
    bad("Host IPv6 with a zone", b"Host: [fe80::1%25eth0]\r\n"),
    bad("Host IPv6 without brackets", b"Host: ::1\r\n"),
    bad("Host with a bad escape", b"Host: a%zz\r\n"),
    bad("two Content-Types", HOST + b"Content-Type: a/b\r\nContent-Type: c/d\r\n"),
    bad("CL and TE", HOST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", body=b"0\r\n\r\n", section="RFC 9112 section 6.1"),
    bad("TE and CL", HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", body=b"0\r\n\r\n", section="RFC 9112 section 6.1"),
    bad("TE identity and CL", HOST + b"Transfer-Encoding: identity\r\nContent-Length: 4\r\n", body=b"abcd"),
    bad("TE in HTTP/1.0", HOST + CHUNKED, line=b"POST / HTTP/1.0", section="RFC 9112 section 6.1"),
    bad("TE chunked twice", HOST + b"Transfer-Encoding: chunked, chunked\r\n", section="RFC 9112 section 6.3"),
    bad("TE chunked in two fields", HOST + CHUNKED + CHUNKED, section="RFC 9112 section 6.3"),
    bad("TE chunked not last", HOST + b"Transfer-Encoding: chunked, gzip\r\n", section="RFC 9112 section 6.3"),
    bad("TE gzip before chunked", HOST + b"Transfer-Encoding: gzip, chunked\r\n", section="RFC 9112 section 6.3"),
    bad("TE empty", HOST + b"Transfer-Encoding:\r\n", section="RFC 9112 section 6.3"),
    bad("TE empty element", HOST + b"Transfer-Encoding: ,chunked\r\n", section="RFC 9112 section 6.3"),
    bad("TE xchunked", HOST + b"Transfer-Encoding: xchunked\r\n", status=HTTPStatus.NOT_IMPLEMENTED),
    bad("TE identity", HOST + b"Transfer-Encoding: identity\r\n", status=HTTPStatus.NOT_IMPLEMENTED),
    bad("TE quoted", HOST + b'Transfer-Encoding: "chunked"\r\n', status=HTTPStatus.NOT_IMPLEMENTED),
    bad("TE with a vertical tab", HOST + b"Transfer-Encoding: \x0bchunked\r\n", section="RFC 9110 section 5.5"),
    bad("TE with a space before the colon", HOST + b"Transfer-Encoding : chunked\r\n", section="RFC 9112 section 5.1"),
    bad("two Content-Lengths", HOST + b"Content-Length: 4\r\nContent-Length: 5\r\n", body=b"abcd"),
    bad("the same Content-Length twice", HOST + b"Content-Length: 4\r\nContent-Length: 4\r\n", body=b"abcd"),
    bad("Content-Length list", HOST + b"Content-Length: 4, 4\r\n", body=b"abcd", section="RFC 9110 section 8.6"),
    bad("Content-Length with a sign", HOST + b"Content-Length: +4\r\n", body=b"abcd", section="RFC 9110 section 8.6"),
    bad("negative Content-Length", HOST + b"Content-Length: -1\r\n", section="RFC 9110 section 8.6"),
    bad("hexadecimal Content-Length", HOST + b"Content-Length: 0x4\r\n", body=b"abcd"),
    bad("Content-Length with an underscore", HOST + b"Content-Length: 1_0\r\n"),
    bad("Content-Length with a fraction", HOST + b"Content-Length: 4.0\r\n"),
    bad("empty Content-Length", HOST + b"Content-Length:\r\n", section="RFC 9110 section 8.6"),
    bad("Content-Length with a superscript", HOST + b"Content-Length: \xb2\r\n"),
    bad("huge Content-Length", HOST + b"Content-Length: 9999999999999999999\r\n"),
    bad("longer than huge Content-Length", HOST + b"Content-Length: " + b"9" * 100 + b"\r\n"),
    bad("body over the limit", HOST + b"Content-Length: 1001\r\n", status=BODY_TOO_LARGE, section="RFC 9110 section 15.5.14"),
    bad("another expectation", HOST + b"Expect: tea\r\n", status=HTTPStatus.EXPECTATION_FAILED, section="RFC 9110 section 10.1.1"),
    bad("long request line", line=b"GET /" + b"a" * 300 + b" HTTP/1.1", status=HTTPStatus.REQUEST_URI_TOO_LONG, section="RFC 9112 section 3"),
    bad("long and wrong request line", line=b"GET /\x00" + b"a" * 300 + b" HTTP/1.1", status=HTTPStatus.REQUEST_URI_TOO_LONG),
    bad("long field", HOST + b"X: " + b"a" * 300 + b"\r\n", status=TOO_LARGE, section="RFC 6585"),
    bad("too many fields", HOST + b"X: 1\r\n" * 20, status=TOO_LARGE, section="RFC 6585"),
    chunks("chunk size missing", b"\r\nhello\r\n"),
    chunks("chunk size no number", b"g\r\n"),
    chunks("chunk size with 0x", b"0x5\r\nhello\r\n"),
    chunks("chunk size with a sign", b"+5\r\nhello\r\n"),
    chunks("negative chunk size", b"-5\r\nhello\r\n"),
    chunks("chunk size with an underscore", b"1_0\r\n"),
    chunks("chunk size of 17 digits", b"00000000000000005\r\nhello\r\n"),
    chunks("white space before a chunk size", b" 5\r\nhello\r\n"),
    chunks("white space behind a chunk size", b"5 \r\nhello\r\n"),
    chunks("chunk size ended by LF", b"5\nhello\r\n0\r\n\r\n"),
    chunks("chunk longer than its size", b"5\r\nhello!\r\n0\r\n\r\n"),
    chunks("chunk data ended by LF", b"5\r\nhello\n0\r\n\r\n"),
    chunks("chunk extension without a name", b"5;\r\nhello\r\n"),
    chunks("chunk extension with a bare CR", b"5;a\rb\r\nhello\r\n"),
    chunks("chunk extension with an open quote", b'5;a="b\r\nhello\r\n'),
    chunks("chunk extension too long", b"5;" + b"a" * 2000 + b"\r\nhello\r\n"),
    chunks("chunk extension without an end", b"5;" + b"a" * 5000),
    chunks("more extensions than content", (b"1;" + b"a" * 1000 + b"\r\nx\r\n") * 17),
    chunks("trailer folded", b"0\r\nX: a\r\n b\r\n\r\n"),
    chunks("trailer without a colon", b"0\r\nX\r\n\r\n"),
    chunks("trailer ended by LF", b"0\r\nX: a\n\r\n\r\n"),
    bad("trailer line without an end", HOST + CHUNKED, line=b"POST / HTTP/1.1", body=b"0\r\nX: " + b"a" * 5000, status=TOO_LARGE, section="RFC 6585"),
    bad("trailer too long", HOST + CHUNKED, line=b"POST / HTTP/1.1", body=b"0\r\nX: " + b"a" * 300 + b"\r\n\r\n", status=TOO_LARGE, section="RFC 6585"),
    bad("too many trailers", HOST + CHUNKED, line=b"POST / HTTP/1.1", body=b"0\r\n" + b"X: 1\r\n" * 21 + b"\r\n", status=TOO_LARGE, section="RFC 6585"),
    bad("chunks over the limit", HOST + CHUNKED, line=b"POST / HTTP/1.1", body=b"3e9\r\n", status=BODY_TOO_LARGE),
    bad("sum of chunks over the limit", HOST + CHUNKED, line=b"POST / HTTP/1.1", body=b"1\r\na\r\n3e8\r\n", status=BODY_TOO_LARGE),
)  # fmt: skip

CASES = (*ACCEPTED, *REFUSED)
