class Worker:
    """Stands for a worker class of somebody else's."""
