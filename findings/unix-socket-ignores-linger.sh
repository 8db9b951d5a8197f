#!/usr/bin/env bash
# SO_LINGER of zero seconds makes a TCP peer see a reset, and does nothing on a Unix socket: a torn answer looks whole there.
#
# A server that has to give an answer up in its middle, without a length or chunks, can tell a TCP client so by a reset.
# Over a Unix socket (a proxy on the same machine) close(2) is an orderly end whatever SO_LINGER says; setsockopt(2) takes the
# option and getsockopt(2) returns it. What does make an AF_UNIX peer see ECONNRESET is closing with unread bytes received.
#
# Seen with: Linux 6.18, CPython 3.11.7, on 2026-12-01. No package is needed.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
cat > close.py <<'PY'
import socket, struct

def pair(kind):
    if kind == "unix":
        return socket.socketpair(socket.AF_UNIX)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        return client, listener.accept()[0]

def reads(client):
    try:
        return "end of file" if not client.recv(10) else "data"
    except ConnectionResetError:
        return "reset"

for kind in ("tcp", "unix"):
    client, server = pair(kind)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.sendall(b"half")
    assert client.recv(4) == b"half"
    server.close()
    print(kind, "closed with linger 0:", reads(client))
client, server = pair("unix")
client.sendall(b"unread")
server.sendall(b"half")
server.close()
print("unix closed with unread bytes:", "half", "then", reads(client) if client.recv(4) == b"half" else "?")
PY
python3 close.py > seen || true
uname -r
cat seen
diff seen - <<'EOF' && echo "as found"
tcp closed with linger 0: reset
unix closed with linger 0: end of file
unix closed with unread bytes: half then reset
EOF
