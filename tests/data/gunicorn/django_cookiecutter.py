"""Gunicorn configuration of a Django project, as a project template makes it."""
import multiprocessing
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent

wsgi_app = "config.wsgi:application"
chdir = str(BASE_DIR)
bind = "0.0.0.0:5000"
workers = multiprocessing.cpu_count() * 2 + 1
worker_class = "gthread"
threads = 4
worker_tmp_dir = "/dev/shm"
max_requests = 1000
max_requests_jitter = 50
timeout = 120
keepalive = 5
accesslog = "-"
errorlog = "-"
loglevel = "info"
raw_env = ["DJANGO_SETTINGS_MODULE=config.settings.production"]
