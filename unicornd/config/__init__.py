"""What the operator said: text to values, layers, sections, settings."""
