"""Listening sockets: opened, inherited, compared; and sd_notify."""
