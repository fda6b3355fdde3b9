"""The command line: flags to options, to what is done, to printed lines.

One file per command, named as it is typed, in folders that mirror the groups: `network/`, `vm/`, `ips/`,
`completion/`. `app` has the table of all commands with their one line of help, and `group.LazyGroup` imports a
command's file when the command is chosen. A file declares its flags as a frozen dataclass (`options`); the run function
takes it with a `session.Session`, gives a planner to `apply.execute`, and prints the result.

Rules: importing a command's file costs little, since its --help and TAB completion do so: planners, backends and the
API client are imported inside the functions that run. Shared modules that only those functions import (`inventory`,
`vm_args`, `watch`, `installation`) have their imports at the top. The folders do not import each other; what two of
them need stands here.
"""
