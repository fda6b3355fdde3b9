"""Find out what is wrong with networks, addresses and VMs, and what repairs it; nothing here writes or reads by itself.

`Facts` is what was read, `Rule` a named check with a stable code, `Finding` what a rule reports, `Diagnosis` the result
of all rules. A rule is a pure function from Facts to observations: rules/ has a module for each family. What a rule
needs and cannot read it requests from Facts all the same, which raises CannotCheckError: the rule is then listed as
unchecked and never counts as passed.
"""
