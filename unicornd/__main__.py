"""`python -m unicornd` is `unicornd`."""

from unicornd.inherited import forget_working_directory

forget_working_directory()  # before anything else is imported: Python looks in the working directory first

from unicornd.cli.daemon import main  # noqa: E402 - see above

main()
