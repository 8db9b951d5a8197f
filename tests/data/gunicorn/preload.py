"""Preloading with connections that are opened after the fork."""
bind = ":8000"
workers = 8
preload_app = True
max_requests = 5000
max_requests_jitter = 500


def _connect():
    return object()


def on_starting(server):
    server.log.info("starting")


def pre_fork(server, worker):
    pass


def post_fork(server, worker):
    worker.database = _connect()


def worker_int(worker):
    import threading
    import traceback

    worker.log.info("got INT: %s threads", threading.active_count())
    traceback.print_stack()


def worker_abort(worker):
    worker.log.info("got ABRT")


def post_request(worker, req, environ, resp):
    worker.log.debug("%s %s", req.method, req.path)


on_exit = lambda server: server.log.info("bye")
