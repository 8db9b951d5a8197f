"""The commands of unicornctl."""
