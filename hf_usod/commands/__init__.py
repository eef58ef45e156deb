"""The subcommands of `hf-usod`, one module each: `add_parser(commands)` says how it is called, `run(args)` does it and
returns the exit status. Heavy imports stay inside `run`: at import a command takes the standard library, `constants`,
`errors` and, for `train`, the plan, so that help and the message for a wrong argument come at once."""
