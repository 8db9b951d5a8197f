"""What `unicornctl stacks` shows of what faulthandler writes."""

from __future__ import annotations

from unicornd.frames import without_ours

OURS = """  File "/opt/lib/python3.11/site-packages/unicornd/workers/dispatch.py", line 110 in _lead
  File "/usr/lib/python3.11/threading.py", line 982 in run
"""
IDLE = f"Thread 0x00007f093aeee6c0 (most recent call first):\n{OURS}\n"
THEIRS = """  File "/usr/lib/python3.11/socket.py", line 706 in readinto
  File "/srv/unicornd/shop/views.py", line 12 in export
"""
BUSY = f"Thread 0x00007f093b6ef6c0 (most recent call first):\n{THEIRS}{OURS}\n"
LAST = f"Current thread 0x00007f093f41fb80 (most recent call first):\n{OURS}"


def test_only_what_the_application_does_is_shown() -> None:
    assert without_ours(IDLE + BUSY + LAST).splitlines() == [
        "Thread 0x00007f093b6ef6c0 (most recent call first):",
        *THEIRS.splitlines(),
        "  … called by unicornd",
        "",
        "2 threads in unicornd itself, mostly idle",
    ]


def test_an_idle_worker_has_one_line() -> None:
    assert without_ours(IDLE + LAST) == "2 threads in unicornd itself, mostly idle\n"


WAITS = '  File "/usr/lib/python3.11/asyncio/queues.py", line 158 in get\n'
SLEEPS = '  File "/usr/lib/python3.11/asyncio/tasks.py", line 649 in sleep\n'
SERVES = '  File "/opt/unicornd/workers/asgi/exchange.py", line 178 in serve\n'
ROUTING = '  File "/opt/starlette/routing.py", line 732 in lifespan\n'
LIFE = f"""{WAITS}  File "/opt/unicornd/workers/asgi/lifespan.py", line 99 in _receive
{ROUTING}  File "/opt/unicornd/workers/asgi/lifespan.py", line 90 in _live
"""


def test_tasks_and_greenlets_are_shown_alike() -> None:
    text = (
        f"Task Task-3 and 36 more (most recent call first):\n{SLEEPS}{THEIRS}{SERVES}\n"
        f"Task Task-1 (most recent call first):\n{WAITS}{SERVES}\n"
        f"Task lifespan (most recent call first):\n{LIFE}\n"
        f"Greenlet 0x7f01 and 9 more (most recent call first):\n{SERVES}\n{IDLE}"
    )
    assert without_ours(text).splitlines() == [
        "Task Task-3 and 36 more (most recent call first):",
        *SLEEPS.splitlines(),
        *THEIRS.splitlines(),
        "  … called by unicornd",
        "",
        "1 thread and 2 tasks and 10 greenlets in unicornd itself, mostly idle",
    ]


def test_what_runs_a_websocket_is_no_part_of_the_application() -> None:
    run = '  File "/opt/uvicorn/protocols/websockets/websockets_sansio_impl.py", line 409 in run_asgi\n'
    text = f"Task Task-16 and 4 more (most recent call first):\n{WAITS}{THEIRS}{SERVES}{run}"
    assert without_ours(text).splitlines()[1:] == [
        *WAITS.splitlines(),
        *THEIRS.splitlines(),
        "  … called by unicornd",
        "",
    ]


def test_a_lifespan_that_does_something_is_shown() -> None:
    text = f"Task lifespan (most recent call first):\n{SLEEPS}{ROUTING}{SERVES}"
    assert ROUTING in without_ours(text)


def test_what_is_no_thread_stays() -> None:
    tasks = "Task-3 waits\n  at /srv/shop/views.py:12\n"
    assert without_ours(tasks) == tasks
    assert without_ours(tasks + IDLE).startswith(tasks)
    assert not without_ours("")


def test_a_thread_of_the_applications_own_stays_whole() -> None:
    own = f"Thread 0x01 (most recent call first):\n{THEIRS}"
    assert without_ours(own) == f"{own}\n"


def test_what_writes_the_stacks_is_not_shown() -> None:
    handler = '  File "/opt/lib/python3.11/site-packages/unicornd/workers/signals.py", line 110 in write\n'
    text = f"Current thread 0x01 (most recent call first):\n{handler}{THEIRS}{OURS}"
    shown = without_ours(text).splitlines()
    assert shown[1:3] == THEIRS.splitlines()
