import sys

bind = ["0.0.0.0:8000", "[::]:8000", "unix:/run/shop/web.sock"]
workers = 2
accesslog = "-"
access_log_format = '{"remote":"%(h)s","status":%(s)s,"bytes":"%(B)s","ms":%(M)s,"request":"%(r)s"}'

logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"format": '{"t": "%(asctime)s", "level": "%(levelname)s", "msg": "%(message)s"}'}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"}},
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": ["console"], "propagate": False},
        "gunicorn.access": {"level": "INFO", "handlers": ["console"], "propagate": False},
    },
}

if sys.flags.dev_mode:
    loglevel = "debug"
