"""The command `stagetransfer`: one file per subcommand, `train` among them."""
