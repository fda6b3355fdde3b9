"""How results are printed, as kubectl does it.

`format_option` parses the value of -o; `formats` prints lists and objects as tables, JSON, YAML, names, JSONPath or
custom columns. `tables` writes tables as their rows arrive; `plan_printer` prints plans and their differences,
`progress` the progress line on a terminal while a command runs. `escaping` wraps stdout and stderr, so that no terminal
interprets a control character from the cluster. `jsonpath` implements kubectl's templates, as no library does. Help
imports only `format_option` and `escaping`; PyYAML and JSONPath are imported when a format needs them.
"""
