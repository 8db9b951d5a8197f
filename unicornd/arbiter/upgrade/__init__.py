"""Upgrade: a new unicornd takes the place of this one, with its listeners and without a failed request."""
