# -*- coding: utf-8 -*-
# A file that has been carried along since 0.17
debug = False
bind = 'localhost:8000'
worker_class = 'egg:gunicorn#gevent'
worker_connections = 1000
workers = 2
django_settings = 'shop.settings'
x_forwarded_for_header = 'X-Real-IP'
pidfile = 'gunicorn.pid'
daemon = True
logfile = '/var/log/shop/gunicorn.log'
errorlog = '/var/log/shop/error.log'
accesslog = '/var/log/shop/access.log'
tmp_upload_dir = None
proc_name = 'shop'
def def_post_fork(server, worker):
    server.log.info('Worker spawned (pid: %s)', worker.pid)
post_fork = def_post_fork
def pre_exec(server):
    server.log.info('Forked child, re-executing.')
