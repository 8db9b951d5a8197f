#!/usr/bin/env bash
# The end of file on a Unix stream socket comes with credentials: process 0, user 0. Whoever asks only "which uid?" reads root.
#
# With SO_PASSCRED, recvmsg(2) at the end of a SOCK_STREAM connection returns no bytes and an SCM_CREDENTIALS message with pid 0
# and uid 0, although nobody has sent anything. On SOCK_SEQPACKET the end has no ancillary data at all. unix(7) says nothing
# of either.
#
# Seen with: Linux 6.18, CPython 3.11.7, on 2026-12-01. No package is needed; run it as any user.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
cat > ask.py <<'PY'
import os, socket, struct

for name in ("SOCK_STREAM", "SOCK_SEQPACKET"):
    ours, theirs = socket.socketpair(socket.AF_UNIX, getattr(socket, name))
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    theirs.send(b"word")
    theirs.close()
    for what in ("a message", "the end"):
        data, ancillary, *_ = ours.recvmsg(64, socket.CMSG_SPACE(12))
        said = [struct.unpack("iII", payload) for _, kind, payload in ancillary if kind == socket.SCM_CREDENTIALS]
        who = [("us" if pid == os.getpid() else pid, "ours" if uid == os.getuid() and pid else uid) for pid, uid, _ in said]
        print(f"{name}, {what}: {len(data)} bytes, pid and uid", who[0] if who else "none")
PY
uname -r
python3 ask.py > seen || true
cat seen
diff seen - <<'EOF' && echo "as found"
SOCK_STREAM, a message: 4 bytes, pid and uid ('us', 'ours')
SOCK_STREAM, the end: 0 bytes, pid and uid (0, 0)
SOCK_SEQPACKET, a message: 4 bytes, pid and uid ('us', 'ours')
SOCK_SEQPACKET, the end: 0 bytes, pid and uid none
EOF
