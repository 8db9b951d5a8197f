"""Real proxies in front of a real fleet that changes under load: not part of `make test`, see `__main__`."""
