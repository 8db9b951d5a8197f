from prometheus_stub import mark_process_dead

bind = "unix:/run/shop/gunicorn.sock"
workers = 3
umask = 0o007
user = "www-data"
group = "www-data"


def child_exit(server, worker):
    mark_process_dead(worker.pid)


def when_ready(server):
    server.log.info("metrics are at :8001")
