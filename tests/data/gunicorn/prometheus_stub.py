def mark_process_dead(pid):
    """Stands for prometheus_client.multiprocess."""
