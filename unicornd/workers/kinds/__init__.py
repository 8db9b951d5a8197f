"""How a worker serves: one file a kind."""
