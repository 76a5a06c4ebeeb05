"""`python -m kellgren.cli`, where no script is installed."""

from kellgren.cli import main

main()
