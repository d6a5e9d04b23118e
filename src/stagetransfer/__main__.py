"""`python -m stagetransfer` is the command `stagetransfer`."""

from stagetransfer.cli.app import main

if __name__ == "__main__":
    main()
