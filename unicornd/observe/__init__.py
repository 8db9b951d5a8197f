"""What can be seen: scoreboard, logs, access log, metrics."""
