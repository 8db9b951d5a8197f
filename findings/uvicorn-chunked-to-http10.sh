#!/usr/bin/env bash
# uvicorn answers an HTTP/1.0 client with chunked framing when it parses with httptools, and without when it parses with h11.
#
# The same release, the same application (three body parts, no Content-Length), the same HTTP/1.0 request. RFC 9112, section
# 6.1: a server must not send Transfer-Encoding unless the request says HTTP/1.1 or later. A client that takes the body as it
# comes sees the sizes of the chunks in the text. httptools is what `uvicorn[standard]` installs and prefers.
#
# Seen with: uvicorn 0.54.0, httptools 0.9.0, h11 0.16.0, CPython 3.11.7, on 2026-12-01.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
python3 -m venv venv && venv/bin/pip install --quiet --disable-pip-version-check uvicorn==0.54.0 httptools==0.9.0 h11==0.16.0

cat > app.py <<'PY'
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    for part in (b"one ", b"two ", b"three"):
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
PY
cat > ask.py <<'PY'
import socket, subprocess, sys

for parser in ("h11", "httptools"):
    listener = socket.create_server(("127.0.0.1", 0))  # uvicorn inherits it: nobody guesses a port
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "--fd", str(listener.fileno()), "--http", parser, "--lifespan", "off",
         "--log-level", "error", "app:app"],
        pass_fds=[listener.fileno()],
    )
    client = socket.create_connection(listener.getsockname(), timeout=20)
    client.sendall(b"GET / HTTP/1.0\r\nHost: example.org\r\n\r\n")
    answer = b"".join(iter(lambda: client.recv(4096), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    print(parser, "chunked" if b"transfer-encoding: chunked" in head.lower() else "until close", body)
    server.terminate()
    server.wait()
PY
venv/bin/python ask.py > seen
cat seen
diff seen - <<'EOF' && echo "as found"
h11 until close b'one two three'
httptools chunked b'4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n'
EOF
