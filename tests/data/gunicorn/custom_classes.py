import logging

from kinds_stub import Worker


class Logger(logging.Logger):
    """Stands for a logger of the project's own."""


worker_class = Worker
logger_class = Logger
bind = "fd://3"
reload = True
reload_engine = "poll"
reload_extra_files = ["templates/*.html", "settings.yaml"]
spew = False
pythonpath = "src,lib"
paste = "production.ini#shop"
raw_paste_global_conf = ["debug=false", r"path\=x=1"]
