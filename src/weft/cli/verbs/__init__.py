"""The verbs of the `weft` command, one file each; `weft.cli.main` says how to add one."""
