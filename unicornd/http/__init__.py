"""HTTP/1.1 as values: no socket, no clock, no settings, no logging."""
