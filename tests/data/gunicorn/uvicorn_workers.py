# FastAPI, behind nginx
wsgi_app = "main:app"
bind = "127.0.0.1:8000"
workers = 4
worker_class = "uvicorn.workers.UvicornWorker"
forwarded_allow_ips = "*"
timeout = 120
graceful_timeout = 30
