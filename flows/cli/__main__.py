"""`python -m flows.cli`: the `gpt` command."""

from flows.cli.app import main

main()
