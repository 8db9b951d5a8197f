"""One frozen model for each table of unicornd.toml."""
