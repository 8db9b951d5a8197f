"""The control language: models, server (in the arbiter), client (in unicornctl)."""
