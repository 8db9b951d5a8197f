#!/usr/bin/env bash
# Async views under gevent: of four requests at the same time one is answered, the others raise.
#
# asgiref's async_to_sync (Django's and Flask's async views under WSGI) runs an event loop in the calling thread. Under gevent's
# patches a thread is a greenlet for threading.local, but the running loop is kept by C code in the real thread, so the second
# greenlet finds the first one's loop running. One at a time, everything works: a test suite does not show it.
#
# Seen with: asgiref 3.13.0, gevent 26.9.0, greenlet 3.5.6, CPython 3.11.7, on 2026-12-01.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check asgiref==3.13.0 gevent==26.9.0 greenlet==3.5.6

cat > requests.py <<'PY'
import gevent.monkey

gevent.monkey.patch_all()
import asyncio, collections, warnings
import gevent
from asgiref.sync import async_to_sync

warnings.simplefilter("ignore")

async def view():
    await asyncio.sleep(0.05)
    return "answered"

def request():
    try:
        return async_to_sync(view)()
    except RuntimeError:
        return "RuntimeError"

def serve(count):
    jobs = [gevent.spawn(request) for _ in range(count)]
    gevent.joinall(jobs)
    return dict(collections.Counter(job.value for job in jobs))

print("one after the other:", [serve(1) for _ in range(3)])
print("four at a time:     ", serve(4))
PY
venv/bin/python -W ignore requests.py > seen
cat seen
diff seen - <<'EOF' && echo "as found"
one after the other: [{'answered': 1}, {'answered': 1}, {'answered': 1}]
four at a time:      {'answered': 1, 'RuntimeError': 3}
EOF
