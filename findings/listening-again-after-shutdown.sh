#!/usr/bin/env bash
# listen(2) after shutdown(2) on a listening socket: TCP listens again, silently at another port; a Unix socket says yes and is dead.
#
# shutdown() on a listener ends it in every process that shares it. Linux lets TCP listen again, but a socket whose port the
# kernel had chosen (bind to port 0) gets a new one, although getsockname() still shows the old one in between; bind() to the
# old address before listen() keeps it. On a Unix socket listen() returns success, poll(2) says readable and hung up for ever,
# accept() says EAGAIN, connect() is refused: a level-triggered loop spins on it.
#
# Seen with: Linux 6.18, CPython 3.11.7, on 2026-12-01. No package is needed.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
cat > listen.py <<'PY'
import select, socket

def tcp(is_bound_again):
    listener = socket.create_server(("127.0.0.1", 0))
    before = listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    between = listener.getsockname()
    if is_bound_again:
        listener.bind(between)
    listener.listen()
    return f"shown {'the same' if between == before else 'another'}, listens at {'the same' if listener.getsockname() == before else 'another'}"

print("tcp, listen again:            ", tcp(False))
print("tcp, bind and listen again:   ", tcp(True))
listener = socket.socket(socket.AF_UNIX)
listener.bind("sock")
listener.listen()
listener.setblocking(False)
listener.shutdown(socket.SHUT_RDWR)
listener.listen()
poll = select.poll()
poll.register(listener, select.POLLIN)
[(_, mask)] = poll.poll(0)
said = "+".join(name for name in ("POLLIN", "POLLHUP") if mask & getattr(select, name))
def outcome(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return type(error).__name__
    return "done"
print("unix, listen again:           ", said, outcome(listener.accept), outcome(socket.socket(socket.AF_UNIX).connect, "sock"))
PY
uname -r
python3 listen.py > seen || true
cat seen
diff seen - <<'EOF' && echo "as found"
tcp, listen again:             shown the same, listens at another
tcp, bind and listen again:    shown the same, listens at the same
unix, listen again:            POLLIN+POLLHUP BlockingIOError ConnectionRefusedError
EOF
