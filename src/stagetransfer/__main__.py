"""`python -m stagetransfer`: the installed command."""

from stagetransfer.cli.app import main

main()
