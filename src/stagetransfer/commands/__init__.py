"""The subcommands of `stagetransfer`, a file each; heavy imports wait until one is called."""
