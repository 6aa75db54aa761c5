"""Entry point of `python -m avs`."""

from avs.cli import main

main()
