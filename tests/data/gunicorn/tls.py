import ssl

bind = "0.0.0.0:8443"
workers = 4
certfile = "/etc/ssl/shop/fullchain.pem"
keyfile = "/etc/ssl/shop/privkey.pem"
ca_certs = "/etc/ssl/shop/clients.pem"
cert_reqs = ssl.CERT_REQUIRED
ssl_version = ssl.PROTOCOL_TLS_SERVER
ciphers = "ECDHE+AESGCM"
do_handshake_on_connect = True


def ssl_context(config, default_ssl_context_factory):
    context = default_ssl_context_factory()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
