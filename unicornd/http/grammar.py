"""The grammar of HTTP/1.1 as regular expressions, each below the ABNF that it implements.

Text is latin-1 decoded bytes: one character is one octet. All repetitions are possessive (Python 3.11), so a match
takes one pass whatever the input is.
"""

from __future__ import annotations

import re

# token  = 1*tchar                                                          RFC 9110 section 5.6.2
# tchar  = "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "." / "^" / "_" / "`" / "|" / "~" / DIGIT / ALPHA
TCHAR = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
TOKEN = re.compile(rf"{TCHAR}++")

# field-line    = field-name ":" OWS field-value OWS                        RFC 9112 section 5
# field-value   = *field-content ; VCHAR, obs-text, SP, HTAB                RFC 9110 section 5.5
# The white space behind a value is part of the match: it is cut afterwards.
FIELD_LINE = re.compile(rf"({TCHAR}++):[\t ]*+([\t\x20-\x7e\x80-\xff]*+)")

# request-line   = method SP request-target SP HTTP-version                 RFC 9112 section 3
# request-target = 1*VCHAR here; its forms are told apart afterwards
# HTTP-version   = "HTTP" "/" DIGIT "." DIGIT                               RFC 9112 section 2.3
REQUEST_LINE = re.compile(rf"({TCHAR}++) ([\x21-\x7e]++) HTTP/([0-9]\.[0-9])")

# CRLF alone ends a line                                                    RFC 9112 section 2.2
# A client that ends lines otherwise has sent its empty line, and waits for an answer: no CRLF CRLF will come.
WRONG_END = re.compile(rb"\n\r?\n|\r\r")

# A method may be any token; those that are registered have 3 to 20 characters, none of them a lower-case letter or "#".
# Others are mostly somebody's mistake, or an attempt to get past a filter (as gunicorn has it).
CONVENTIONAL_METHOD = re.compile(r"[!$%&'*+\-.^_`|~0-9A-Z]{3,20}+")

# origin-form   = absolute-path [ "?" query ]                               RFC 9112 section 3.2.1
# absolute-path = 1*( "/" segment )     segment = *pchar                    RFC 9110 section 4.1
# pchar         = unreserved / pct-encoded / sub-delims / ":" / "@"         RFC 3986 section 3.3
# Clients send more than pchar ('"', "|", "[", "]", "{", "}", "^", "`", "<", ">", "\"): accepted, as every peer does;
# only "#" is refused, because a fragment is never part of a request target.
ORIGIN_FORM = re.compile(r"/[^#]*+")

# absolute-form = absolute-URI = scheme ":" hier-part [ "?" query ]         RFC 9112 section 3.2.2
ABSOLUTE_FORM = re.compile(r"https?://([^/?#]++)((?:/[^?#]*+)?)((?:\?[^#]*+)?)", re.IGNORECASE)

# IPv6address =                            6( h16 ":" ) ls32                RFC 3986 section 3.2.2
#             /                       "::" 5( h16 ":" ) ls32
#             / [               h16 ] "::" 4( h16 ":" ) ls32
#             / [ *1( h16 ":" ) h16 ] "::" 3( h16 ":" ) ls32
#             / [ *2( h16 ":" ) h16 ] "::" 2( h16 ":" ) ls32
#             / [ *3( h16 ":" ) h16 ] "::"    h16 ":"   ls32
#             / [ *4( h16 ":" ) h16 ] "::"              ls32
#             / [ *5( h16 ":" ) h16 ] "::"              h16
#             / [ *6( h16 ":" ) h16 ] "::"
# h16 = 1*4HEXDIG     ls32 = ( h16 ":" h16 ) / IPv4address
_H16 = "[0-9A-Fa-f]{1,4}"
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_LS32 = rf"(?:{_H16}:{_H16}|{_OCTET}(?:\.{_OCTET}){{3}})"
_IPV6 = "|".join(
    [
        f"(?:{_H16}:){{6}}{_LS32}",
        f"::(?:{_H16}:){{5}}{_LS32}",
        *(f"(?:(?:{_H16}:){{0,{before}}}{_H16})?::(?:{_H16}:){{{4 - before}}}{_LS32}" for before in range(5)),
        f"(?:(?:{_H16}:){{0,5}}{_H16})?::{_H16}",
        f"(?:(?:{_H16}:){{0,6}}{_H16})?::",
    ]
)

# uri-host [ ":" port ]                                                     RFC 9110 section 7.2
# IP-literal = "[" ( IPv6address / IPvFuture  ) "]"                         RFC 3986 section 3.2.2
# IPvFuture  = "v" 1*HEXDIG "." 1*( unreserved / sub-delims / ":" )
# reg-name   = *( unreserved / pct-encoded / sub-delims )
# port       = *DIGIT, at most 5 here
HOST = re.compile(
    rf"(?:\[(?:{_IPV6})\]|\[v[0-9A-Fa-f]++\.[A-Za-z0-9._~!$&'()*+,;=:\-]++\]"
    r"|(?:[A-Za-z0-9._~!$&'()*+,;=\-]|%[0-9A-Fa-f]{2})*+)(?::[0-9]{0,5}+)?"
)

# authority-form = uri-host ":" port                                        RFC 9112 section 3.2.3
AUTHORITY_FORM = re.compile(rf"(?={HOST.pattern}\Z)(.+):([0-9]{{1,5}})")

# Content-Length = 1*DIGIT                                                  RFC 9110 section 8.6
CONTENT_LENGTH = re.compile(r"[0-9]{1,19}+")

# chunk          = chunk-size [ chunk-ext ] CRLF chunk-data CRLF            RFC 9112 section 7.1
# chunk-size     = 1*HEXDIG, at most 16 here (64 bits)
# chunk-ext      = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )
# quoted-string  = DQUOTE *( qdtext / quoted-pair ) DQUOTE                  RFC 9110 section 5.6.4
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
_TOKEN_BYTES = TOKEN.pattern.encode()
CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:[ \t]*+;[ \t]*+"
    + _TOKEN_BYTES
    + rb"(?:[ \t]*+=[ \t]*+(?:"
    + _TOKEN_BYTES
    + rb"|"
    + _QUOTED
    + rb"))?)*+"
)

# status-line = HTTP-version SP status-code SP [ reason-phrase ]            RFC 9112 section 4
# An application's status is "NNN reason" (PEP 3333); 1xx is not an application's to send.
STATUS = re.compile(r"([2-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*+)?")
