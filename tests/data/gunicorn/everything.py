"""Every setting of gunicorn 27.0.1 with a value that is not its default."""

config = "other.conf.py"
wsgi_app = "shop:app"
bind = ["127.0.0.1:8001"]
backlog = 100
workers = 3
worker_class = "gthread"
threads = 2
worker_connections = 50
max_requests = 10
max_requests_jitter = 5
timeout = 31
graceful_timeout = 32
keepalive = 3
limit_request_line = 4095
limit_request_fields = 101
limit_request_field_size = 8191
reload = True
reload_engine = "poll"
reload_extra_files = ["a.txt"]
spew = True
check_config = True
print_config = True
preload_app = True
sendfile = False
reuse_port = True
chdir = "/srv/shop"
daemon = True
raw_env = ["A=1"]
pidfile = "/run/x.pid"
worker_tmp_dir = "/dev/shm"
user = "nobody"
group = 65534
umask = 0o022
initgroups = True
tmp_upload_dir = "/var/tmp"
secure_scheme_headers = {"X-SCHEME": "https"}
forwarded_allow_ips = "10.0.0.1"
accesslog = "access.log"
disable_redirect_access_to_syslog = True
access_log_format = "%(h)s"
errorlog = "error.log"
loglevel = "debug"
capture_output = True
logger_class = "shop.logs.Logger"
logconfig = "logging.ini"
logconfig_dict = {"version": 1}
logconfig_json = "logging.json"
syslog_addr = "udp://log:514"
syslog = True
syslog_prefix = "shop"
syslog_facility = "local0"
enable_stdio_inheritance = True
statsd_host = "localhost:8125"
dogstatsd_tags = "a:b"
statsd_prefix = "shop"
enable_backlog_metric = True
proc_name = "shop"
default_proc_name = "shop"
pythonpath = "lib"
paste = "shop.ini"


def _hook(*arguments):
    pass


def on_starting(server): ...
def on_reload(server): ...
def when_ready(server): ...
def pre_fork(server, worker): ...
def post_fork(server, worker): ...
def post_worker_init(worker): ...
def worker_int(worker): ...
def worker_abort(worker): ...
def pre_exec(server): ...
def pre_request(worker, req): ...
def post_request(worker, req, environ, resp): ...
def child_exit(server, worker): ...
def worker_exit(server, worker): ...
def nworkers_changed(server, new, old): ...
def on_exit(server): ...
def ssl_context(config, default_factory): ...


proxy_protocol = "v1"
proxy_allow_ips = "10.0.0.2"
protocol = "http "
uwsgi_allow_ips = "10.0.0.3"
keyfile = "key.pem"
certfile = "cert.pem"
ssl_version = 5
cert_reqs = 2
ca_certs = "ca.pem"
suppress_ragged_eofs = False
do_handshake_on_connect = True
ciphers = "ECDHE"
http_protocols = "h2,h1"
http2_cleartext = "both"
http2_max_concurrent_streams = 50
http2_initial_window_size = 70000
http2_max_frame_size = 20000
http2_max_header_list_size = 70000
raw_paste_global_conf = ["B=2"]
permit_obsolete_folding = True
strip_header_spaces = True
permit_unconventional_http_method = True
permit_unconventional_http_version = True
casefold_http_method = True
forwarder_headers = "SCRIPT_NAME"
header_map = "refuse"
asgi_loop = "asyncio"
asgi_lifespan = "on"
asgi_disconnect_grace_period = 4
websocket_max_message_size = 1024
http_parser = "python"
root_path = "/shop"
dirty_apps = ["shop:Task"]
dirty_workers = 1
dirty_timeout = 301
dirty_threads = 2
dirty_graceful_timeout = 31


def on_dirty_starting(arbiter): ...
def dirty_post_fork(arbiter, worker): ...
def dirty_worker_init(worker): ...
def dirty_worker_exit(arbiter, worker): ...


control_socket = "/run/shop/control.sock"
control_socket_mode = 0o660
control_socket_disable = True
