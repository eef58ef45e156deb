"""The subcommands of `hf-usod`, one module each: `add_parser(commands)` says how it is called, `run(args)` does it and
returns the exit status. Heavy imports stay inside `run`, so that `--help` is quick."""
