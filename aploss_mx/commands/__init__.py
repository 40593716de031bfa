"""The commands of `aploss-mx`: a module each, whose `main` takes the command line; `scripts` calls the same."""
