"""`python -m stagetransfer`: the installed command."""

from stagetransfer.cli import main

main()
