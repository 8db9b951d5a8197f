"""What runs in the parent: the pure decisions and their shell."""
