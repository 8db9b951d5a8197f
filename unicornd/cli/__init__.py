"""What stands in front of a person: unicornd and unicornctl."""
