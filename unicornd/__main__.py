"""`python -m unicornd` is `unicornd`."""

from unicornd.cli.daemon import main

main()
