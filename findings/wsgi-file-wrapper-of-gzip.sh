#!/usr/bin/env bash
# wsgi.file_wrapper around gzip.open(): one server sends the text, one the compressed bytes, one a 200 without a body.
#
# PEP 3333 lets a server send a wrapped object's file descriptor. A GzipFile has fileno(), which is that of the compressed file
# below it, so "has a fileno" does not mean "its bytes are what read() returns". gunicorn hands the object to
# socket.sendfile(), which takes GzipFile.mode (an int) for a string and raises when the head has been sent already.
#
# Seen with: waitress 3.0.2, pyuwsgi 2.0.30.post1, gunicorn 27.0.1, CPython 3.11.7, on 2026-12-01.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check waitress==3.0.2 pyuwsgi==2.0.30.post1 gunicorn==27.0.1

cat > app.py <<'PY'
import gzip

with gzip.open("text.gz", "wb") as file:
    file.write(b"plain text " * 100)

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](gzip.open("text.gz"))
PY
cat > ask.py <<'PY'
import socket, subprocess, sys, time

def servers(port):
    return {
        "waitress": ["waitress-serve", "--listen", f"127.0.0.1:{port}", "app:app"],
        "uwsgi": ["pyuwsgi", "--http-socket", f"127.0.0.1:{port}", "--wsgi-file", "app.py", "--callable", "app"],
        "gunicorn": ["gunicorn", "--no-control-socket", "--bind", f"127.0.0.1:{port}", "app:app"],
    }

def ask(port):
    for _ in range(200):
        try:
            client = socket.create_connection(("127.0.0.1", port), timeout=10)
            break
        except ConnectionRefusedError:
            time.sleep(0.1)
    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
    return b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n\r\n")

for name in servers(0):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = servers(port)[name]
    server = subprocess.Popen(["venv/bin/" + command[0], *command[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    head, _, body = ask(port)
    kind = "the text" if body == b"plain text " * 100 else "compressed bytes" if body[:2] == b"\x1f\x8b" else f"{len(body)} bytes"
    print(name, head.split(b" ")[1].decode(), kind)
    server.terminate()
    try:
        server.wait(5)
    except subprocess.TimeoutExpired:
        server.kill()
PY
python3 ask.py > seen
cat seen
diff seen - <<'EOF' && echo "as found"
waitress 200 the text
uwsgi 200 compressed bytes
gunicorn 200 0 bytes
EOF
